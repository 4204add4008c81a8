//! The session policies in every language: every state with every policy, phones that do not log
//! out, lists that cannot be read, and a bulk run with random faults that is compared with the
//! ledger.

mod support;

use greenapi_standin::{Config, Fault, Instance, Rule, Stage, Standin, Target, Then};
use support::abi::{c_string, options, status_name, Client, RawOptions};
use support::{requests, Driver};

const FIRST: i64 = 6_000_000_000;
const STATES: [&str; 9] = [
    "notAuthorized",
    "authorized",
    "sleepMode",
    "yellowCard",
    "suspended",
    "blocked",
    "pendingPassword",
    "starting",
    "somethingNew",
];

fn standin() -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.clear_instances();
    standin
}

fn instance(index: i64, state: &str) -> Instance {
    Instance {
        id: FIRST + index,
        state: state.into(),
        ..Instance::default()
    }
}

const BLOCKED: &str = "<html>Access blocked by corporate firewall</html>";

/// Answers to the question about the state that are no word of the API, each with the status that
/// follows under every policy that asks: the instance with this index is not deleted.
fn answers_of_no_instance() -> Vec<(i64, Fault, &'static str)> {
    let refusal = |status, body: &str| Fault {
        status: Some(status),
        body: Some(body.into()),
        ..Fault::default()
    };
    let cut = Fault {
        content_length: Some(100),
        then: Some(Then::Fin),
        ..refusal(400, "Instance account")
    };
    vec![
        (70, refusal(407, "<html>proxy"), "SESSION_UNKNOWN"),
        (71, refusal(400, BLOCKED), "SESSION_UNKNOWN"),
        (72, refusal(401, BLOCKED), "UNAUTHORIZED"),
        (73, refusal(403, BLOCKED), "FORBIDDEN"),
        (74, refusal(451, ""), "SESSION_UNKNOWN"),
        (75, cut, "SESSION_UNKNOWN"),
    ]
}

fn every_state_and_policy(drivers: &[Driver]) {
    let standin = standin();
    let no_answers = answers_of_no_instance();
    for driver in drivers.iter().filter(|driver| driver.mode != "one_call") {
        for (policy, name) in [
            (0, "ignore"),
            (1, "require_logged_out"),
            (2, "log_out"),
            (3, "try_log_out"),
        ] {
            standin.reset();
            standin.clear_instances();
            standin.put_instances(
                (0..)
                    .zip(STATES)
                    .map(|(index, state)| instance(index, state)),
            );
            standin.put_instances([Instance {
                deleted: true,
                ..instance(50, "authorized")
            }]);
            let mut ids: Vec<i64> = (0..STATES.len() as i64)
                .map(|index| FIRST + index)
                .collect();
            ids.extend([FIRST + 50, FIRST + 60]);
            for (index, fault, _) in &no_answers {
                standin.put_instances([instance(*index, "authorized")]);
                standin.add_faults([Rule {
                    method: Target::State,
                    id: Some(FIRST + index),
                    fault: fault.clone(),
                    ..Rule::default()
                }]);
                ids.push(FIRST + index);
            }
            let endpoints = standin.endpoints();
            let environment = [
                ("GREENAPI_URL", endpoints.http.clone()),
                ("GREENAPI_TOKEN", endpoints.token.clone()),
                ("GREENAPI_SESSION", policy.to_string()),
                // A starting instance is asked again until the timeout.
                ("GREENAPI_TIMEOUT_MS", "6000".to_owned()),
                ("GREENAPI_MAX_RETRIES", "0".to_owned()),
            ];
            let lines = driver.delete(&environment, &ids);
            assert_eq!(lines.len(), ids.len());
            for line in lines {
                let index = (line.id - FIRST) as usize;
                let no_answer = no_answers.iter().find(|row| row.0 == index as i64);
                let expected = match (STATES.get(index), policy, no_answer) {
                    (None, 1.., Some((.., status))) => status,
                    (None, _, None) => "NOT_FOUND",
                    (Some(&"notAuthorized"), ..) | (_, 0 | 2 | 3, _) => "OK",
                    // Nobody can log it out before it has started.
                    (Some(&"starting"), ..) => "SESSION_UNKNOWN",
                    _ => "SESSION_ACTIVE",
                };
                let shown = format!("{} {} {name}: {line:?}", driver.language, driver.mode);
                let status = line.status.map(status_name);
                let status = status.and_then(|name| name.strip_prefix("GREENAPI_STATUS_"));
                assert_eq!(status, Some(expected), "{shown}");
                if policy > 0 && expected != "OK" {
                    assert_eq!(line.attempts, Some(0), "{shown}");
                }
                if let (Some(state), 1.., "SESSION_ACTIVE" | "SESSION_UNKNOWN") =
                    (STATES.get(index), policy, expected)
                {
                    assert!(line.message.contains(state), "{shown}");
                    // The answer about the state had no error.
                    assert_eq!((line.code, line.http_status), (Some(0), Some(0)), "{shown}");
                }
                if let (Some((_, fault, _)), 1..) = (no_answer, policy) {
                    let number = match fault.then {
                        None => fault.status.map_or(0, i32::from),
                        Some(_) => 0,
                    };
                    let number = Some(number);
                    assert_eq!((line.code, line.http_status), (number, number), "{shown}");
                }
                if policy >= 2 && index > 0 && index < STATES.len() {
                    assert!(line.message.contains("logged out, then deleted"), "{shown}");
                }
            }
            if policy > 0 {
                assert!(standin
                    .ledger()
                    .iter()
                    .all(|gone| gone.state == "notAuthorized"));
            }
            assert_eq!(standin.stats().rate_violations, 0);
        }
    }
}

#[test]
fn every_state_times_every_policy_in_c() {
    every_state_and_policy(&Driver::of("c"));
}

#[test]
fn every_state_times_every_policy_in_cpp() {
    every_state_and_policy(&Driver::of("c++"));
}

#[test]
fn every_state_times_every_policy_in_python() {
    every_state_and_policy(&Driver::of("python"));
}

