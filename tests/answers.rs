//! Runs `tests/cases.json`, a table of faults and the results that they must give, in every
//! language and through every function that deletes, against a real server.
//!
//! A row has a `name`, the result to `expect`, and these optional fields:
//!
//! - `fault`: what the stand-in does to the row's request, `times` times or always.
//! - `instance`: whether the instance exists (default true).
//! - `url` ("https": that of the stand-in), `trap`, `token`, `id`: used instead of the usual ones.
//! - `max_retries`, `timeout_ms`: options. `greenapi_delete_instance` takes no options and skips
//!   these rows.
//! - `pad_to`: the length to which `PAD` in the body is extended.
//!
//! A row with `list` lists the account's instances, with or without their states. The account holds
//! the instances of `account` and `fill` generated ones; `fault` affects the requests for the list.
//! `instances` are the expected instances in order; a row without it gives only their `count`.

mod support;

use std::collections::BTreeMap;

use greenapi_standin::{Config, Instance, Rule, Standin};
use serde::Deserialize;
use support::{shows, Driver, Line, ListedInstance};

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
    /// Another permitted result, where two events race.
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListCase {
    name: String,
    list: ListOf,
    #[serde(default)]
    account: Vec<Instance>,
    #[serde(default)]
    fill: u32,
    fault: Option<serde_json::Value>,
    times: Option<u64>,
    token: Option<String>,
    max_retries: Option<u32>,
    timeout_ms: Option<u32>,
    expect: Expect,
    instances: Option<Vec<ListedInstance>>,
    #[serde(default)]
    count: usize,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum ListOf {
    Instances,
    States,
}

fn yes() -> bool {
    true
}

impl Expect {
    /// Whether a driver's line matches. Fields that the driver's language does not report match.
    fn is_met_by(&self, line: &Line) -> bool {
        let named = match line.status {
            Some(status) => {
                support::abi::status_name(status) == format!("GREENAPI_STATUS_{}", self.status)
            }
            None => line.name == "ok" && matches!(&*self.status, "OK" | "GONE"),
        };
        let attempts = line.attempts.zip(self.attempts);
        named
            && line.code.is_none_or(|got| got == self.code)
            && line.http_status.is_none_or(|got| got == self.http_status)
            && attempts.is_none_or(|(got, expected)| got == expected)
    }
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

/// Runs all drivers at the same time, because they mostly wait for the server.
fn drive(drivers: &[Driver]) {
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("cases.json")).expect("the table is well-formed");
    let (lists, deletions) = rows.into_iter().partition(|row| row.get("list").is_some());
    let cases: Vec<Case> = read(deletions);
    let lists: Vec<ListCase> = read(lists);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let ways: Vec<_> = drivers
            .iter()
            .map(|driver| {
                scope.spawn(|| match driver.lists() {
                    true => wrong_lists(driver, &lists),
                    false => wrong_rows(driver, &cases),
                })
            })
            .collect();
        let rows = ways
            .into_iter()
            .flat_map(|way| way.join().expect("no panic: see the message above"));
        rows.collect()
    });
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn read<T: serde::de::DeserializeOwned>(rows: Vec<serde_json::Value>) -> Vec<T> {
    let read = |row: serde_json::Value| {
        let name = row["name"].to_string();
        serde_json::from_value(row).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    rows.into_iter().map(read).collect()
}

/// The list rows for which this driver reports something else than expected.
fn wrong_lists(driver: &Driver, cases: &[ListCase]) -> Vec<String> {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    let endpoints = standin.endpoints();
    let mut wrong = Vec::new();
    for case in cases {
        standin.clear_faults();
        standin.clear_instances();
        standin.put_instances(case.account.clone());
        standin.fill(1, case.fill, None);
        standin.add_faults(case.fault.clone().map(|fault| {
            let rule = serde_json::json!({"method": "list", "times": case.times, "fault": fault});
            serde_json::from_value::<Rule>(rule)
                .unwrap_or_else(|error| panic!("{}: {error}", case.name))
        }));
        let token = case.token.as_ref().unwrap_or(&endpoints.token);
        let mut environment = vec![
            ("GREENAPI_URL", endpoints.http.clone()),
            ("GREENAPI_TOKEN", token.clone()),
            // A driver that takes UTC for local time fails here, even on a machine set to UTC.
            ("TZ", "Asia/Kathmandu".to_owned()),
        ];
        if case.list == ListOf::States {
            environment.push(("GREENAPI_STATES", "1".to_owned()));
        }
        if let Some(retries) = case.max_retries {
            environment.push(("GREENAPI_MAX_RETRIES", retries.to_string()));
        }
        if let Some(timeout) = case.timeout_ms {
            environment.push(("GREENAPI_TIMEOUT_MS", timeout.to_string()));
        }
        let (instances, end) = driver.list(&environment);
        let as_expected = match &case.instances {
            Some(expected) => *expected == instances,
            None => instances.len() == case.count,
        };
        if !as_expected || !case.expect.is_met_by(&end) || end.message.is_empty() {
            wrong.push(format!(
                "{} {}: {}: expected {} {} and {:?}, got {end:?} and {instances:?}",
                driver.language,
                driver.mode,
                case.name,
                case.expect.status,
                case.expect.code,
                case.instances
            ));
        }
        assert!(
            !shows(&end.message, token),
            "{}: {}",
            case.name,
            end.message
        );
    }
    wrong
}

/// The rows for which this driver reports something else than expected.
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
    // One process runs all rows that need the same environment.
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
            // greenapi_delete_instance takes no ca_file.
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
            let right = (expect.is_met_by(line)
                || case.or.as_ref().is_some_and(|other| other.is_met_by(line)))
                && !line.message.is_empty();
            if !right {
                wrong.push(format!(
                    "{} {}: {}: expected {} {}, got {line:?}",
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
    drive(&Driver::all("c"));
}

#[test]
fn in_cpp() {
    drive(&Driver::all("c++"));
}

#[test]
fn in_python() {
    drive(&Driver::all("python"));
}

#[test]
fn in_go() {
    drive(&Driver::all("go"));
}
