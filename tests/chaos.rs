//! Many threads delete thousands of instances while the stand-in injects random faults at every
//! stage. Then each result is compared with the stand-in's ledger: an instance whose status is 0–9
//! must have been deleted, an instance whose status is 10–29 must not.
//!
//! The seed is printed; `GREENAPI_SEED=n cargo test --test chaos` repeats a run. To run a million
//! deletions: `GREENAPI_CHAOS=330000 cargo test --test chaos -- --nocapture`.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use greenapi_standin::{Config, Fault, Rule, Standin, Target, Then};
use support::abi::{options, Client, RawResult};

const THREADS: usize = 16;
/// Deletions in each test, unless `GREENAPI_CHAOS` gives another number.
const DELETIONS: i64 = 2_400;
const FIRST: i64 = 4_000_000_000;

fn seed() -> u64 {
    let seed = std::env::var("GREENAPI_SEED")
        .map(|seed| seed.parse().expect("GREENAPI_SEED is a number"))
        .unwrap_or_else(|_| u64::from(std::process::id()) ^ 0x5eed_0000);
    println!("GREENAPI_SEED={seed}");
    seed
}

/// Every stage with every kind of hang-up, and error answers with and without the deletion.
fn faults() -> Vec<Fault> {
    let stages = [
        "head",
        "received",
        "acted",
        "half_head",
        "half_body",
        "answered",
    ];
    let mut faults = Vec::new();
    for stage in stages {
        for then in [Then::Fin, Then::Reset, Then::CloseUnannounced, Then::Stall] {
            if stage == "answered" && then == Then::Stall {
                continue;
            }
            faults.push(Fault {
                stage: Some(serde_json::from_value(stage.into()).expect("a stage")),
                then: Some(then),
                ..Fault::default()
            });
        }
    }
    for status in [429, 499, 500, 502, 503] {
        for act in [false, true] {
            if status == 429 && act {
                // A server that answers 429 has not carried the request out.
                continue;
            }
            faults.push(Fault {
                status: Some(status),
                act: Some(act),
                ..Fault::default()
            });
        }
    }
    // Some of these codes promise that the request was not processed. Over HTTP/1.1: a hang-up.
    for code in [0, 1, 2, 7, 8, 11] {
        faults.push(Fault {
            h2_goaway: Some(code),
            ..Fault::default()
        });
        faults.push(Fault {
            h2_reset: Some(code),
            ..Fault::default()
        });
    }
    for act in [false, true] {
        faults.push(Fault {
            status: Some(200),
            body: Some("<html>".into()),
            act: Some(act),
            ..Fault::default()
        });
    }
    faults
}

fn check(standin: &Standin, results: &[RawResult]) {
    let ledger: BTreeMap<i64, u64> = standin
        .ledger()
        .iter()
        .map(|gone| (gone.id, gone.n))
        .collect();
    let mut counts = BTreeMap::new();
    for result in results {
        let deleted = ledger.contains_key(&result.id);
        *counts
            .entry(support::abi::status_name(result.status))
            .or_insert(0) += 1;
        match result.status {
            0..=9 => assert!(deleted, "reported as gone, but still there: {result:?}"),
            10..=29 => assert!(!deleted, "reported as not deleted, but gone: {result:?}"),
            _ => {}
        }
    }
    println!("{counts:?}");
    assert!(counts.len() > 3, "too few different statuses: {counts:?}");
}

fn deletions() -> i64 {
    std::env::var("GREENAPI_CHAOS").map_or(DELETIONS, |count| {
        count.parse().expect("GREENAPI_CHAOS is a number")
    })
}

/// `TRY_LOG_OUT` too deletes a logged-in instance only after the API has answered a logout.
const POLICIES: [u32; 4] = [0, 1, 2, 3];

fn chaos(url: impl Fn(&Standin) -> String, session: u32, count: i64) {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, count as u32, None);
    standin.fill(FIRST, count as u32 / 2, Some("notAuthorized"));
    let seed = seed();
    standin.set(|settings| settings.seed = seed);
    let faults = faults();
    // Each rule sees only requests that no earlier rule took, so later rules apply a little less.
    let share = 0.4 / faults.len() as f64;
    let targets: &[Target] = match session {
        0 => &[Target::Delete],
        _ => &[Target::Delete, Target::State, Target::Logout],
    };
    standin.add_faults(targets.iter().flat_map(|method| {
        faults.iter().map(|fault| Rule {
            method: *method,
            chance: share,
            fault: fault.clone(),
            ..Rule::default()
        })
    }));
    let endpoints = standin.endpoints();
    let ca_file = support::abi::c_string(&endpoints.ca_file.display().to_string());
    let mut options = options();
    options.ca_file = ca_file.as_ptr();
    options.timeout_ms = if session == 0 { 1_000 } else { 8_000 };
    options.max_retries = 2;
    options.max_in_flight = 512;
    options.session = session;
    let client = Client::new(&url(&standin), &endpoints.token, Some(&options)).unwrap();
    let results = Mutex::new(Vec::new());
    let ids: Vec<i64> = (FIRST..FIRST + count).collect();
    std::thread::scope(|scope| {
        for ids in ids.chunks(ids.len().div_ceil(THREADS)) {
            let (client, results) = (&client, &results);
            scope.spawn(move || {
                let (first, rest) = ids.split_at(ids.len().min(75));
                let mut some: Vec<RawResult> =
                    first.iter().map(|id| client.delete_instance(*id)).collect();
                some.extend(client.delete_instances(rest));
                results.lock().unwrap().extend(some);
            });
        }
    });
    let results = results.into_inner().unwrap();
    assert_eq!(results.len(), ids.len());
    check(&standin, &results);
    if matches!(session, 1 | 2) {
        let logged_in = standin
            .ledger()
            .into_iter()
            .find(|gone| gone.state != "notAuthorized");
        assert!(logged_in.is_none(), "{logged_in:?}");
    }
}

#[test]
fn over_plain_http() {
    chaos(|standin| standin.endpoints().http.clone(), 0, deletions());
}

#[test]
fn over_tls() {
    chaos(
        |standin| standin.endpoints().https_h1.clone(),
        0,
        deletions(),
    );
}

#[test]
fn over_http2() {
    chaos(|standin| standin.endpoints().https.clone(), 0, deletions());
}

#[test]
fn under_every_session_policy() {
    for session in POLICIES {
        // Fewer, because each deletion takes a second: it includes a logout.
        let count = deletions() / 16;
        chaos(|standin| standin.endpoints().https.clone(), session, count);
    }
}