#[test]
fn every_state_times_every_policy_in_go() {
    every_state_and_policy(&Driver::of("go"));
}

fn client(standin: &Standin, change: impl FnOnce(&mut RawOptions)) -> Client {
    let mut options = options();
    options.session = 2;
    change(&mut options);
    let endpoints = standin.endpoints();
    Client::new(&endpoints.http, &endpoints.token, Some(&options)).unwrap()
}

#[test]
fn a_device_that_refuses_and_one_that_takes_three_seconds() {
    let standin = standin();
    standin.put_instances([
        Instance {
            refuse_logout: true,
            ..instance(1, "authorized")
        },
        Instance {
            logout_after_ms: 3_000,
            ..instance(2, "authorized")
        },
        Instance {
            logout_after_ms: 60_000,
            ..instance(3, "authorized")
        },
    ]);
    let client = client(&standin, |options| options.timeout_ms = 8_000);
    let results = client.delete_instances(&[FIRST + 1, FIRST + 2, FIRST + 3]);
    assert_eq!(results[0].status, 15, "{:?}", results[0]);
    assert!(
        results[0].message().contains("refuses to log out"),
        "{:?}",
        results[0]
    );
    assert_eq!(results[1].status, 0, "{:?}", results[1]);
    assert_eq!(results[2].status, 15, "{:?}", results[2]);
    assert_eq!(standin.stats().rate_violations, 0);
    assert_eq!(standin.ledger().len(), 1);
}

fn failing(method: Target, fault: Fault, status: i32) {
    let standin = standin();
    standin.put_instances([instance(1, "notAuthorized")]);
    standin.add_faults([Rule {
        method,
        fault: fault.clone(),
        ..Rule::default()
    }]);
    let client = client(&standin, |options| {
        options.timeout_ms = 3_000;
        options.max_retries = 1;
    });
    let result = client.delete_instance(FIRST + 1);
    assert_eq!(result.status, status, "{method:?} {fault:?}: {result:?}");
    assert_eq!(result.attempts, 0);
    assert!(standin.ledger().is_empty());
    assert!(!support::shows(
        &result.message(),
        &standin.endpoints().token
    ));
}

