//! Runs the programs of `examples/other-languages` whose language is installed.
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use greenapi_standin::{Config, Fault, Rule, Standin, Until};
use support::{is_left_out, leave_out, library, root, run, scratch};

const GONE: &str = "The instance was deleted.";
const ABSENT: &str = "The instance does not exist";

fn example(name: &str) -> PathBuf {
    root().join("examples/other-languages").join(name)
}

/// Whether `program` runs on this machine; if not, the end of the test run lists it as left out.
fn is_there(program: &str, arguments: &[&str], language: &str) -> bool {
    if is_left_out(language) {
        return false;
    }
    let there = Command::new(program)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success());
    if !there {
        leave_out(&format!(
            "the example in {language}: `{program} {}` does not run on this machine",
            arguments.join(" ")
        ));
    }
    there
}

fn node() -> Option<Command> {
    if !is_there("node", &["--version"], "node") || !is_there("npm", &["--version"], "node") {
        return None;
    }
    static KOFFI: OnceLock<PathBuf> = OnceLock::new();
    let modules = KOFFI.get_or_init(|| {
        let folder = scratch("node");
        run(Command::new("npm")
            .args(["install", "--silent", "--no-save", "--prefix"])
            .arg(&folder)
            .arg("koffi@3"));
        folder.join("node_modules")
    });
    let mut command = Command::new("node");
    command.env("NODE_PATH", modules).arg(example("delete.js"));
    Some(command)
}

fn php() -> Option<Command> {
    let uses_ffi = "new ReflectionClass('FFI');";
    is_there("php", &["-r", uses_ffi], "php").then(|| {
        let mut command = Command::new("php");
        command.arg(example("delete.php"));
        command
    })
}

fn java() -> Option<Command> {
    // `java Delete.java` compiles the source, which needs a JDK.
    if !is_there("javac", &["--version"], "java") {
        return None;
    }
    let debian = Path::new("/usr/share/java/jna.jar");
    let jar = if debian.exists() {
        debian.to_owned()
    } else {
        if !is_there("mvn", &["--version"], "java") {
            return None;
        }
        let jar = scratch("java").join("jna-5.19.1.jar");
        if !jar.exists() {
            run(Command::new("mvn")
                .args(["--quiet", "dependency:copy"])
                .arg("-Dartifact=net.java.dev.jna:jna:5.19.1")
                .arg(format!("-DoutputDirectory={}", scratch("java").display()))
                .current_dir(scratch("java")));
        }
        jar
    };
    let mut command = Command::new("java");
    command.arg("-cp").arg(jar).arg(example("Delete.java"));
    Some(command)
}

/// Returns the exit status and all output.
fn delete(mut command: Command, standin: &Standin, ids: &[&str]) -> (Option<i32>, String) {
    let output = with_standin(&mut command, standin, ids).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&printed).into_owned(),
    )
}

fn with_standin<'a>(command: &'a mut Command, standin: &Standin, ids: &[&str]) -> &'a mut Command {
    let endpoints = standin.endpoints();
    command
        .env("GREENAPI_LIBRARY", library())
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token)
        .args(ids)
        .stdin(Stdio::null())
}

/// Deletes one and several instances, some of which do not exist.
fn check(language: fn() -> Option<Command>) {
    let Some(command) = language() else { return };
    let standin = Standin::start(Config::default()).unwrap();
    let (status, printed) = delete(command, &standin, &["1101000001"]);
    assert_eq!(
        (status, printed.contains(GONE)),
        (Some(0), true),
        "{printed}"
    );

    let (status, printed) = delete(language().unwrap(), &standin, &["1101000001"]);
    assert_eq!(
        (status, printed.contains(ABSENT)),
        (Some(1), true),
        "{printed}"
    );

    let ids = ["1101000001", "1101000002", "1101000003"];
    let (status, printed) = delete(language().unwrap(), &standin, &ids);
    assert_eq!(status, Some(1), "{printed}");
    assert_eq!(printed.matches(GONE).count(), 2, "{printed}");
    assert_eq!(printed.matches(ABSENT).count(), 1, "{printed}");
    assert_eq!(standin.ledger().len(), 3);

    // An incomplete answer leaves the outcome unknown.
    standin.add_faults([Rule {
        fault: Fault {
            body: Some("{".into()),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let (status, printed) = delete(language().unwrap(), &standin, &["1101000004"]);
    assert_eq!(status, Some(3), "{printed}");
}

/// Waiting for deletions does not block the language's runtime: its Ctrl-C handler cancels them.
fn check_interrupt(language: fn() -> Option<Command>) {
    let Some(mut command) = language() else {
        return;
    };
    let standin = Standin::start(Config::default()).unwrap();
    standin.add_faults([Rule {
        fault: Fault {
            hold: true,
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let child = support::with_ctrl_c(&mut command);
    let child = with_standin(child, &standin, &["1101000001", "1101000002"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let both_held = Until {
        held: Some(2),
        ..Until::default()
    };
    assert!(standin.wait(&both_held, Duration::from_secs(60)));
    run(Command::new("kill").args(["-INT", &child.id().to_string()]));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.matches("ancelled").count(), 2, "{printed}");
    assert!(standin.ledger().is_empty());
}

#[test]
fn node_deletes() {
    check(node);
}

#[test]
fn node_is_not_blocked() {
    check_interrupt(node);
}

#[test]
fn php_deletes() {
    check(php);
}

#[test]
fn php_is_not_blocked() {
    check_interrupt(php);
}

#[test]
fn java_deletes() {
    check(java);
}
