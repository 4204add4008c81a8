//! Memory that runs out: every allocation of a process refused in turn, alone and with all that
//! follow, in every kind of call (`tests/memory/torture.c` under `tests/memory/shortage.c`).
//!
//! A run of all tests tries some points of each kind. All of them, for half an hour or so:
//!
//!     GREENAPI_TEST_MEMORY=all cargo test --test memory -- --nocapture
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::thread;

use greenapi_standin::{Config, Endpoints, Fault, Rule, Stage, Standin, Target, Then};
use support::{compile, is_left_out, root, run, scratch, tool};

const FIRST: i64 = 5_000_000_000;

/// More ids than a program of the torture uses.
const IDS: u32 = 100;

/// Points of each kind of call and mode in a run of all tests.
const SAMPLE: usize = 3;

const INTERNAL: i32 = 40;

/// A kind of call.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// Which of the program's ways to call.
    shape: &'static str,
    url: fn(&Endpoints) -> String,
    options: &'static [(&'static str, Value)],
    state: &'static str,
    fault: Option<fn() -> Fault>,
}

#[derive(Clone, Copy)]
enum Value {
    Is(&'static str),
    Of(fn(&Endpoints) -> String),
    /// A file of the worker's own that does not exist yet.
    NewFile(&'static str),
}
use Value::{Is, NewFile, Of};

fn http(endpoints: &Endpoints) -> String {
    endpoints.http.clone()
}
fn https(endpoints: &Endpoints) -> String {
    endpoints.https.clone()
}
fn https_h1(endpoints: &Endpoints) -> String {
    endpoints.https_h1.clone()
}
fn ca_file(endpoints: &Endpoints) -> String {
    endpoints.ca_file.display().to_string()
}
fn ca_pem(endpoints: &Endpoints) -> String {
    fs::read_to_string(&endpoints.ca_file).expect("the stand-in has an authority")
}
fn proxy_http(endpoints: &Endpoints) -> String {
    endpoints.proxy_http.clone()
}
fn proxy_https(endpoints: &Endpoints) -> String {
    endpoints.proxy_https.clone()
}
fn proxy_socks5(endpoints: &Endpoints) -> String {
    endpoints.proxy_socks5.clone()
}
/// A name that the system's resolver has to look up; nobody listens there.
fn unknown_name(_: &Endpoints) -> String {
    "https://greenapi.invalid".into()
}

fn bad_gateway() -> Fault {
    Fault {
        status: Some(502),
        act: Some(true),
        ..Fault::default()
    }
}
fn lost() -> Fault {
    Fault {
        stage: Some(Stage::Acted),
        then: Some(Then::Reset),
        ..Fault::default()
    }
}

const PLAIN: Kind = Kind {
    name: "",
    shape: "client",
    url: http,
    options: &[],
    state: "notAuthorized",
    fault: None,
};
const TLS: &[(&str, Value)] = &[("GREENAPI_CA_FILE", Of(ca_file))];

const KINDS: &[Kind] = &[
    Kind {
        name: "one call",
        shape: "one_call",
        ..PLAIN
    },
    Kind {
        name: "one call, TLS",
        shape: "one_call",
        url: https_h1,
        options: &[("SSL_CERT_FILE", Of(ca_file))],
        ..PLAIN
    },
    Kind {
        name: "one call, HTTP/2",
        shape: "one_call",
        url: https,
        options: &[("SSL_CERT_FILE", Of(ca_file))],
        ..PLAIN
    },
    Kind {
        name: "client",
        ..PLAIN
    },
    Kind {
        name: "client, TLS",
        url: https_h1,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "client, HTTP/2",
        url: https,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "client, ca_pem",
        url: https,
        options: &[("GREENAPI_CA_PEM", Of(ca_pem))],
        ..PLAIN
    },
    Kind {
        name: "client, user_agent and pace",
        options: &[
            ("GREENAPI_USER_AGENT", Is("fleet/1.0")),
            ("GREENAPI_REQUESTS_PER_SECOND", Is("500")),
        ],
        ..PLAIN
    },
    Kind {
        name: "client, HTTP proxy",
        options: &[("GREENAPI_PROXY", Of(proxy_http))],
        ..PLAIN
    },
    Kind {
        name: "client, HTTP proxy to TLS",
        url: https,
        options: &[
            ("GREENAPI_PROXY", Of(proxy_http)),
            ("GREENAPI_CA_FILE", Of(ca_file)),
        ],
        ..PLAIN
    },
    Kind {
        name: "client, HTTPS proxy",
        url: https,
        options: &[
            ("GREENAPI_PROXY", Of(proxy_https)),
            ("GREENAPI_CA_FILE", Of(ca_file)),
        ],
        ..PLAIN
    },
    Kind {
        name: "client, SOCKS5 proxy",
        url: https_h1,
        options: &[
            ("GREENAPI_PROXY", Of(proxy_socks5)),
            ("GREENAPI_CA_FILE", Of(ca_file)),
        ],
        ..PLAIN
    },
    Kind {
        name: "session: require logged out",
        options: &[("GREENAPI_SESSION", Is("1"))],
        ..PLAIN
    },
    Kind {
        name: "session: log out",
        options: &[("GREENAPI_SESSION", Is("2"))],
        state: "authorized",
        ..PLAIN
    },
    Kind {
        name: "session: log out, TLS",
        url: https,
        options: &[
            ("GREENAPI_SESSION", Is("2")),
            ("GREENAPI_CA_FILE", Of(ca_file)),
        ],
        state: "authorized",
        ..PLAIN
    },
    Kind {
        name: "session: try to log out",
        options: &[("GREENAPI_SESSION", Is("3"))],
        state: "authorized",
        ..PLAIN
    },
    Kind {
        name: "journal",
        options: &[("GREENAPI_JOURNAL", NewFile("client"))],
        ..PLAIN
    },
    Kind {
        name: "journal, bulk",
        shape: "bulk",
        options: &[("GREENAPI_JOURNAL", NewFile("bulk"))],
        ..PLAIN
    },
    Kind {
        name: "list",
        shape: "list",
        ..PLAIN
    },
    Kind {
        name: "list with states, TLS",
        shape: "states",
        url: https,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "retries after 502",
        fault: Some(bad_gateway),
        ..PLAIN
    },
    Kind {
        name: "retries after a lost answer",
        fault: Some(lost),
        ..PLAIN
    },
    Kind {
        name: "retries over HTTP/2",
        url: https,
        options: TLS,
        fault: Some(lost),
        ..PLAIN
    },
    Kind {
        name: "bulk",
        shape: "bulk",
        ..PLAIN
    },
    Kind {
        name: "bulk, HTTP/2",
        shape: "bulk",
        url: https,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "bulk, max_in_flight 2",
        shape: "bulk",
        options: &[("GREENAPI_MAX_IN_FLIGHT", Is("2"))],
        ..PLAIN
    },
    Kind {
        name: "queue",
        shape: "queue",
        ..PLAIN
    },
    Kind {
        name: "queue, HTTP/2",
        shape: "queue",
        url: https,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "queue, session",
        shape: "queue",
        options: &[("GREENAPI_SESSION", Is("2"))],
        state: "authorized",
        ..PLAIN
    },
    Kind {
        name: "freed under way",
        shape: "freed",
        ..PLAIN
    },
    Kind {
        name: "fork child",
        shape: "child",
        ..PLAIN
    },
    Kind {
        name: "fork child, HTTP/2",
        shape: "child",
        url: https,
        options: TLS,
        ..PLAIN
    },
    Kind {
        name: "a thread of its own",
        shape: "thread",
        ..PLAIN
    },
    Kind {
        name: "refused arguments",
        shape: "refused",
        ..PLAIN
    },
    Kind {
        name: "a name that is unknown",
        shape: "unknown",
        url: unknown_name,
        ..PLAIN
    },
];

struct Programs {
    torture: PathBuf,
    shortage: PathBuf,
}

fn programs() -> Programs {
    let folder = root().join("tests/memory");
    let shortage = scratch("programs").join("shortage.so");
    run(Command::new(tool("cc"))
        .args([
            "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
        ])
        // The compiler must not turn malloc and memset into calloc, which would call itself.
        .args(["-fno-builtin", "-D_GNU_SOURCE", "-o"])
        .arg(&shortage)
        .arg(folder.join("shortage.c")));
    Programs {
        torture: compile(&folder.join("torture.c"), &[]),
        shortage,
    }
}

/// One run of the program.
struct Run<'a> {
    programs: &'a Programs,
    standin: &'a Standin,
    worker: usize,
    kind: Kind,
    warm: bool,
    /// Which allocation is refused; 0 = none.
    number: usize,
    all: bool,
}

/// What the program said, and what was wrong with it.
#[derive(Default)]
struct Said {
    seen: usize,
    /// How often each status was said while memory was short.
    statuses: BTreeMap<i32, usize>,
    wrong: Option<String>,
}

impl Run<'_> {
    fn run(&self) -> Said {
        self.standin.reset();
        self.standin.clear_instances();
        self.standin.fill(FIRST, IDS, Some(self.kind.state));
        self.standin.set(|settings| settings.rate_interval_ms = 0);
        if let Some(fault) = self.kind.fault {
            self.standin
                .add_faults((0..i64::from(IDS)).map(|index| Rule {
                    method: Target::Delete,
                    id: Some(FIRST + index),
                    times: Some(1),
                    fault: fault(),
                    ..Rule::default()
                }));
        }
        let endpoints = self.standin.endpoints();
        let mut command = Command::new(&self.programs.torture);
        command
            .arg(self.kind.shape)
            .arg(if self.warm { "warm" } else { "cold" })
            .arg(self.number.to_string())
            .arg(if self.all { "all" } else { "alone" })
            .arg(FIRST.to_string())
            .env("LD_PRELOAD", &self.programs.shortage)
            .env("GREENAPI_URL", (self.kind.url)(endpoints))
            .env("GREENAPI_TOKEN", &endpoints.token)
            .stdin(Stdio::null());
        for (name, value) in self.kind.options {
            let value = match value {
                Is(value) => (*value).to_owned(),
                Of(value) => value(endpoints),
                NewFile(name) => {
                    let file = scratch("memory").join(format!("{name}-{}", self.worker));
                    let _ = fs::remove_file(&file);
                    file.display().to_string()
                }
            };
            command.env(name, value);
        }
        let output = command.output().expect("the program starts");
        let mut said = Said::default();
        if let Err(wrong) = self.judge(&output, &mut said) {
            said.wrong = Some(wrong);
        }
        said
    }

