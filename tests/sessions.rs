//! The session policy, from every language: each state times each policy, devices that do not log
//! out, lists that cannot be had, and a bulk run with chaos against the ledger.

mod support;

use greenapi_standin::{Config, Fault, Instance, Rule, Standin, Target, Then};
use support::abi::{options, status_name, Client, RawOptions};
use support::Driver;

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

fn every_state_and_policy(drivers: &[Driver]) {
    let standin = standin();
    for driver in drivers.iter().filter(|driver| driver.mode != "one_call") {
        for (policy, name) in [(0, "ignore"), (1, "require_logged_out"), (2, "log_out")] {
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
            let endpoints = standin.endpoints();
            let environment = [
                ("GREENAPI_URL", endpoints.http.clone()),
                ("GREENAPI_TOKEN", endpoints.token.clone()),
                ("GREENAPI_SESSION", policy.to_string()),
            ];
            let lines = driver.delete(&environment, &ids);
            assert_eq!(lines.len(), ids.len());
            for line in lines {
                let index = (line.id - FIRST) as usize;
                let expected = match (STATES.get(index), policy) {
                    (None, _) => "GREENAPI_STATUS_NOT_FOUND",
                    (Some(_), 0 | 2) | (Some(&"notAuthorized"), _) => "GREENAPI_STATUS_OK",
                    _ => "GREENAPI_STATUS_SESSION_ACTIVE",
                };
                let shown = format!("{} {} {name}: {line:?}", driver.language, driver.mode);
                assert_eq!(line.status.map(status_name), Some(expected), "{shown}");
                if expected == "GREENAPI_STATUS_SESSION_ACTIVE" {
                    assert!(line.message.contains(STATES[index]), "{shown}");
                    assert_eq!(line.attempts, Some(0), "{shown}");
                }
                if policy == 2 && index > 0 && index < STATES.len() {
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
fn what_cannot_be_learned_deletes_nothing() {
    let body = |status: u16, body: &str| Fault {
        status: Some(status),
        body: Some(body.into()),
        ..Fault::default()
    };
    let cut = |then| Fault {
        stage: Some(serde_json::from_value("half_body".into()).unwrap()),
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
fn a_list_of_100_000_is_read_once_and_a_new_instance_is_found() {
    let standin = standin();
    standin.fill(FIRST, 100_000, Some("notAuthorized"));
    let client = client(&standin, |_| {});
    let ids: Vec<i64> = (0..50).map(|index| FIRST + index * 1_999).collect();
    assert!(client
        .delete_instances(&ids)
        .iter()
        .all(|result| result.status == 0));
    let lists = || {
        let stats = serde_json::to_value(standin.stats()).unwrap();
        stats["requests"]["list"].as_u64().unwrap_or_default()
    };
    assert_eq!(lists(), 1);
    standin.put_instances([instance(200_000, "notAuthorized")]);
    assert_eq!(client.delete_instance(FIRST + 200_000).status, 0);
    assert_eq!(lists(), 2);
}

/// 2,000 instances in mixed states, with chaos: none was deleted while it was logged in.
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
                stage: Some(serde_json::from_value("received".into()).unwrap()),
                then: Some(Then::Reset),
                ..Fault::default()
            },
        ),
        fault(
            0.02,
            Fault {
                stage: Some(serde_json::from_value("acted".into()).unwrap()),
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
