//! The program and its control interface, as tests in other languages use them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use greenapi_standin::FIRST_ID;
use serde_json::{json, Value};

use crate::client::*;

struct Program {
    child: Child,
    endpoints: Value,
}

impl Program {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_greenapi-standin"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        Program {
            child,
            endpoints: serde_json::from_str(&line).expect("one line of JSON"),
        }
    }

    fn url(&self, name: &str) -> &str {
        self.endpoints[name].as_str().expect("a text")
    }

    fn control(&self, method: &str, path: &str, body: Value) -> Reply {
        let request = post(path, &body.to_string()).replacen("POST", method, 1);
        ask(self.url("control"), &request)
    }

    fn done(&self, method: &str, path: &str, body: Value) {
        let reply = self.control(method, path, body);
        assert_eq!(reply.status, 200, "{reply:?}");
    }

    fn read(&self, path: &str) -> Value {
        ask(self.url("control"), &get(path)).json()
    }

    fn delete(&self, id: i64) -> Reply {
        let path = format!("/partner/deleteInstanceAccount/{}", self.url("token"));
        let body = json!({ "idInstance": id }).to_string();
        ask(self.url("http"), &post(&path, &body))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_ends_with_its_input_and_removes_its_directory() {
    let mut program = Program::start(&["--token", "t/ö", "--instances", "1"]);
    let ca_file = program.url("ca_file").to_owned();
    assert!(Path::new(&ca_file).is_file());
    assert_eq!(program.url("token"), "t/ö");
    drop(program.child.stdin.take());
    assert!(program.child.wait().expect("an end").success());
    assert!(!Path::new(&ca_file).exists());
}

#[test]
fn everything_can_be_controlled() {
    let program = Program::start(&[]);
    program.done(
        "POST",
        "/instances",
        json!([{"id": 5, "state": "sleepMode"}]),
    );
    program.done(
        "POST",
        "/instances",
        json!({"first": 100, "count": 3, "state": "blocked"}),
    );
    program.done(
        "POST",
        "/faults",
        json!([
            {"method": "delete", "id": 5, "times": 1, "fault": {"status": 500, "act": true}},
            {"method": "delete", "id": 101, "fault": {"stage": "acted", "then": "stall"}},
        ]),
    );
    assert_eq!(program.delete(5).status, 500);
    assert_eq!(program.delete(5).json()["code"], 404);
    program.done("DELETE", "/faults", Value::Null);
    assert_eq!(program.delete(101).json()["deleteInstanceAccount"], true);
    assert_eq!(
        program.read("/ledger"),
        json!([{"id": 5, "state": "sleepMode", "n": 1}, {"id": 101, "state": "blocked", "n": 2}])
    );
    assert_eq!(
        program.read("/requests")["5"],
        json!({"received": 2, "carried_out": 1})
    );
    assert_eq!(
        program.read("/wait?received=3&connections=3"),
        json!({"ok": true})
    );
    assert_eq!(program.read("/wait?received=4&timeout_ms=10")["ok"], false);
    assert_eq!(program.read("/stats")["requests"], json!({"delete": 3}));
    assert_eq!(program.read("/arrivals")[2]["id"], 101);

    program.done(
        "POST",
        "/settings",
        json!({"list_forbidden": true, "seed": 9}),
    );
    let settings = program.read("/settings");
    assert_eq!(settings["list_forbidden"], true);
    assert_eq!(settings["max_concurrent_streams"], 128);

    let target = authority(program.url("http"));
    let relay = program.control("POST", "/relay", json!({"target": target, "delay_ms": 1}));
    let address = relay.json()["address"].as_str().expect("a text").to_owned();
    assert_eq!(ask(&address, &get("/")).status, 404);

    assert_eq!(
        program.control("POST", "/release", Value::Null).json()["released"],
        0
    );
    program.done("POST", "/reset", Value::Null);
    assert_eq!(program.read("/ledger"), json!([]));
    assert_eq!(program.read("/settings")["list_forbidden"], false);
    assert_eq!(
        program.delete(FIRST_ID).json()["deleteInstanceAccount"],
        true
    );
    program.done("DELETE", "/instances", Value::Null);
    assert_eq!(program.delete(FIRST_ID + 1).json()["code"], 404);
}

#[test]
fn a_refusal_names_the_wrong_field() {
    let program = Program::start(&[]);
    for (method, path, body, expected) in [
        ("POST", "/faults", json!([{"falt": {}}]), "falt"),
        ("POST", "/settings", json!({"sed": 1}), "sed"),
        ("POST", "/instances", json!({"first": 1}), "count"),
        (
            "POST",
            "/relay",
            json!({"target": "192.0.2.1:80"}),
            "loopback",
        ),
        ("GET", "/wait?recieved=1", Value::Null, "recieved"),
    ] {
        let reply = program.control(method, path, body);
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(expected), "{reply:?}");
    }
    assert_eq!(program.control("PUT", "/", Value::Null).status, 404);
}
