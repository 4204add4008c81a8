//! Out of memory: in every kind of call each allocation of the process fails in turn, alone or
//! together with all later ones (`tests/memory/torture.c` under `tests/memory/shortage.c`); and a
//! limit of memory moves down and up under a load of 64 calls (`tests/memory/load.c`). The same
//! allocations fail over and over in one process (`tests/memory/rounds.c`).
//!
//! `cargo test` tries a sample of the allocations of each kind. To try all, for some four hours on two cores,
//! or only those of the kinds whose name contains a text:
//!
//!     GREENAPI_TEST_MEMORY=all cargo test --test memory -- --nocapture
//!     GREENAPI_TEST_MEMORY='all:queue, session' cargo test --test memory -- --nocapture
//!
//! The load for a minute instead of four seconds:
//!
//!     GREENAPI_TEST_MEMORY=load cargo test --test memory under_load -- --nocapture
#![cfg(all(target_os = "linux", target_env = "gnu"))]

mod support;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::num::NonZero;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use greenapi_standin::{Config, Endpoints, Fault, Rule, Stage, Standin, Target, Then};
use support::{compile, compile_statically, is_left_out, root, run, scratch, tool};

const FIRST: i64 = 5_000_000_000;

/// How many allocations of each kind of call and mode `cargo test` tries.
const SAMPLE: usize = 3;

const OK: i32 = 0;
const OUT_OF_RESOURCES: i32 = 24;
const INTERNAL: i32 = 40;

/// A kind of call.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The shape that torture.c runs.
    shape: &'static str,
    /// With the static library. Only warm, because memory must not run out while a thread of the
    /// library starts.
    is_static: bool,
    url: fn(&Endpoints) -> String,
    options: &'static [(&'static str, Value)],
    state: &'static str,
    fault: Option<fn() -> Fault>,
}

#[derive(Clone, Copy)]
enum Value {
    Is(&'static str),
    Of(fn(&Endpoints) -> String),
    /// The path of a new file in the worker's directory.
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
/// A host name that the system's resolver has to look up and that does not exist.
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

impl Kind {
    /// How many instances the account has: at least as many as the program deletes, but not many
    /// more, because reading the list makes allocations for each instance.
    fn instances(&self) -> u32 {
        match self.shape {
            "bulk" | "list" => 50,
            "queue" => 25,
            _ => 8,
        }
    }
}

const PLAIN: Kind = Kind {
    name: "",
    shape: "client",
    is_static: false,
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
        // Without these options a look-up takes many seconds if no name server answers.
        options: &[("RES_OPTIONS", Is("timeout:1 attempts:1"))],
        ..PLAIN
    },
    Kind {
        name: "static library: client",
        url: https,
        options: TLS,
        is_static: true,
        ..PLAIN
    },
    Kind {
        name: "static library: bulk",
        shape: "bulk",
        is_static: true,
        ..PLAIN
    },
    Kind {
        name: "static library: queue",
        shape: "queue",
        url: https,
        options: TLS,
        is_static: true,
        ..PLAIN
    },
];

struct Programs {
    torture: PathBuf,
    torture_static: PathBuf,
    load: PathBuf,
    rounds: PathBuf,
    large: PathBuf,
    shortage: PathBuf,
}

fn programs() -> &'static Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = root().join("tests/memory");
        let shortage = scratch("programs").join("shortage.so");
        run(Command::new(tool("cc"))
            .args([
                "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
            ])
            // Without this the compiler turns malloc and memset into calloc, which then calls
            // itself.
            .args(["-fno-builtin", "-D_GNU_SOURCE", "-o"])
            .arg(&shortage)
            .arg(folder.join("shortage.c")));
        Programs {
            torture: compile(&folder.join("torture.c"), &[]),
            torture_static: compile_statically(&folder.join("torture.c")),
            load: compile(&folder.join("load.c"), &[]),
            rounds: compile(&folder.join("rounds.c"), &[]),
            large: compile(&folder.join("large.c"), &[]),
            shortage,
        }
    })
}

/// Which kinds are tried at all their allocations: those whose name contains this text, and no
/// others. `None`: all kinds, at a sample of their allocations.
fn whole() -> Option<String> {
    let chosen = env::var("GREENAPI_TEST_MEMORY").ok()?;
    if chosen == LOAD {
        return None;
    }
    let (all, name) = chosen.split_once(':').unwrap_or((&chosen, ""));
    assert_eq!(all, "all", "GREENAPI_TEST_MEMORY is all, all:NAME or load");
    Some(name.trim().to_owned())
}

