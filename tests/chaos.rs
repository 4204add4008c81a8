//! Thousands of deletions through faults chosen at random at every stage, by many threads, and
//! then each word of the library held against the stand-in's ledger. Not one contradiction is
//! allowed: 0–9 means that the ledger says deleted, 10–29 that this call did not delete it.
//!
//! The seed is printed; `GREENAPI_SEED=n cargo test --test chaos` gives it again.

mod support;

use std::collections::BTreeMap;
use std::sync::Mutex;

use greenapi_standin::{Config, Fault, Rule, Standin, Target, Then};
use support::abi::{options, Client, RawResult};

const THREADS: i64 = 16;
const EACH: i64 = 150;
const FIRST: i64 = 4_000_000_000;

fn seed() -> u64 {
    let seed = std::env::var("GREENAPI_SEED")
        .map(|seed| seed.parse().expect("GREENAPI_SEED is a number"))
        .unwrap_or_else(|_| u64::from(std::process::id()) ^ 0x5eed_0000);
    println!("GREENAPI_SEED={seed}");
    seed
}

/// Every stage times every way to end, and answers that are no success, before and after acting.
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
                // A server that refuses for its rate has not acted.
                continue;
            }
            faults.push(Fault {
                status: Some(status),
                act: Some(act),
                ..Fault::default()
            });
        }
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
            0..=9 => assert!(deleted, "said to be gone, and is not: {result:?}"),
            10..=29 => assert!(!deleted, "said not to be deleted, and is: {result:?}"),
            _ => {}
        }
    }
    println!("{counts:?}");
    assert!(counts.len() > 3, "chaos has more than {counts:?}");
}

fn chaos(url: impl Fn(&Standin) -> String) {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, (THREADS * EACH) as u32, None);
    let seed = seed();
    standin.set(|settings| settings.seed = seed);
    let faults = faults();
    // The first rule that fires is the one, so each has the same share of what is left.
    let share = 0.4 / faults.len() as f64;
    standin.add_faults(faults.into_iter().map(|fault| Rule {
        method: Target::Delete,
        chance: share,
        fault,
        ..Rule::default()
    }));
    let endpoints = standin.endpoints();
    let ca_file = support::abi::c_string(&endpoints.ca_file.display().to_string());
    let mut options = options();
    options.ca_file = ca_file.as_ptr();
    options.timeout_ms = 1_000;
    options.max_retries = 2;
    let client = Client::new(&url(&standin), &endpoints.token, Some(&options)).unwrap();
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (client, results) = (&client, &results);
            scope.spawn(move || {
                for index in 0..EACH {
                    let result = client.delete_instance(FIRST + thread * EACH + index);
                    results.lock().unwrap().push(result);
                }
            });
        }
    });
    check(&standin, &results.into_inner().unwrap());
}

#[test]
fn over_plain_http() {
    chaos(|standin| standin.endpoints().http.clone());
}

#[test]
fn over_tls() {
    chaos(|standin| standin.endpoints().https_h1.clone());
}

#[test]
fn over_http2() {
    chaos(|standin| standin.endpoints().https.clone());
}
