//! The list of instances through the C interface.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use greenapi_standin::{Config, Fault, Instance, Rule, Standin, Target, Then, Until};
use support::abi::{options, Client, List, Queue, RawInstance, RawOptions};
use support::requests;

fn standin() -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.clear_instances();
    standin
}

fn client(standin: &Standin, change: impl FnOnce(&mut RawOptions)) -> Client {
    let mut options = options();
    change(&mut options);
    let endpoints = standin.endpoints();
    Client::new(&endpoints.http, &endpoints.token, Some(&options)).expect("a client")
}

#[test]
fn every_field_and_the_end() {
    let standin = standin();
    standin.put_instances([
        Instance {
            name: "Ünïcode\n🦀".into(),
            ..Instance::new(1, "authorized")
        },
        Instance {
            deleted: true,
            time_deleted: Some("2999-06-12T15:43:31".into()),
            type_instance: "telegram".into(),
            ..Instance::new(2, "authorized")
        },
        Instance {
            expired: true,
            is_free: true,
            is_partner: false,
            tariff: "DEVELOPER".into(),
            ..Instance::new(3, "authorized")
        },
    ]);
    let client = client(&standin, |_| {});
    for (flags, states) in [(0, [0, 0, 0]), (1, [2, 0, 9])] {
        let list = List::of(&client, flags).expect("a list");
        let (all, end) = list.all();
        assert_eq!((end.status, end.id, end.tag), (0, 0, 0), "{end:?}");
        assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all.iter().map(|one| one.state).collect::<Vec<_>>(), states);
        assert_eq!(
            all.iter().map(|one| one.flags).collect::<Vec<_>>(),
            [8, 9, 6]
        );
        assert_eq!(RawInstance::text(&all[0].name), "Ünïcode\n🦀");
        assert_eq!(RawInstance::text(&all[1].kind), "telegram");
        assert_eq!(RawInstance::text(&all[2].tariff), "DEVELOPER");
        assert_eq!((all[0].deleted, all[0].created), (0, 1_709_704_097));
        assert_eq!(all[1].deleted, 32_486_197_411);
        assert!(list.is_readable(0) && list.take(1, -1).is_empty());
    }
}

fn list_fault(fault: Fault) -> Rule {
    Rule {
        method: Target::List,
        fault,
        ..Rule::default()
    }
}

fn body(status: u16, body: &str) -> Fault {
    Fault {
        status: Some(status),
        body: Some(body.into()),
        ..Fault::default()
    }
}