const LOAD: &str = "load";

fn load_is_long() -> bool {
    env::var("GREENAPI_TEST_MEMORY").is_ok_and(|chosen| chosen == LOAD)
}

fn chosen_kinds() -> Vec<Kind> {
    let text = whole().unwrap_or_default();
    let mut kinds = KINDS.to_vec();
    kinds.retain(|kind| kind.name.contains(&text));
    let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    assert!(
        !kinds.is_empty(),
        "no kind's name contains {text:?}; the kinds are:\n{}",
        names.join("\n")
    );
    kinds
}

/// The results that the program printed, and what was wrong with them.
#[derive(Default)]
struct Said {
    seen: usize,
    /// How often each status was reported while memory was short.
    statuses: BTreeMap<i32, usize>,
    wrong: Option<(Wrong, String)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    /// A signal ended the process.
    Aborted,
    Hung,
    /// The library printed, reported a result that the ledger contradicts, or did not work once
    /// there was memory again.
    Lied,
}

struct Worker {
    number: usize,
    standin: Standin,
}

impl Worker {
    /// Runs the program once. `number`: the allocation that fails; 0 = none.
    fn run(&self, kind: Kind, warm: bool, number: usize, all: bool) -> Said {
        // Each run has its own ids, because requests of an earlier run may still arrive.
        static FIRST_ID: AtomicI64 = AtomicI64::new(FIRST);
        let first = FIRST_ID.fetch_add(100, Ordering::Relaxed);
        self.standin.reset();
        self.standin.clear_instances();
        let count = kind.instances();
        self.standin.fill(first, count, Some(kind.state));
        self.standin.set(|settings| settings.rate_interval_ms = 0);
        if let Some(fault) = kind.fault {
            self.standin
                .add_faults((0..i64::from(count)).map(|index| Rule {
                    method: Target::Delete,
                    id: Some(first + index),
                    times: Some(1),
                    fault: fault(),
                    ..Rule::default()
                }));
        }
        let output = self
            .command(kind)
            .arg(kind.shape)
            .arg(if warm { "warm" } else { "cold" })
            .arg(number.to_string())
            .arg(if all { "all" } else { "alone" })
            .arg(first.to_string())
            .output()
            .expect("the program starts");
        let mut said = Said::default();
        if let Err(wrong) = self.judge(kind, &output, &mut said) {
            said.wrong = Some(wrong);
        }
        said
    }

    fn command(&self, kind: Kind) -> Command {
        let endpoints = self.standin.endpoints();
        let mut command = Command::new(match kind.is_static {
            true => &programs().torture_static,
            false => &programs().torture,
        });
        command
            .env("LD_PRELOAD", &programs().shortage)
            .env("GREENAPI_URL", (kind.url)(endpoints))
            .env("GREENAPI_TOKEN", &endpoints.token)
            .stdin(Stdio::null());
        for (name, value) in kind.options {
            let value = match value {
                Is(value) => (*value).to_owned(),
                Of(value) => value(endpoints),
                NewFile(name) => {
                    let file = scratch("memory").join(format!("{name}-{}", self.number));
                    let _ = fs::remove_file(&file);
                    file.display().to_string()
                }
            };
            command.env(name, value);
        }
        command
    }

