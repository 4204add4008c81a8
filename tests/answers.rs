//! `tests/cases.json`, the table of what the library promises, through every language and every
//! way of calling, against a real server.
//!
//! A row: `fault` is what the stand-in does to the request (all `times`, or so many), `instance`
//! whether there is one, `trap`, `url` ("https": its TLS), `token` and `id` what is called instead, `max_retries` and
//! `timeout_ms` the options (rows with options are not for the one call, which has none), `pad_to`
//! the length of a body whose PAD is filled up.

mod support;

use std::collections::BTreeMap;

use greenapi_standin::{Config, Instance, Rule, Standin};
use serde::Deserialize;
use support::{shows, Driver};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "yes")]
    instance: bool,
    fault: Option<serde_json::Value>,
    times: Option<u64>,
    pad_to: Option<usize>,
    trap: Option<String>,
    url: Option<String>,
    token: Option<String>,
    id: Option<i64>,
    max_retries: Option<u32>,
    timeout_ms: Option<u32>,
    expect: Expect,
    /// What is as true, where two events race.
    or: Option<Expect>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: String,
    code: i32,
    http_status: i32,
    attempts: Option<u32>,
}

fn yes() -> bool {
    true
}

const FIRST: i64 = 2_200_000_000;

impl Case {
    fn id(&self, index: usize) -> i64 {
        self.id.unwrap_or(FIRST + index as i64)
    }

    fn rule(&self, index: usize) -> Option<Rule> {
        let mut fault = self.fault.clone()?;
        if let (Some(length), Some(body)) = (self.pad_to, fault["body"].as_str()) {
            let pad = "x".repeat(length + "PAD".len() - body.len());
            fault["body"] = body.replace("PAD", &pad).into();
        }
        let rule = serde_json::json!({
            "method": "delete", "id": self.id(index), "times": self.times, "fault": fault,
        });
        Some(serde_json::from_value(rule).unwrap_or_else(|error| panic!("{}: {error}", self.name)))
    }
}

/// Every way of calling at the same time: most of it is waiting.
fn drive(drivers: &[Driver]) {
    let cases: Vec<Case> =
        serde_json::from_str(include_str!("cases.json")).expect("the table is well-formed");
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let ways: Vec<_> = drivers
            .iter()
            .map(|driver| scope.spawn(|| wrong_rows(driver, &cases)))
            .collect();
        let rows = ways
            .into_iter()
            .flat_map(|way| way.join().expect("its message stands above"));
        rows.collect()
    });
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The rows in which this way of calling says something else.
fn wrong_rows(driver: &Driver, cases: &[Case]) -> Vec<String> {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    let endpoints = standin.endpoints();
    let mut wrong = Vec::new();
    standin.clear_instances();
    let rows = || cases.iter().enumerate();
    standin.put_instances(
        rows()
            .filter(|(_, case)| case.instance)
            .map(|(index, case)| Instance {
                id: case.id(index),
                ..Instance::default()
            }),
    );
    standin.add_faults(rows().filter_map(|(index, case)| case.rule(index)));
    // Rows that need the same environment go through one process.
    let mut groups: BTreeMap<Vec<(&str, String)>, Vec<usize>> = BTreeMap::new();
    for (index, case) in rows() {
        if driver.mode == "one_call" && (case.max_retries.is_some() || case.timeout_ms.is_some()) {
            continue;
        }
        let url = match (&case.trap, &case.url) {
            (Some(trap), _) => standin.trap(trap).to_owned(),
            (None, Some(url)) if url == "https" => endpoints.https.clone(),
            (None, Some(url)) => url.clone(),
            (None, None) => endpoints.http.clone(),
        };
        let token = case.token.clone().unwrap_or(endpoints.token.clone());
        let ca_file = endpoints.ca_file.display().to_string();
        let mut environment = vec![
            ("GREENAPI_URL", url),
            ("GREENAPI_TOKEN", token),
            ("GREENAPI_CA_FILE", ca_file.clone()),
            // What the one call trusts.
            ("SSL_CERT_FILE", ca_file),
        ];
        if let Some(retries) = case.max_retries {
            environment.push(("GREENAPI_MAX_RETRIES", retries.to_string()));
        }
        if let Some(timeout) = case.timeout_ms {
            environment.push(("GREENAPI_TIMEOUT_MS", timeout.to_string()));
        }
        groups.entry(environment).or_default().push(index);
    }
    for (environment, indexes) in groups {
        let ids: Vec<i64> = indexes
            .iter()
            .map(|index| cases[*index].id(*index))
            .collect();
        let lines = driver.delete(&environment, &ids);
        assert_eq!(
            lines.len(),
            ids.len(),
            "{} {}",
            driver.language,
            driver.mode
        );
        for index in indexes {
            let case = &cases[index];
            let line = lines
                .iter()
                .find(|line| line.id == case.id(index))
                .unwrap_or_else(|| panic!("{}: no result", case.name));
            let expect = &case.expect;
            let status = line.status.map_or("none", support::abi::status_name);
            let meets = |expect: &Expect| {
                let named = status == format!("GREENAPI_STATUS_{}", expect.status)
                    || (line.status.is_none()
                        && line.name == "ok"
                        && matches!(&*expect.status, "OK" | "GONE"));
                named
                    && line.code.is_none_or(|got| got == expect.code)
                    && line.http_status.is_none_or(|got| got == expect.http_status)
                    && line
                        .attempts
                        .zip(expect.attempts)
                        .is_none_or(|(got, expected)| got == expected)
            };
            let right =
                (meets(expect) || case.or.as_ref().is_some_and(meets)) && !line.message.is_empty();
            if !right {
                wrong.push(format!(
                    "{} {}: {}: expected {} {}, got {status} {line:?}",
                    driver.language, driver.mode, case.name, expect.status, expect.code
                ));
            }
            let token = case.token.as_ref().unwrap_or(&endpoints.token);
            assert!(
                !shows(&line.message, token),
                "{}: {}",
                case.name,
                line.message
            );
        }
    }
    wrong
}

#[test]
fn in_c() {
    drive(&Driver::of("c"));
}

#[test]
fn in_cpp() {
    drive(&Driver::of("c++"));
}

#[test]
fn in_python() {
    drive(&Driver::of("python"));
}

#[test]
fn in_go() {
    drive(&Driver::of("go"));
}