/// For each answer: how the list ends, and how many instances come before its end.
#[test]
fn how_a_list_ends() {
    let cut = |then| Fault {
        stage: Some(serde_json::from_value("half_body".into()).expect("a stage")),
        then: Some(then),
        ..body(200, "[{\"idInstance\":1},{\"idInstance\":2}]")
    };
    let rows: Vec<(Fault, i32, usize)> = vec![
        (body(200, "[]"), 0, 0),
        (body(200, " [ {\"idInstance\": 7} ] "), 0, 1),
        (
            body(
                200,
                r#"[{"idInstance":1},{"name":"no id"},{"idInstance":3}]"#,
            ),
            33,
            1,
        ),
        (
            body(200, r#"[{"idInstance":1},{"idInstance":null}]"#),
            33,
            1,
        ),
        (body(200, r#"[{"idInstance":1}"#), 33, 1),
        (body(200, ""), 33, 0),
        (body(206, "[]"), 33, 0),
        (body(206, "[{\"idInstance\":1}]"), 33, 0),
        (body(200, "null"), 33, 0),
        (body(200, "<html>"), 33, 0),
        (body(200, "{}"), 33, 0),
        (
            body(200, r#"{"code":401,"description":"Unauthorized"}"#),
            11,
            0,
        ),
        (body(200, r#"{"code":403}"#), 12, 0),
        (body(200, r#"{"code":429}"#), 13, 0),
        (body(200, r#"{"code":404}"#), 14, 0),
        (body(200, r#"{"code":500}"#), 32, 0),
        (body(401, ""), 11, 0),
        (body(403, "<html>"), 12, 0),
        (body(404, "<html>"), 14, 0),
        (body(429, ""), 13, 0),
        (body(466, ""), 14, 0),
        (body(302, ""), 14, 0),
        (body(500, ""), 32, 0),
        (body(499, ""), 32, 0),
        (cut(Then::Fin), 31, 1),
        (cut(Then::Reset), 31, 1),
        (cut(Then::Stall), 30, 1),
        (
            Fault {
                no_length: true,
                then: Some(Then::Fin),
                ..body(200, r#"[{"idInstance":1},{"idInst"#)
            },
            33,
            1,
        ),
    ];
    let standin = standin();
    let client = client(&standin, |options| {
        options.max_retries = 1;
        options.timeout_ms = 2_000;
    });
    for (fault, status, count) in rows {
        standin.clear_faults();
        standin.add_faults([list_fault(fault.clone())]);
        let (all, end) = List::of(&client, 0).expect("a list").all();
        assert_eq!(
            (end.status, all.len()),
            (status, count),
            "{fault:?}: {end:?}"
        );
        if status == 33 {
            let http_status = fault.status.map(i32::from);
            assert_eq!(Some(end.http_status), http_status, "{end:?}");
            assert_eq!(end.code, end.http_status, "{end:?}");
        }
        assert!(!support::shows(&end.message(), &standin.endpoints().token));
    }
}

#[test]
fn a_list_cut_at_any_byte_is_never_whole() {
    let standin = standin();
    let text = r#"[{"idInstance":1,"name":"a}]","deleted":false},{"idInstance":2}]"#;
    let client = client(&standin, |options| options.max_retries = 0);
    for end in 0..text.len() {
        for declared in [Some(text.len() as u64), None] {
            standin.clear_faults();
            standin.add_faults([list_fault(Fault {
                content_length: declared,
                no_length: declared.is_none(),
                then: Some(Then::Fin),
                ..body(200, &text[..end])
            })]);
            let (all, ended) = List::of(&client, 0).expect("a list").all();
            assert!(
                matches!(ended.status, 31 | 33),
                "{end} {declared:?}: {ended:?}"
            );
            assert!(all.len() <= 2);
        }
    }
}

#[test]
fn a_temporary_failure_is_retried_until_the_first_instance_has_come() {
    let standin = standin();
    standin.fill(1, 3, None);
    for fault in [body(502, ""), body(429, ""), body(200, r#"{"code":500}"#)] {
        standin.add_faults([Rule {
            times: Some(2),
            ..list_fault(fault)
        }]);
        let client = client(&standin, |_| {});
        let (all, end) = List::of(&client, 0).expect("a list").all();
        assert_eq!((all.len(), end.status, end.attempts), (3, 0, 3), "{end:?}");
    }
}

#[test]
fn only_requests_that_may_have_been_sent_are_counted() {
    let standin = standin();
    let retried = |url: &str| {
        let mut options = options();
        options.max_retries = 1;
        let client = Client::new(url, &standin.endpoints().token, Some(&options));
        let list = List::of(&client.expect("a client"), 0).expect("a list");
        let end = list.all().1;
        (end.status, end.attempts)
    };
    // Nobody listens on this port any more.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a port");
    assert_eq!(retried(&format!("http://{closed}")), (21, 0));
    standin.add_faults([list_fault(Fault {
        stage: Some(serde_json::from_value("received".into()).expect("a stage")),
        then: Some(Then::Reset),
        ..Fault::default()
    })]);
    assert_eq!(retried(&standin.endpoints().http), (31, 2));
}

/// An instance is not asked with a token that would lead the question elsewhere or take a lot of
/// memory.
#[test]
fn an_instance_without_a_usable_token_is_not_asked() {
    let standin = standin();
    let long = "t".repeat(4096);
    let tokens = ["", ".", "..", &format!("{long}t"), &long, "..."];
    standin.put_instances((1..).zip(tokens).map(|(id, token)| Instance {
        api_token: Some(token.to_owned()),
        deleted: id == 2,
        ..Instance::new(id, "authorized")
    }));
    let client = client(&standin, |_| {});
    let (all, end) = List::of(&client, 1).expect("a list").all();
    assert_eq!(end.status, 0, "{end:?}");
    let states: Vec<i32> = all.iter().map(|one| one.state).collect();
    assert_eq!(states, [12, 0, 12, 12, 2, 2]);
    assert_eq!(requests(&standin, "state"), 2);
}

#[test]
fn invalid_arguments_are_refused() {
    let standin = standin();
    let client = client(&standin, |_| {});
    for flags in [2, 3, u32::MAX] {
        let refused = List::of(&client, flags).err().expect("a refusal");
        assert_eq!(refused.status, 20);
        assert!(refused.message().contains("flags"), "{refused:?}");
    }
}

/// The descriptor is readable while instances wait to be taken, and for ever after the end of the
/// list.
#[test]
fn the_descriptor_and_the_end() {
    let standin = standin();
    standin.fill(1, 3, None);
    standin.add_faults([list_fault(Fault {
        hold: true,
        ..Fault::default()
    })]);
    let client = client(&standin, |_| {});
    let list = List::of(&client, 0).expect("a list");
    let held = Until {
        held: Some(1),
        ..Default::default()
    };
    assert!(standin.wait(&held, Duration::from_secs(30)));
    assert!(!list.is_readable(0) && list.ended().is_none());
    assert!(list.take(8, 0).is_empty() && list.ended().is_none());
    standin.release();
    assert!(list.is_readable(10_000));
    let mut taken = 0;
    while taken < 3 {
        taken += list.take(1, 10_000).len();
    }
    // The end may come a moment after the last instance.
    assert!(list.is_readable(10_000));
    assert!(list.take(1, -1).is_empty());
    assert_eq!(list.ended().expect("it ended").status, 0);
    assert!(list.is_readable(0) && list.is_readable(0));
}

/// With states the instances come in the API's order. The requests obey `max_in_flight` and the
/// pace, and ask each instance at most once a second.
#[test]
fn states_keep_to_the_clients_limits() {
    let standin = standin();
    standin.put_instances((0..40).map(|index| Instance {
        deleted: index % 5 == 0,
        ..Instance::new(
            100 + index,
            ["authorized", "notAuthorized"][index as usize % 2],
        )
    }));
    standin.add_faults([Rule {
        method: Target::State,
        fault: Fault {
            delay_ms: 20,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let paced = client(&standin, |options| {
        options.max_in_flight = 4;
        options.requests_per_second = 100.0;
    });
    let begun = Instant::now();
    for round in 0..2 {
        let (all, end) = List::of(&paced, 1).expect("a list").all();
        assert_eq!(end.status, 0, "{end:?}");
        let ids: Vec<i64> = all.iter().map(|one| one.id).collect();
        assert_eq!(ids, (100..140).collect::<Vec<_>>());
        for one in &all {
            let expected = match one.flags & 1 {
                1 => 0,
                _ => [2, 1][one.id as usize % 2],
            };
            assert_eq!(one.state, expected, "round {round}: {}", one.id);
        }
    }
    // 66 requests at a pace of 100 a second.
    assert!(begun.elapsed() >= Duration::from_millis(600));
    let stats = standin.stats();
    assert_eq!(stats.rate_violations, 0);
    assert!(
        stats.in_flight_peak <= 4,
        "{} at once",
        stats.in_flight_peak
    );
}

/// Waits until `reached` holds.
fn until(what: &str, reached: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(600);
    while !reached() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::yield_now();
    }
}

/// `max_in_flight` bounds all requests of a client, whatever their method. While deletions and
/// questions both wait, they take turns.
#[test]
fn questions_and_deletions_share_the_limits_and_take_turns() {
    let standin = standin();
    standin.fill(1_000, 40, Some("notAuthorized"));
    let rule = |method, fault: &Fault| Rule {
        method,
        fault: fault.clone(),
        ..Rule::default()
    };
    let both = |fault: Fault| {
        standin.clear_faults();
        standin.add_faults([rule(Target::State, &fault), rule(Target::Delete, &fault)]);
    };
    both(Fault {
        delay_ms: 10,
        ..Fault::default()
    });
    let four = client(&standin, |options| options.max_in_flight = 4);
    let queue = Queue::new();
    let list = List::of(&four, 1).expect("a list");
    for id in 1..=40 {
        assert_eq!(queue.submit(&four, id, 0), 0);
    }
    assert_eq!(list.all().1.status, 0);
    let mut taken = 0;
    while taken < 40 {
        taken += queue.take(40, -1).len();
    }
    assert_eq!(
        (requests(&standin, "state"), requests(&standin, "delete")),
        (40, 40)
    );
    assert_eq!(standin.stats().in_flight_peak, 4);

    // One request at a time, each of which the stand-in holds until the next one may start.
    standin.reset();
    standin.clear_instances();
    standin.fill(1_000, 3, Some("notAuthorized"));
    both(Fault {
        hold: true,
        ..Fault::default()
    });
    let one = client(&standin, |options| options.max_in_flight = 1);
    let list = List::of(&one, 1).expect("a list");
    let counts = || (requests(&standin, "state"), requests(&standin, "delete"));
    until("the first question", || counts() == (1, 0));
    for id in 1..=3 {
        assert_eq!(queue.submit(&one, id, 0), 0);
    }
    for step in 2..=6 {
        let held = Until {
            held: Some(1),
            ..Until::default()
        };
        assert!(standin.wait(&held, Duration::from_secs(60)));
        standin.release();
        let expected = (step / 2 + step % 2, step / 2);
        until("the next one", || counts().0 + counts().1 == step);
        assert_eq!(counts(), expected, "step {step}");
        until("the next one is held", || standin.stats().held == 1);
    }
    standin.release();
    assert_eq!(list.all().1.status, 0);
    assert_eq!(standin.stats().in_flight_peak, 1);
}

/// A taker that takes nothing holds back the list and its questions, but no deletion.
#[test]
fn a_list_that_is_held_back_holds_no_permit() {
    for (flags, max_in_flight) in [(0, 1), (1, 64)] {
        let standin = standin();
        standin.fill(1, 20_000, Some("notAuthorized"));
        let client = client(&standin, |options| {
            options.max_in_flight = max_in_flight;
            options.timeout_ms = 600_000;
        });
        let list = List::of(&client, flags).expect("a list");
        match flags {
            // More questions than may wait for their taker.
            1 => until("the questions", || requests(&standin, "state") > 4_096),
            _ => assert!(list.is_readable(60_000)),
        }
        for id in 1..20 {
            let result = client.delete_instance(id);
            assert_eq!(result.status, 0, "{flags} {max_in_flight}: {result:?}");
        }
        if flags == 0 {
            let (all, end) = list.all();
            assert_eq!((all.len(), end.status), (20_000, 0), "{end:?}");
        } else {
            // The questions stop while nothing is taken, and go on afterwards.
            let asked = requests(&standin, "state");
            // As many wait for their taker, and as many for an earlier answer.
            assert!(asked <= 2 * 4_096, "{asked}");
            assert!(!list.take(4_096, -1).is_empty());
            until("more questions", || requests(&standin, "state") > asked);
        }
    }
}

/// The API limits the requests for an instance, whichever client sends them.
#[test]
fn one_instance_is_asked_once_a_second_by_all_clients_together() {
    let standin = standin();
    standin.fill(1_000, 20, Some("notAuthorized"));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let client = client(&standin, |_| {});
            let ask = move || List::of(&client, 1).expect("a list").all().1.status;
            scope.spawn(move || assert_eq!(ask(), 0));
        }
    });
    assert_eq!(requests(&standin, "state"), 60);
    assert_eq!(standin.stats().rate_violations, 0);
}

#[test]
fn a_state_that_cannot_be_learned_does_not_end_the_list() {
    let standin = standin();
    let one = |id| Instance::new(id, "authorized");
    standin.put_instances([
        Instance {
            expired: true,
            ..one(1)
        },
        Instance {
            creating: true,
            ..one(2)
        },
        Instance {
            starting: true,
            ..one(3)
        },
        Instance {
            refuses: Some("no".into()),
            ..one(4)
        },
        Instance {
            state: "brandNew".into(),
            ..one(5)
        },
        Instance {
            state: "pendingPassword".into(),
            ..one(6)
        },
        one(7),
    ]);
    standin.add_faults([Rule {
        method: Target::State,
        id: Some(7),
        fault: body(500, ""),
        ..Rule::default()
    }]);
    let client = client(&standin, |options| options.max_retries = 0);
    let (all, end) = List::of(&client, 1).expect("a list").all();
    assert_eq!(end.status, 0);
    let states: Vec<i32> = all.iter().map(|one| one.state).collect();
    assert_eq!(states, [9, 10, 5, 12, 11, 8, 12]);
}

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").expect("a Linux system");
    let pages: usize = status
        .split(' ')
        .nth(1)
        .expect("a field")
        .parse()
        .expect("a number");
    pages * 4096
}

/// 31 MB of JSON, from a server in another process: with a taker that keeps up, and with one that
/// holds the reading back while deletions go on.
#[cfg(target_os = "linux")]
#[test]
fn a_hundred_thousand_instances_in_a_few_megabytes() {
    // Runs in its own process, whose memory does not include that of other tests.
    const ALONE: &str = "GREENAPI_TEST_LIST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        support::run(
            std::process::Command::new(std::env::current_exe().expect("a test has a path"))
                .args(["--exact", "a_hundred_thousand_instances_in_a_few_megabytes"])
                .env(ALONE, "yes"),
        );
        return;
    }
    let server = support::StandinProcess::start(&["--instances", "100000"]);
    let mut options = options();
    options.timeout_ms = 120_000;
    let client =
        Client::new(server.get("http"), server.get("token"), Some(&options)).expect("a client");
    // A first call allocates what every call needs.
    assert_eq!(client.delete_instance(1).status, 10);
    let before = resident();
    let mut peak = before;
    let list = List::of(&client, 0).expect("a list");
    let mut seen = HashSet::with_capacity(0);
    let mut count = 0;
    loop {
        let taken = list.take(256, -1);
        if taken.is_empty() {
            break;
        }
        count += taken.len();
        seen.extend(taken.iter().map(|one| one.id % 97));
        peak = peak.max(resident());
    }
    assert_eq!(list.ended().expect("it ended").status, 0);
    assert_eq!((count, seen.len()), (100_000, 97));
    let grown = (peak - before) >> 10;
    println!("100,000 instances: {grown} KiB above the start");
    assert!(grown < 8 << 10, "{grown} KiB");

    let slow = List::of(&client, 0).expect("a list");
    assert_eq!(slow.take(1, -1).len(), 1);
    for id in 1..200 {
        assert_eq!(client.delete_instance(id).status, 10);
    }
    let grown = resident().saturating_sub(before) >> 10;
    assert!(grown < 8 << 10, "{grown} KiB");
}

/// A list may be freed at any moment, with and without states, and the client still lists then.
#[test]
fn a_list_may_be_freed_at_any_time() {
    let standin = standin();
    standin.fill(1, 20_000, None);
    let client = client(&standin, |_| {});
    for round in 0..40 {
        let list = List::of(&client, round % 2).expect("a list");
        if round % 3 > 0 {
            list.take(round as usize, 100);
        }
        if round % 4 == 0 {
            std::thread::sleep(Duration::from_millis(u64::from(round)));
        }
        drop(list);
    }
    let list = List::of(&client, 0).expect("a list");
    drop(client);
    assert_eq!(list.all().1.status, 0);
}

#[test]
fn in_a_forked_child_the_parents_list_has_ended() {
    let standin = standin();
    standin.fill(1, 5_000, None);
    let client = client(&standin, |_| {});
    let list = List::of(&client, 0).expect("a list");
    let mut count = list.take(16, -1).len();
    list.fd();
    // SAFETY: the child calls only the library, and ends by _exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let readable = list.is_readable(0);
        let none = list.take(16, -1).is_empty();
        let ended = list.ended().is_some_and(|end| end.status == 23);
        drop(list);
        unsafe { libc::_exit(i32::from(!(readable && none && ended))) };
    }
    let mut status = 0;
    unsafe { libc::waitpid(child, &mut status, 0) };
    assert_eq!(status, 0, "in the child");
    let (rest, end) = list.all();
    count += rest.len();
    assert_eq!((count, end.status), (5_000, 0));
}