    fn judge(&self, kind: Kind, output: &Output, said: &mut Said) -> Result<(), (Wrong, String)> {
        let printed = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || !complained.is_empty() {
            let how = match output.status.signal() {
                Some(libc::SIGALRM) => Wrong::Hung,
                Some(_) => Wrong::Aborted,
                None => Wrong::Lied,
            };
            return Err((how, format!("{}: {complained}{printed}", output.status)));
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
            let unsaid = !["one_call", "refused"].contains(&kind.shape)
                && attempts == 0
                && requests.get(&id).is_some_and(|seen| seen.received > 0);
            let late = words[0] == "after" && !(0..=1).contains(&status) && kind.shape != "unknown";
            if contradiction || unsaid || late {
                let ledger = format!("{line}: the ledger says {:?}", requests.get(&id));
                return Err((Wrong::Lied, ledger));
            }
            if words[0] == "during" {
                *said.statuses.entry(status).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Which of `count` allocations are tried.
fn points(count: usize) -> impl Iterator<Item = usize> {
    let step = match whole() {
        Some(_) => 1,
        None => count.div_ceil(SAMPLE).max(1),
    };
    // Counted from the end, because the last allocations of a call are made by the code under test.
    (1..=count).rev().step_by(step)
}

/// A kind of call, cold or warm.
struct Row {
    kind: Kind,
    warm: bool,
    /// How many allocations the call makes when none fails, and how long it then takes.
    seen: usize,
    length: Duration,
    found: Mutex<Found>,
}

/// The results of all runs of a row.
#[derive(Default)]
struct Found {
    runs_left: usize,
    /// One allocation fails alone; it fails with all later ones.
    modes: [Mode; 2],
}

#[derive(Default)]
struct Mode {
    points: usize,
    statuses: BTreeMap<i32, usize>,
    wrong: Vec<(Wrong, String)>,
}

impl Row {
    fn name(&self) -> String {
        let warm = if self.warm { ", warm" } else { "" };
        format!("{}{warm}", self.kind.name)
    }

    fn note(&self, number: usize, all: bool, said: Said) {
        let mut found = self.found.lock().unwrap();
        let mode = &mut found.modes[usize::from(all)];
        mode.points += 1;
        for (status, count) in said.statuses {
            *mode.statuses.entry(status).or_default() += count;
        }
        if let Some((how, problem)) = said.wrong {
            let rest = if all { "and all that follow" } else { "alone" };
            let name = self.name();
            mode.wrong.push((
                how,
                format!("{name}, allocation {number} {rest}: {problem}"),
            ));
        }
        found.runs_left -= 1;
        if found.runs_left == 0 {
            println!("{:<34} {:>6} |{}", self.name(), self.seen, found.as_text());
        }
    }
}

const TITLE: &str = "kind, allocations | each alone: points, aborts, hangs, wrong, how often each status | each with all that follow";

impl Found {
    fn as_text(&self) -> String {
        let mut text = String::new();
        for mode in &self.modes {
            let count = |how| mode.wrong.iter().filter(|(wrong, _)| *wrong == how).count();
            let [aborted, hung, lied] = [Wrong::Aborted, Wrong::Hung, Wrong::Lied].map(count);
            let statuses = format!("{:?}", mode.statuses);
            let _ = write!(
                text,
                " {:>5} {aborted:>3} {hung:>3} {lied:>3} {statuses:<40} |",
                mode.points
            );
        }
        text
    }
}

/// Runs `job` for each of `jobs`, each thread with its own stand-in.
fn in_parallel<T: Sync>(jobs: &[T], job: impl Fn(&T, &Worker) + Sync) {
    // More threads than cores, because the programs mostly wait: a policy that logs out waits two
    // seconds in each call.
    let workers = 8 * thread::available_parallelism().map_or(2, NonZero::get);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for number in 0..workers {
            let (next, job) = (&next, &job);
            scope.spawn(move || {
                let standin = Standin::start(Config::default()).expect("the stand-in starts");
                let worker = Worker { number, standin };
                while let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job(one, &worker);
                }
            });
        }
    });
}

#[test]
fn no_allocation_that_fails_ends_the_host() {
    if is_left_out("c") {
        return;
    }
    programs();
    let cases: Vec<(Kind, bool)> = chosen_kinds()
        .into_iter()
        .flat_map(|kind| [(kind, false), (kind, true)])
        .filter(|(kind, warm)| *warm || !kind.is_static)
        .collect();
    let rows = Mutex::new(Vec::new());
    in_parallel(&cases, |(kind, warm), worker| {
        let begun = Instant::now();
        let said = worker.run(*kind, *warm, 0, false);
        let row = Row {
            kind: *kind,
            warm: *warm,
            seen: said.seen,
            length: begun.elapsed(),
            found: Mutex::default(),
        };
        if let Some((_, problem)) = said.wrong {
            panic!("{}, undisturbed: {problem}", row.name());
        }
        rows.lock().unwrap().push(row);
    });

    // The longest rows first, so that all threads end at about the same time.
    let mut rows = rows.into_inner().unwrap();
    rows.sort_by_key(|row| Reverse(row.length));
    let mut jobs = Vec::new();
    for row in &rows {
        for all in [false, true] {
            jobs.extend(points(row.seen).map(|number| (row, number, all)));
        }
        row.found.lock().unwrap().runs_left = 2 * points(row.seen).count();
    }
    println!("{TITLE}");
    in_parallel(&jobs, |(row, number, all), worker| {
        let said = worker.run(row.kind, row.warm, *number, *all);
        row.note(*number, *all, said);
    });
    let mut wrong = Vec::new();
    for row in rows {
        let modes = row.found.into_inner().unwrap().modes;
        wrong.extend(modes.into_iter().flat_map(|mode| mode.wrong));
    }
    let wrong: Vec<String> = wrong.into_iter().map(|(_, problem)| problem).collect();
    assert!(
        wrong.is_empty(),
        "{} points:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Runs load.c under one limit and compares its results with the ledger.
fn load(limit: &str) {
    let (seconds, count) = match load_is_long() {
        true => (60, 600_000),
        false => (4, 60_000),
    };
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    // The program may use more ids: the API then answers that it knows no such instance.
    standin.fill(FIRST, count, Some("notAuthorized"));
    let endpoints = standin.endpoints();
    let mut command = Command::new(&programs().load);
    if limit == "live" {
        command.env("LD_PRELOAD", &programs().shortage);
    }
    let output = run(command
        .args([limit, &seconds.to_string(), &FIRST.to_string()])
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_HTTPS_URL", &endpoints.https)
        .env("GREENAPI_CA_FILE", &endpoints.ca_file)
        .env("GREENAPI_TOKEN", &endpoints.token));
    assert!(output.stderr.is_empty(), "{output:?}");

    let deleted: BTreeSet<i64> = standin.ledger().iter().map(|row| row.id).collect();
    let printed = String::from_utf8(output.stdout).expect("text");
    let (shortages, results) = printed.split_once('\n').expect("lines");
    let mut statuses: BTreeMap<i32, usize> = BTreeMap::new();
    for line in results.lines() {
        let (id, status) = line.split_once(' ').expect("an id and a status");
        let (id, status) = (
            id.parse().expect("an id"),
            status.parse().expect("a status"),
        );
        *statuses.entry(status).or_default() += 1;
        let contradiction = match status {
            0..=9 => !deleted.contains(&id),
            10..=29 => deleted.contains(&id),
            _ => !(30..40).contains(&status),
        };
        assert!(
            !contradiction,
            "limit of {limit}: id {id} ended in {status}, which is wrong"
        );
    }
    println!("limit of {limit}: {shortages}, results {statuses:?}");
    for status in [OK, OUT_OF_RESOURCES] {
        assert!(statuses.contains_key(&status), "{limit}: {statuses:?}");
    }
}

#[test]
fn calls_under_load_survive_a_limit_of_memory() {
    if is_left_out("c") {
        return;
    }
    thread::scope(|scope| {
        for limit in ["live", "space", "data"] {
            scope.spawn(move || load(limit));
        }
    });
}

#[test]
fn shortages_that_recur_leave_no_memory_behind() {
    if is_left_out("c") {
        return;
    }
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    let endpoints = standin.endpoints();
    let cases = [
        ("client", &endpoints.https),
        ("thread", &endpoints.http),
        ("queue", &endpoints.https),
        ("bulk", &endpoints.http),
    ];
    thread::scope(|scope| {
        for (shape, url) in cases {
            scope.spawn(move || {
                run(Command::new(&programs().rounds)
                    .args([shape, "2"])
                    .env("LD_PRELOAD", &programs().shortage)
                    .env("GREENAPI_URL", url)
                    .env("GREENAPI_CA_FILE", &endpoints.ca_file)
                    .env("GREENAPI_TOKEN", &endpoints.token));
            });
        }
    });
}

/// A journal in which a deletion of each id has begun.
fn journal_of(ids: std::ops::Range<i64>, address: &str, path: &PathBuf) {
    let line = |content: String| {
        let sum = support::journal::crc32(content.as_bytes());
        format!("{content} {sum:08x}\n")
    };
    let header = line(format!("greenapi-journal 1 {address}"));
    let begun = ids.map(|id| line(format!("2026-01-01T00:00:00.000Z begin {id}")));
    fs::write(path, header + &begun.collect::<String>()).expect("the journal is written");
}

/// No block of the library's reserve can replace a large allocation, so none may be needed without
/// being able to fail, however large the account is.
#[test]
fn no_large_allocation_that_fails_ends_the_host() {
    if is_left_out("c") {
        return;
    }
    let journal = scratch("memory").join("of-many-ids");
    let cases = [
        ("list", 5_000, None),
        ("states", 2_500, None),
        ("session", 30_000, Some(("GREENAPI_SESSION", "1".into()))),
        (
            "journal",
            30_000,
            Some(("GREENAPI_JOURNAL", journal.display().to_string())),
        ),
        ("bulk", 100_000, None),
    ];
    let try_one = |(shape, count, option): &(&str, u32, Option<(&str, String)>)| {
        let standin = Standin::start(Config::default()).expect("the stand-in starts");
        let endpoints = standin.endpoints();
        let last = FIRST + i64::from(*count);
        let run_one = |number: usize, how: &str| {
            standin.reset();
            standin.clear_instances();
            match *shape {
                "journal" => journal_of(FIRST..last, &endpoints.http, &journal),
                "bulk" => {}
                _ => standin.fill(FIRST, *count, Some("notAuthorized")),
            }
            standin.set(|settings| settings.rate_interval_ms = 0);
            // The answers to the other questions wait for this one.
            standin.add_faults([Rule {
                method: Target::State,
                id: Some(FIRST),
                fault: Fault {
                    delay_ms: 500,
                    ..Fault::default()
                },
                ..Rule::default()
            }]);
            let output = Command::new(&programs().large)
                .args([*shape, &count.to_string(), &number.to_string(), how])
                .arg(FIRST.to_string())
                .env("LD_PRELOAD", &programs().shortage)
                .env("GREENAPI_URL", &endpoints.http)
                .env("GREENAPI_TOKEN", &endpoints.token)
                .envs(option.clone())
                .output()
                .expect("the program starts");
            let seen = String::from_utf8_lossy(&output.stdout).trim().parse();
            match seen {
                Ok(seen) if output.status.success() && output.stderr.is_empty() => seen,
                _ => panic!("{shape}, large allocation {number} {how}: {output:?}"),
            }
        };
        let seen: usize = run_one(0, "alone");
        println!("{shape}: {seen} large allocations");
        for number in 1..=seen {
            run_one(number, "alone");
        }
        // How many there are may depend on which thread is the faster.
        for number in 1..=seen.max(1) {
            run_one(number, "all");
        }
    };
    thread::scope(|scope| {
        for case in &cases {
            scope.spawn(move || try_one(case));
        }
    });
}

/// Only the library's allocations fail: Python itself ends when its own do.
const IN_PYTHON: &str = "
import ctypes, os, greenapi
shortage = ctypes.CDLL(None)
library = ctypes.CDLL(os.environ['GREENAPI_LIBRARY'])
client = greenapi.Client(os.environ['GREENAPI_URL'], os.environ['GREENAPI_TOKEN'])
shortage.shortage_only_in(ctypes.cast(library.greenapi_version, ctypes.c_void_p))
id, refused = 5000000000, 0
def call():
    global id
    id += 1
    client.delete_instance(id - 1)
    print(id - 1)
for number in range(1, 11):
    shortage.shortage_begin(ctypes.c_long(number), True)
    try:
        call()
    except greenapi.OutOfResources:
        refused += 1
    finally:
        shortage.shortage_end()
    call()
assert refused > 0
";

/// The ids that the program reports as deleted must be those in the ledger.
fn agrees_with_the_ledger(command: &mut Command) {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, 50, None);
    let endpoints = standin.endpoints();
    let output = run(command
        .env("LD_PRELOAD", &programs().shortage)
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token));
    let said: Vec<i64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.parse().expect("an id"))
        .collect();
    let deleted: Vec<i64> = standin.ledger().iter().map(|row| row.id).collect();
    assert_eq!(said, deleted);
}

#[test]
fn python_gets_a_status_as_any_other() {
    if !is_left_out("c") && !is_left_out("python") {
        agrees_with_the_ledger(support::python_command().args(["-c", IN_PYTHON]));
    }
}

#[test]
fn go_gets_a_status_as_any_other() {
    if is_left_out("c") || is_left_out("go") {
        return;
    }
    let program = scratch("programs").join("memory-go");
    run(support::go_command(&root().join("tests/memory/go"))
        .args(["build", "-o"])
        .arg(&program)
        .arg("."));
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", support::installed().join("lib"));
    agrees_with_the_ledger(&mut command);
}