#[test]
fn nothing_is_deleted_while_the_state_is_unknown() {
    let body = |status: u16, body: &str| Fault {
        status: Some(status),
        body: Some(body.into()),
        ..Fault::default()
    };
    let cut = |then| Fault {
        stage: Some(Stage::HalfBody),
        then: Some(then),
        ..Fault::default()
    };
    for method in [Target::List, Target::State] {
        for (fault, status) in [
            (body(401, ""), 11),
            (body(403, ""), 12),
            (body(429, ""), 13),
            (body(500, ""), 16),
            (body(404, "<html>"), 16),
            (body(200, "<html>"), 16),
            (body(200, ""), 16),
            (body(200, r#"{"code":401}"#), 11),
            (cut(Then::Fin), 16),
            (cut(Then::Reset), 16),
            (cut(Then::Stall), 16),
        ] {
            failing(method, fault, status);
        }
    }
}

/// A connection failure gets the same message whether it happens at the question about the state or
/// at the deletion.
#[test]
fn a_connection_failure_has_the_same_message_before_and_in_a_deletion() {
    let standin = standin();
    for (trap, status) in [
        ("tls_expired", 22),
        ("tls_wrong_host", 22),
        ("tls_unknown_ca", 22),
        ("tls_garbage", 22),
        ("http_to_tls", 22),
        ("refused", 21),
    ] {
        let said = |session: u32| {
            let ca_file = c_string(&standin.endpoints().ca_file.display().to_string());
            let mut options = options();
            options.ca_file = ca_file.as_ptr();
            options.max_retries = 0;
            options.session = session;
            let client = Client::new(
                standin.trap(trap),
                &standin.endpoints().token,
                Some(&options),
            );
            client.unwrap().delete_instance(FIRST)
        };
        let (plain, asked) = (said(0), said(1));
        assert_eq!(
            (plain.status, asked.status),
            (status, status),
            "{trap}: {plain:?} {asked:?}"
        );
        let (plain, asked) = (plain.message(), asked.message());
        let cause = |text: &str| text.split(['.', ',']).next().unwrap_or_default().to_owned();
        assert_eq!(cause(&plain), cause(&asked), "{trap}");
    }
}

#[test]
fn a_token_without_the_right_to_list() {
    let standin = standin();
    standin.put_instances([instance(1, "notAuthorized")]);
    standin.set(|settings| settings.list_forbidden = true);
    assert_eq!(
        client(&standin, |_| {}).delete_instance(FIRST + 1).status,
        12
    );
}

#[test]
fn an_instance_without_a_usable_token_is_neither_asked_nor_deleted() {
    let standin = standin();
    let long = "t".repeat(4097);
    let tokens = ["", ".", "..", long.as_str()];
    standin.put_instances((1..).zip(tokens).map(|(index, token)| Instance {
        api_token: Some(token.to_owned()),
        ..instance(index, "notAuthorized")
    }));
    let client = client(&standin, |_| {});
    for (index, token) in (1..).zip(tokens) {
        let result = client.delete_instance(FIRST + index);
        assert_eq!((result.status, result.attempts), (16, 0), "{token:.9}");
    }
    assert_eq!(support::requests(&standin, "state"), 0);
    assert!(standin.ledger().is_empty());
}

#[test]
fn a_part_of_the_list_does_not_show_that_an_instance_is_gone() {
    let standin = standin();
    standin.add_faults([Rule {
        method: Target::List,
        fault: Fault {
            status: Some(206),
            body: Some("[]".into()),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let result = client(&standin, |_| {}).delete_instance(FIRST);
    assert_eq!(result.status, 16, "{result:?}");
    assert!(result.message().contains("206"), "{result:?}");
}

#[test]
fn a_list_of_100_000_is_read_once_and_a_new_instance_is_found() {
    let standin = standin();
    standin.fill(FIRST, 100_000, Some("notAuthorized"));
    let client = client(&standin, |_| {});
    let ids: Vec<i64> = (0..50).map(|index| FIRST + index * 1_999).collect();
    assert!(client
        .delete_instances(&ids)
        .iter()
        .all(|result| result.status == 0));
    assert_eq!(lists(&standin), 1);
    standin.put_instances([instance(200_000, "notAuthorized")]);
    assert_eq!(client.delete_instance(FIRST + 200_000).status, 0);
    assert_eq!(lists(&standin), 2);
}

/// 2,000 instances in mixed states, with random faults: none may be deleted while it is logged in.
#[test]
fn no_instance_in_the_ledger_was_deleted_while_authorized() {
    const COUNT: i64 = 2_000;
    let standin = standin();
    standin.put_instances((0..COUNT).map(|index| Instance {
        refuse_logout: index % 37 == 0,
        logout_after_ms: if index % 11 == 0 { 300 } else { 0 },
        ..instance(index, STATES[index as usize % STATES.len()])
    }));
    let fault = |chance, fault| Rule {
        method: Target::Any,
        chance,
        fault,
        ..Rule::default()
    };
    standin.add_faults([
        fault(
            0.02,
            Fault {
                status: Some(502),
                ..Fault::default()
            },
        ),
        fault(
            0.02,
            Fault {
                stage: Some(Stage::Received),
                then: Some(Then::Reset),
                ..Fault::default()
            },
        ),
        fault(
            0.02,
            Fault {
                stage: Some(Stage::Acted),
                then: Some(Then::Fin),
                ..Fault::default()
            },
        ),
        fault(
            0.01,
            Fault {
                status: Some(200),
                body: Some("{}".into()),
                ..Fault::default()
            },
        ),
    ]);
    let client = client(&standin, |options| {
        options.max_in_flight = 500;
        options.timeout_ms = 20_000;
    });
    let ids: Vec<i64> = (0..COUNT).map(|index| FIRST + index).collect();
    let results = client.delete_instances(&ids);
    let ledger = standin.ledger();
    assert!(ledger.iter().all(|gone| gone.state == "notAuthorized"));
    assert_eq!(standin.stats().rate_violations, 0);
    let gone: std::collections::HashSet<i64> = ledger.iter().map(|gone| gone.id).collect();
    for result in &results {
        match result.status {
            0..=9 => assert!(gone.contains(&result.id), "{result:?}"),
            10..=29 => assert!(!gone.contains(&result.id), "{result:?}"),
            _ => {}
        }
    }
    assert!(gone.len() > 1_500, "{} were deleted", gone.len());
}

fn lists(standin: &Standin) -> u64 {
    requests(standin, "list")
}

fn state_fault(status: u16, body: &str) -> Rule {
    Rule {
        method: Target::State,
        fault: Fault {
            status: Some(status),
            body: Some(body.into()),
            ..Fault::default()
        },
        ..Rule::default()
    }
}

fn broken(then: Then) -> Rule {
    Rule {
        method: Target::State,
        fault: Fault {
            stage: Some(Stage::Received),
            then: Some(then),
            ..Fault::default()
        },
        ..Rule::default()
    }
}

/// Every answer that is not a state, under every policy that asks. The instance exists, but its
/// state cannot be learned.
#[test]
fn every_answer_that_is_not_a_state_under_every_policy() {
    let living = || instance(1, "authorized");
    const DELETED: i32 = 0;
    const UNKNOWN: i32 = 16;
    let rows: [(&str, Instance, Option<Rule>, [i32; 3]); 30] = [
        (
            "expired",
            Instance {
                expired: true,
                ..living()
            },
            None,
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "creating",
            Instance {
                creating: true,
                ..living()
            },
            None,
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "starting",
            Instance {
                starting: true,
                ..living()
            },
            None,
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "refusing",
            Instance {
                refuses: Some("no".into()),
                ..living()
            },
            None,
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "says deleted",
            living(),
            Some(state_fault(400, "Instance is deleted")),
            [DELETED, DELETED, DELETED],
        ),
        (
            "404 page",
            living(),
            Some(state_fault(404, "<html>")),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "404 page about another thing",
            living(),
            Some(state_fault(
                404,
                "<p>The page that you asked for is deleted.",
            )),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "400 about another thing",
            living(),
            Some(state_fault(
                400,
                "The chat of this instance is deleted at midnight",
            )),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "401",
            living(),
            Some(state_fault(401, "")),
            [11, 11, DELETED],
        ),
        (
            "403",
            living(),
            Some(state_fault(403, "")),
            [12, 12, DELETED],
        ),
        (
            "466",
            living(),
            Some(state_fault(466, "")),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "400 of another kind",
            living(),
            Some(state_fault(400, "bad")),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "code inside 200",
            living(),
            Some(state_fault(
                200,
                r#"{"code":400,"description":"Instance is deleted"}"#,
            )),
            [DELETED, DELETED, DELETED],
        ),
        // None of these is an answer about the session, so nothing is deleted under any policy.
        ("429", living(), Some(state_fault(429, "")), [13, 13, 13]),
        (
            "500",
            living(),
            Some(state_fault(500, "")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "499 inside 200",
            living(),
            Some(state_fault(200, r#"{"code":499}"#)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "404 inside 500",
            living(),
            Some(state_fault(500, r#"{"code":404}"#)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        // Nor is what another server says.
        (
            "another server's 400",
            living(),
            Some(state_fault(400, BLOCKED)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "another server's 403",
            living(),
            Some(state_fault(403, BLOCKED)),
            [12, 12, 12],
        ),
        (
            "another server's 407",
            living(),
            Some(state_fault(407, "")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "another server's 421",
            living(),
            Some(state_fault(421, "Instance is deleted")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "another server's 466",
            living(),
            Some(state_fault(466, "<!doctype html>")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "a state in an array",
            living(),
            Some(state_fault(200, r#"["notAuthorized"]"#)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "a state beside a code",
            living(),
            Some(state_fault(
                200,
                r#"{"code":"401","stateInstance":"notAuthorized"}"#,
            )),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "a state beside a refusal",
            living(),
            Some(state_fault(
                200,
                r#"{"stateInstance":"notAuthorized","status":false,"reason":"x"}"#,
            )),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "expired, with two texts",
            living(),
            Some(state_fault(
                400,
                r#"{"statusCode":400,"message":"Instance account is expired","description":"x"}"#,
            )),
            [UNKNOWN, UNKNOWN, DELETED],
        ),
        (
            "HTML",
            living(),
            Some(state_fault(200, "<html>")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "nothing",
            living(),
            Some(state_fault(200, "")),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "lost",
            living(),
            Some(broken(Then::Reset)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
        (
            "stalled",
            living(),
            Some(broken(Then::Stall)),
            [UNKNOWN, UNKNOWN, UNKNOWN],
        ),
    ];
    std::thread::scope(|scope| {
        for (name, instance, rule, expected) in &rows {
            for (policy, expected) in (1u32..).zip(expected) {
                scope.spawn(move || {
                    let standin = standin();
                    standin.put_instances([instance.clone()]);
                    standin.add_faults(rule.clone());
                    let client = client(&standin, |options| {
                        options.session = policy;
                        options.timeout_ms = 4_000;
                        options.max_retries = 1;
                    });
                    let result = client.delete_instance(FIRST + 1);
                    let shown = format!("{name}, policy {policy}: {result:?}");
                    assert_eq!(result.status, *expected, "{shown}");
                    assert_eq!(
                        standin.ledger().len(),
                        usize::from(*expected == 0),
                        "{shown}"
                    );
                    assert_eq!(result.attempts, u32::from(*expected == 0), "{shown}");
                    if policy == 3
                        && *expected == 0
                        && !name.contains("deleted")
                        && *name != "code inside 200"
                    {
                        assert!(
                            result.message().contains("could not be logged out"),
                            "{shown}"
                        );
                    }
                    if *expected == UNKNOWN {
                        assert!(result.message().contains("no deletion was sent"), "{shown}");
                    }
                    if let Some(number) = name.strip_prefix("another server's ") {
                        let said = format!(
                            "Check the network: perhaps a proxy or firewall answered with {number} "
                        );
                        assert!(result.message().starts_with(&said), "{shown}");
                        assert_eq!(result.code.to_string(), number, "{shown}");
                        assert_eq!(result.http_status, result.code, "{shown}");
                    }
                    assert!(
                        !support::shows(&result.message(), &instance.token()),
                        "{shown}"
                    );
                    assert_eq!(standin.stats().rate_violations, 0, "{shown}");
                });
            }
        }
    });
}

/// A refusal whose body does not arrive whole may be that of any server, so it is a lost answer.
#[test]
fn a_refusal_whose_body_is_not_whole_is_no_answer() {
    let refusal = |status| Fault {
        status: Some(status),
        body: Some("Instance account is expired. Renew your instance from personal area".into()),
        ..Fault::default()
    };
    let half = |status, chunked, then| Fault {
        stage: Some(Stage::HalfBody),
        then: Some(then),
        chunked,
        ..refusal(status)
    };
    let kinds = |status| {
        [
            ("cut", half(status, false, Then::Fin)),
            ("cut chunks", half(status, true, Then::Fin)),
            ("reset", half(status, false, Then::Reset)),
            ("stalled", half(status, false, Then::Stall)),
            (
                "bad chunks",
                Fault {
                    invalid_chunking: true,
                    ..refusal(status)
                },
            ),
            (
                "no byte of the body",
                Fault {
                    body: Some(String::new()),
                    content_length: Some(100),
                    then: Some(Then::Fin),
                    ..refusal(status)
                },
            ),
            (
                "too large",
                Fault {
                    body: Some("x".repeat(65 * 1024)),
                    ..refusal(status)
                },
            ),
        ]
    };
    std::thread::scope(|scope| {
        for (status, policies) in [(400, 1..=3), (401, 3..=3), (404, 3..=3)] {
            for (kind, fault) in kinds(status) {
                for policy in policies.clone() {
                    for method in [Target::State, Target::Logout] {
                        if policy == 1 && method == Target::Logout {
                            continue;
                        }
                        let fault = fault.clone();
                        scope.spawn(move || {
                            refusal_that_breaks_off(method, status, kind, fault, policy);
                        });
                    }
                }
            }
        }
    });
}

fn refusal_that_breaks_off(method: Target, status: u16, kind: &str, fault: Fault, policy: u32) {
    let standin = standin();
    standin.put_instances([instance(1, "authorized")]);
    standin.add_faults([Rule {
        method,
        fault,
        ..Rule::default()
    }]);
    let client = client(&standin, |options| {
        options.session = policy;
        options.timeout_ms = 6_000;
        options.max_retries = 1;
    });
    let result = client.delete_instance(FIRST + 1);
    let shown = format!("{method:?}, {status}, {kind}, policy {policy}: {result:?}");
    let (expected, operation) = match method {
        Target::State => (16, "state"),
        _ => (15, "logout"),
    };
    assert_eq!((result.status, result.attempts), (expected, 0), "{shown}");
    assert_eq!((result.code, result.http_status), (0, 0), "{shown}");
    assert!(standin.ledger().is_empty(), "{shown}");
    let retried = !matches!(kind, "stalled" | "too large");
    assert_eq!(
        requests(&standin, operation),
        1 + u64::from(retried),
        "{shown}"
    );
    if method == Target::Logout {
        assert!(
            result.message().starts_with("Perhaps logged out"),
            "{shown}"
        );
    }
    // The next answer is whole.
    if !retried || status != 400 {
        return;
    }
    standin.clear_faults();
    standin.add_faults([Rule {
        method,
        times: Some(1),
        fault: Fault {
            status: Some(400),
            body: Some("Instance".into()),
            content_length: Some(100),
            then: Some(Then::Fin),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let result = client.delete_instance(FIRST + 1);
    let expected = if policy == 1 { 15 } else { 0 };
    assert_eq!(result.status, expected, "{shown}, then {result:?}");
}

/// What another server says to a logout is not the API's refusal.
#[test]
fn a_logout_that_another_server_refuses_permits_no_deletion() {
    let answer = |status: u16, body: &str, act| Fault {
        status: Some(status),
        body: Some(body.into()),
        act: Some(act),
        ..Fault::default()
    };
    let no = |status, body| vec![answer(status, body, false)];
    let rows = [
        (no(400, BLOCKED), [16, 16]),
        (no(401, BLOCKED), [11, 11]),
        (no(403, BLOCKED), [12, 12]),
        (no(407, ""), [16, 16]),
        (no(451, r#"{"isLogout":true}"#), [16, 16]),
        // If an earlier attempt may have been carried out, the state decides.
        (
            vec![answer(502, "", false), answer(407, "", false)],
            [15, 15],
        ),
        (vec![answer(502, "", true), answer(407, "", false)], [0, 0]),
        // The API's own refusal is an answer.
        (no(466, "quota"), [15, 0]),
    ];
    std::thread::scope(|scope| {
        for (faults, expected) in &rows {
            for (policy, expected) in [2, 3].into_iter().zip(expected) {
                scope.spawn(move || {
                    let standin = standin();
                    standin.put_instances([instance(1, "authorized")]);
                    standin.add_faults(faults.iter().map(|fault| Rule {
                        method: Target::Logout,
                        times: Some(1),
                        fault: fault.clone(),
                        ..Rule::default()
                    }));
                    let client = client(&standin, |options| options.session = policy);
                    let result = client.delete_instance(FIRST + 1);
                    let shown = format!("{faults:?}, policy {policy}: {result:?}");
                    assert_eq!(result.status, *expected, "{shown}");
                    let deleted = usize::from(*expected == 0);
                    assert_eq!(standin.ledger().len(), deleted, "{shown}");
                    if matches!(result.status, 11 | 12 | 16) {
                        let number = faults[0].status.map(i32::from);
                        assert_eq!(Some(result.code), number, "{shown}");
                        assert!(result.message().starts_with("Check the network"), "{shown}");
                    }
                });
            }
        }
    });
}

/// The first request to log out is carried out, but its answer is an error; the second one is
/// refused, as the instance is logged out by then.
#[test]
fn a_logout_that_may_have_been_carried_out_is_named() {
    let answer = |status: u16, body: &str, act: bool| Fault {
        status: Some(status),
        body: Some(body.into()),
        act: Some(act),
        ..Fault::default()
    };
    let rule = |method, times, fault| Rule {
        method,
        times,
        fault,
        ..Rule::default()
    };
    for policy in [2, 3] {
        for (refusal, named) in [
            (None, "A logout was requested"),
            (Some(401), "Perhaps logged out"),
        ] {
            let standin = standin();
            standin.put_instances([instance(1, "authorized")]);
            standin.add_faults([
                rule(Target::Logout, Some(1), answer(502, "<html>", true)),
                rule(
                    Target::Logout,
                    None,
                    answer(200, r#"{"isLogout":false}"#, false),
                ),
            ]);
            let refusals = refusal.map(|code| rule(Target::Delete, None, answer(code, "", false)));
            standin.add_faults(refusals);
            let client = client(&standin, |options| {
                options.session = policy;
                options.timeout_ms = 10_000;
            });
            let result = client.delete_instance(FIRST + 1);
            let expected = if refusal.is_some() { 11 } else { 0 };
            assert_eq!(result.status, expected, "{result:?}");
            assert!(result.message().contains(named), "{result:?}");
        }
    }
}

/// The instance may be asked once a second, and the call ends before the logout could be sent.
#[test]
fn a_logout_that_was_never_sent_is_not_called_possible() {
    for policy in [2, 3] {
        let standin = standin();
        standin.put_instances([instance(1, "authorized")]);
        let client = client(&standin, |options| {
            options.session = policy;
            options.timeout_ms = 1_000;
        });
        let result = client.delete_instance(FIRST + 1);
        assert_eq!((result.status, result.attempts), (15, 0), "{result:?}");
        assert!(!result.message().contains("erhaps"), "{result:?}");
        assert!(result.message().contains("no time"), "{result:?}");
        let seen = requests(&standin, "logout");
        assert_eq!(seen, 0, "{result:?}");
    }
}

/// Follows the advice of each message, and succeeds.
#[test]
fn the_advice_of_each_message_works() {
    // Expired: "… or use the session policy TRY_LOG_OUT".
    let standin = standin();
    let expired = || Instance {
        expired: true,
        ..instance(1, "authorized")
    };
    standin.put_instances([expired()]);
    let strict = client(&standin, |_| {});
    let told = strict.delete_instance(FIRST + 1);
    assert!(told.message().contains("expired") && told.message().contains("TRY_LOG_OUT"));
    let trying = client(&standin, |options| options.session = 3);
    assert_eq!(trying.delete_instance(FIRST + 1).status, 0);
    // Expired, the other advice: renew the instance.
    standin.put_instances([expired()]);
    assert_eq!(strict.delete_instance(FIRST + 1).status, 16);
    standin.put_instances([instance(1, "authorized")]);
    assert_eq!(strict.delete_instance(FIRST + 1).status, 0);
    // Being created: "call again when that is over".
    standin.put_instances([Instance {
        creating: true,
        ready_after_ms: 1_500,
        ..instance(2, "notAuthorized")
    }]);
    let told = strict.delete_instance(FIRST + 2);
    assert!(told.message().contains("Call again"), "{told:?}");
    std::thread::sleep(std::time::Duration::from_millis(1_600));
    assert_eq!(strict.delete_instance(FIRST + 2).status, 0);
    // Starting: the instance is asked again until the timeout.
    for index in [3, 4] {
        standin.put_instances([Instance {
            starting: true,
            ready_after_ms: 2_500,
            ..instance(index, "notAuthorized")
        }]);
        let patient = client(&standin, |options| options.session = index as u32 - 2);
        assert_eq!(patient.delete_instance(FIRST + index).status, 0);
    }
}

fn lose_next_deletion(standin: &Standin, stage: Stage) {
    standin.add_faults([Rule {
        method: Target::Delete,
        times: Some(1),
        fault: Fault {
            stage: Some(stage),
            then: Some(Then::Reset),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
}

/// The client forgets what it learned of an instance once a deletion may have been sent.
#[test]
fn calling_again_after_a_lost_deletion_reads_the_list_again() {
    for policy in [1, 2, 3] {
        let standin = standin();
        standin.put_instances([instance(1, "notAuthorized")]);
        lose_next_deletion(&standin, Stage::Acted);
        let client = client(&standin, |options| {
            options.session = policy;
            options.max_retries = 0;
        });
        assert_eq!(client.delete_instance(FIRST + 1).status, 31);
        let asked = requests(&standin, "state");
        let again = client.delete_instance(FIRST + 1);
        assert_eq!(again.status, 10, "{again:?}");
        assert_eq!(requests(&standin, "state"), asked);
        assert_eq!(requests(&standin, "logout"), 0);
    }
}

/// If somebody else deleted the instance after the list was read, its state is misleading.
#[test]
fn a_refusal_is_believed_only_from_a_list_no_older_than_the_call() {
    for policy in [1, 2, 3] {
        let standin = standin();
        standin.put_instances((1..=3).map(|index| instance(index, "notAuthorized")));
        let client = client(&standin, |options| options.session = policy);
        assert_eq!(client.delete_instance(FIRST + 1).status, 0);
        let gone = |index, time: Option<&str>| Instance {
            deleted: true,
            time_deleted: time.map(str::to_owned),
            ..instance(index, "authorized")
        };
        // The one deleted today answers as if it were starting, the other refuses its token.
        standin.put_instances([gone(2, None), gone(3, Some("2024-01-01T00:00:00"))]);
        for index in [2, 3] {
            let result = client.delete_instance(FIRST + index);
            assert_eq!(result.status, 10, "{policy}: {result:?}");
        }
        assert_eq!(requests(&standin, "logout"), 0);
        assert_eq!(lists(&standin), 3);
        // The client learns the new token of an instance with the same id.
        standin.put_instances([Instance {
            api_token: Some("renewed".into()),
            ..instance(3, "notAuthorized")
        }]);
        assert_eq!(client.delete_instance(FIRST + 3).status, 0);
    }
}

/// All deletions of a bulk share one list: a list that was requested after the last id was accepted is
/// fresh enough for each of them.
#[test]
fn two_thousand_deletions_read_the_list_twice_at_most() {
    const COUNT: i64 = 2_000;
    for policy in [1, 2, 3] {
        let standin = standin();
        // Most deletions need a list that is no older than the call, because the instance cannot be
        // asked or is not in the list.
        standin.put_instances((0..COUNT).map(|index| Instance {
            expired: index % 4 == 0,
            deleted: index % 3 == 0,
            ..instance(index, "notAuthorized")
        }));
        standin.add_faults([Rule {
            method: Target::List,
            times: Some(1),
            fault: Fault {
                hold: true,
                ..Fault::default()
            },
            ..Rule::default()
        }]);
        let client = client(&standin, |options| options.session = policy);
        let queue = support::abi::Queue::new();
        let submit = |index| assert_eq!(queue.submit(&client, FIRST + 2 * index, 0), 0);
        submit(0);
        let held = greenapi_standin::Until {
            held: Some(1),
            ..Default::default()
        };
        assert!(standin.wait(&held, std::time::Duration::from_secs(60)));
        // The rest is accepted after the request for the first list, so it needs a second one.
        (1..COUNT).for_each(submit);
        standin.release();
        let mut results = Vec::new();
        while results.len() < COUNT as usize {
            results.extend(queue.take(COUNT as usize, -1));
        }
        for result in results {
            let index = result.id - FIRST;
            let expected = match policy {
                _ if index >= COUNT || index % 3 == 0 => 10,
                1 | 2 if index % 4 == 0 => 16,
                _ => 0,
            };
            assert_eq!(result.status, expected, "{policy}: {result:?}");
        }
        assert_eq!(lists(&standin), 2, "policy {policy}");
        assert_eq!(standin.stats().rate_violations, 0);
    }
}

/// A bulk may contain an id twice. The second deletion does not rely on what the list said before the
/// first deletion was sent.
#[test]
fn the_second_of_two_deletions_of_one_id_is_told_what_is_true_then() {
    let standin = standin();
    standin.put_instances([instance(1, "notAuthorized")]);
    // The first request is lost before it is carried out.
    lose_next_deletion(&standin, Stage::Received);
    let client = client(&standin, |options| {
        options.max_in_flight = 1;
        options.max_retries = 0;
    });
    let results = client.delete_instances(&[FIRST + 1, FIRST + 1, FIRST + 1]);
    let statuses: Vec<i32> = results.iter().map(|result| result.status).collect();
    assert_eq!(statuses, [31, 0, 10], "{results:?}");
}

/// Calls that wait for the same list share the failure to read it.
#[test]
fn those_who_wait_for_a_list_share_its_failure() {
    let standin = standin();
    standin.add_faults([Rule {
        method: Target::List,
        fault: Fault {
            hold: true,
            status: Some(403),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let client = client(&standin, |_| {});
    let queue = support::abi::Queue::new();
    assert_eq!(queue.submit(&client, FIRST, 1), 0);
    let held = |count| {
        let until = greenapi_standin::Until {
            held: Some(count),
            ..Default::default()
        };
        assert!(standin.wait(&until, std::time::Duration::from_secs(60)));
    };
    held(1);
    // The rest is accepted after the request for this list, so it needs and shares another one.
    for index in 1..50 {
        assert_eq!(queue.submit(&client, FIRST + index, 0), 0);
    }
    standin.release();
    assert_eq!(queue.take(1, -1)[0].tag, 1);
    held(1);
    standin.release();
    let mut results = Vec::new();
    while results.len() < 49 {
        results.extend(queue.take(50, -1));
    }
    assert!(
        results.iter().all(|result| result.status == 12),
        "{results:?}"
    );
    assert_eq!(lists(&standin), 2);
}

/// The API may have carried out a logout whose answer cannot be read.
#[test]
fn a_logout_whose_answer_is_unreadable_is_named() {
    std::thread::scope(|scope| {
        for body in [
            "",
            "<html>ok",
            "null",
            "{}",
            "[true]",
            r#"{"isLogout":"true"}"#,
            r#"{"code":200}"#,
            r#"{"isLogout":true,"code":"200"}"#,
            "\u{feff}{\"isLogout\":true}",
        ] {
            for (policy, act) in [(2, false), (2, true), (3, false), (3, true)] {
                scope.spawn(move || {
                    let standin = standin();
                    standin.put_instances([instance(1, "authorized")]);
                    standin.add_faults([Rule {
                        method: Target::Logout,
                        fault: Fault {
                            status: Some(200),
                            body: Some(body.into()),
                            act: Some(act),
                            ..Fault::default()
                        },
                        ..Rule::default()
                    }]);
                    let client = client(&standin, |options| options.session = policy);
                    let result = client.delete_instance(FIRST + 1);
                    let (status, said) = match act {
                        false => (15, "Perhaps logged out"),
                        true => (0, "A logout was requested before"),
                    };
                    let shown = format!("{body}, policy {policy}: {result:?}");
                    assert_eq!(result.status, status, "{shown}");
                    assert!(result.message().contains(said), "{shown}");
                    assert_eq!(standin.ledger().len(), usize::from(act), "{shown}");
                });
            }
        }
    });
}

/// Every result of a call that logged the phone out, or may have, mentions the logout.
#[test]
fn a_call_that_logged_out_says_so_whatever_comes_then() {
    let rule = |method, status| Rule {
        method,
        fault: Fault {
            status: Some(status),
            body: Some(String::new()),
            ..Fault::default()
        },
        ..Rule::default()
    };
    for (rules, statuses) in [
        (vec![rule(Target::Delete, 401)], [11, 11]),
        (vec![rule(Target::Delete, 502)], [32, 32]),
        (vec![rule(Target::Logout, 500)], [15, 15]),
        // The logout is accepted but never takes effect: only TRY_LOG_OUT deletes.
        (
            vec![Rule {
                skip: 1,
                ..rule(Target::State, 500)
            }],
            [16, 0],
        ),
    ] {
        for (policy, expected) in [2, 3].into_iter().zip(statuses) {
            let standin = standin();
            standin.put_instances([instance(1, "authorized")]);
            standin.add_faults(rules.clone());
            let client = client(&standin, |options| {
                options.session = policy;
                options.max_retries = 0;
            });
            let result = client.delete_instance(FIRST + 1);
            assert_eq!(result.status, expected, "{rules:?}: {result:?}");
            let message = result.message();
            let says = message.contains("ogged out") || message.contains("logout");
            assert!(says, "{rules:?}: {result:?}");
        }
    }
    // The call is cancelled while it waits for the logout.
    let standin = standin();
    standin.put_instances([Instance {
        logout_after_ms: 60_000,
        ..instance(1, "authorized")
    }]);
    let client = client(&standin, |_| {});
    let queue = support::abi::Queue::new();
    assert_eq!(queue.submit(&client, FIRST + 1, 7), 0);
    while requests(&standin, "logout") == 0 {
        std::thread::yield_now();
    }
    assert_eq!(queue.cancel(7), 1);
    let result = queue.take(1, -1).remove(0);
    assert_eq!(result.status, 23);
    assert!(result.message().contains("ogged out"), "{result:?}");
}

#[test]
fn a_pause_that_does_not_fit_is_rate_limited_at_once() {
    for method in [Target::List, Target::State, Target::Logout] {
        let standin = standin();
        standin.put_instances([instance(1, "authorized")]);
        standin.add_faults([Rule {
            method,
            fault: Fault {
                status: Some(429),
                headers: vec![("Retry-After".into(), "3600".into())],
                ..Fault::default()
            },
            ..Rule::default()
        }]);
        let client = client(&standin, |options| options.timeout_ms = 120_000);
        let begun = std::time::Instant::now();
        let result = client.delete_instance(FIRST + 1);
        assert_eq!(result.status, 13, "{method:?}: {result:?}");
        assert!(begun.elapsed().as_secs() < 60, "{method:?}");
        assert!(standin.ledger().is_empty());
    }
}

#[test]
fn an_instances_token_is_in_no_message() {
    let standin = standin();
    let own = instance(1, "authorized");
    standin.put_instances([own.clone()]);
    let path = format!("/waInstance{}/getStateInstance/{}", own.id, own.token());
    for body in [
        serde_json::json!({ "stateInstance": path }),
        serde_json::json!({ "status": false, "reason": path }),
        serde_json::json!({ "code": 400, "description": path }),
    ] {
        standin.clear_faults();
        standin.add_faults([state_fault(200, &body.to_string())]);
        let client = client(&standin, |options| options.session = 1);
        let result = client.delete_instance(own.id);
        assert!(matches!(result.status, 15 | 16), "{result:?}");
        assert!(
            !support::shows(&result.message(), &own.token()),
            "{result:?}"
        );
    }
}

/// The deletion and the second reading of the list know the instance's token too.
#[test]
fn an_instances_token_is_in_no_message_about_something_else() {
    let own = instance(1, "notAuthorized");
    let repeats = |method, status, skip| Rule {
        method,
        skip,
        fault: Fault {
            status: Some(status),
            body: Some(
                serde_json::json!({ "code": 403, "description": format!("seen {}", own.token()) })
                    .to_string(),
            ),
            ..Fault::default()
        },
        ..Rule::default()
    };
    for (state, rule, what) in [
        (
            "notAuthorized",
            repeats(Target::Delete, 200, 0),
            "may not delete",
        ),
        (
            "notAuthorized",
            repeats(Target::Delete, 403, 0),
            "may not delete",
        ),
        ("authorized", repeats(Target::List, 403, 0), "the list"),
        ("authorized", repeats(Target::List, 200, 0), "the list"),
    ] {
        let standin = standin();
        standin.put_instances([instance(2, "notAuthorized"), instance(1, state)]);
        let client = client(&standin, |options| options.session = 1);
        // Reads the list that shows the other instance, so that its deletion reads it anew.
        assert_eq!(client.delete_instance(FIRST + 2).status, 0);
        standin.add_faults([rule]);
        let result = client.delete_instance(own.id);
        assert_eq!(result.status, 12, "{result:?}");
        let message = result.message();
        assert!(message.contains(what), "{result:?}");
        assert!(message.contains("\"seen …\""), "{result:?}");
        assert!(!support::shows(&message, &own.token()), "{result:?}");
    }
}

/// An instance's token is sent only to `instance_url`, and the partner token only to the partner
/// API.
#[test]
fn an_instance_is_asked_at_its_own_host() {
    let (partner, pools) = (standin(), standin());
    partner.set(|settings| settings.prefix = "/corp".into());
    pools.set(|settings| settings.instance_prefix = Some("/pool/{pool}".into()));
    let instances = || {
        [1_101_000_001, 7_103_000_001].map(|id| Instance {
            id,
            state: "authorized".into(),
            ..Instance::default()
        })
    };
    partner.put_instances(instances());
    pools.put_instances(instances());
    let mut options = options();
    options.session = 2;
    let url = support::abi::c_string(&format!("{}/pool/{{pool}}", pools.endpoints().http));
    options.instance_url = url.as_ptr();
    let address = format!("{}/corp", partner.endpoints().http);
    let token = &partner.endpoints().token;
    let client = Client::new(&address, token, Some(&options)).unwrap();
    for instance in instances() {
        assert_eq!(client.delete_instance(instance.id).status, 0);
    }
    assert_eq!(
        (requests(&partner, "list"), requests(&partner, "delete")),
        (1, 2)
    );
    assert_eq!(
        (requests(&pools, "state"), requests(&pools, "logout")),
        (4, 2)
    );
    for operation in ["state", "logout", "other"] {
        assert_eq!(requests(&partner, operation), 0, "{operation}");
    }
    for operation in ["list", "delete", "other"] {
        assert_eq!(requests(&pools, operation), 0, "{operation}");
    }
    let wrong = support::abi::c_string("https://{pol}.example.com");
    options.instance_url = wrong.as_ptr();
    let refused = Client::new(&address, token, Some(&options)).err().unwrap();
    assert_eq!(refused.status, 20);
    assert!(refused.message().starts_with("instance_url"), "{refused:?}");
}

fn hold_states(standin: &Standin, id: Option<i64>) {
    standin.add_faults([Rule {
        method: Target::State,
        id,
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
}

fn wait_held(standin: &Standin, count: u64) {
    let until = greenapi_standin::Until {
        held: Some(count),
        ..Default::default()
    };
    assert!(standin.wait(&until, std::time::Duration::from_secs(60)));
}

/// The answers to all states come at once, and the deletions that follow are still paced.
#[test]
fn deletions_whose_checks_end_together_are_paced_evenly() {
    const COUNT: u64 = 20;
    let standin = standin();
    standin.put_instances((0..COUNT as i64).map(|index| instance(index, "notAuthorized")));
    hold_states(&standin, None);
    let client = client(&standin, |options| options.requests_per_second = 50.0);
    let queue = support::abi::Queue::new();
    for index in 0..COUNT {
        assert_eq!(queue.submit(&client, FIRST + index as i64, index), 0);
    }
    wait_held(&standin, COUNT);
    standin.release();
    let mut done = 0;
    while done < COUNT {
        for result in queue.take(20, -1) {
            assert_eq!(result.status, 0, "{result:?}");
            done += 1;
        }
    }
    let arrivals = standin.arrivals();
    let total = arrivals[COUNT as usize - 1].at_ms - arrivals[0].at_ms;
    // 19 pauses of 20 ms are 380 ms. After a late timer the next pause may be a little shorter.
    assert!(total >= 370, "{total} ms for 20 deletions at 50 a second");
}

/// One call is asked for a pause while the state of another call's instance is being asked.
#[test]
fn a_429_holds_back_a_deletion_whose_state_is_being_asked() {
    for (pause, cancels, expected) in [
        ("1", false, (0, 1)),
        ("200", false, (26, 0)),
        ("20", true, (23, 0)),
    ] {
        let standin = standin();
        standin.put_instances([instance(1, "notAuthorized"), instance(2, "notAuthorized")]);
        hold_states(&standin, Some(FIRST + 2));
        standin.add_faults([Rule {
            method: Target::Delete,
            id: Some(FIRST + 1),
            fault: Fault {
                status: Some(429),
                headers: vec![("Retry-After".into(), pause.into())],
                ..Fault::default()
            },
            ..Rule::default()
        }]);
        let client = client(&standin, |options| {
            options.max_retries = 0;
            options.timeout_ms = 60_000;
        });
        let queue = support::abi::Queue::new();
        assert_eq!(queue.submit(&client, FIRST + 2, 2), 0);
        wait_held(&standin, 1);
        let throttled = client.delete_instance(FIRST + 1);
        assert_eq!(throttled.status, 13, "{throttled:?}");
        standin.release();
        if cancels {
            assert_eq!(queue.cancel(2), 1);
        }
        let result = queue.take(1, -1).remove(0);
        assert_eq!((result.status, result.attempts), expected, "{result:?}");
        let arrivals = standin.arrivals();
        assert_eq!(arrivals.len(), 1 + expected.1 as usize, "{pause}");
        if let [first, second] = arrivals[..] {
            let gap = second.at_ms - first.at_ms;
            assert!(gap >= 990, "the deletion came {gap} ms after the 429");
        }
    }
}