    fn judge(&self, output: &Output, said: &mut Said) -> Result<(), String> {
        let printed = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !complained.is_empty() {
            return Err(format!("{}: {complained}{printed}", output.status));
        }
        let deleted: BTreeSet<i64> = self.standin.ledger().iter().map(|row| row.id).collect();
        let requests = self.standin.requests();
        for line in printed.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse::<i64>().expect("a number");
            if words[0] == "seen" {
                said.seen = number(1) as usize;
                continue;
            }
            let (id, status, attempts) = (number(1), number(2) as i32, number(3));
            let contradiction = match status {
                0..=9 => !deleted.contains(&id),
                10..=29 => deleted.contains(&id),
                _ => status == INTERNAL,
            };
            let unsaid = !["one_call", "refused"].contains(&self.kind.shape)
                && attempts == 0
                && requests.get(&id).is_some_and(|seen| seen.received > 0);
            let late =
                words[0] == "after" && !(0..=1).contains(&status) && self.kind.shape != "unknown";
            if contradiction || unsaid || late {
                return Err(format!("{line}: the ledger says {:?}", requests.get(&id)));
            }
            if words[0] == "during" {
                *said.statuses.entry(status).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Which points are tried of so many.
fn points(count: usize, all: bool) -> Vec<usize> {
    let step = match all {
        true => 1,
        false => count.div_ceil(SAMPLE).max(1),
    };
    // Counted from the end: what comes last is the newest code of a call's way.
    (1..=count).rev().step_by(step).collect()
}

fn row(
    programs: &Programs,
    standin: &Standin,
    worker: usize,
    kind: Kind,
    warm: bool,
    whole: bool,
) -> (String, Vec<String>) {
    let run = |number, all| {
        Run {
            programs,
            standin,
            worker,
            kind,
            warm,
            number,
            all,
        }
        .run()
    };
    let name = format!("{}{}", kind.name, if warm { ", warm" } else { "" });
    let undisturbed = run(0, false);
    let mut wrong: Vec<String> = Vec::new();
    if let Some(problem) = undisturbed.wrong {
        return (
            String::new(),
            vec![format!("{name}, undisturbed: {problem}")],
        );
    }
    let mut line = format!("{name:<32} {:>6}", undisturbed.seen);
    for all in [false, true] {
        let points = points(undisturbed.seen, whole);
        let mut statuses: BTreeMap<i32, usize> = BTreeMap::new();
        let mut failed = 0;
        for number in &points {
            let said = run(*number, all);
            for (status, count) in said.statuses {
                *statuses.entry(status).or_default() += count;
            }
            if let Some(problem) = said.wrong {
                failed += 1;
                let mode = if all { "and all that follow" } else { "alone" };
                wrong.push(format!("{name}, allocation {number} {mode}: {problem}"));
            }
        }
        let _ = write!(
            line,
            " | {:>5} points, {failed} wrong, {statuses:?}",
            points.len()
        );
    }
    (line, wrong)
}

#[test]
fn no_allocation_that_fails_ends_the_host() {
    if is_left_out("c") {
        return;
    }
    let whole = std::env::var("GREENAPI_TEST_MEMORY").is_ok_and(|value| value == "all");
    let programs = programs();
    let rows: Vec<(Kind, bool)> = KINDS
        .iter()
        .flat_map(|kind| [(*kind, false), (*kind, true)])
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        // They wait more than they work: a session policy asks once a second.
        for worker in 0..4 {
            let (programs, rows, next, wrong) = (&programs, &rows, &next, &wrong);
            scope.spawn(move || {
                let standin = Standin::start(Config::default()).expect("the stand-in starts");
                while let Some((kind, warm)) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (line, mut found) = row(programs, &standin, worker, *kind, *warm, whole);
                    println!("{line}");
                    wrong.lock().unwrap().append(&mut found);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} points:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
