//! Compiles and runs the examples of the READMEs and of `examples/`.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use greenapi_standin::{Config, Standin};
use support::{compile, fenced, go_command, is_left_out, python_command, root, run, scratch};

fn write(name: &str, text: &str) -> PathBuf {
    let path = scratch("readme").join(name);
    fs::write(&path, text).unwrap();
    path
}

/// Runs a program with two ids, one of which is logged in. The program must delete both instances.
fn check(mut command: Command) {
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    command
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token)
        .args(["1101000001", "1101000002"]);
    run(&mut command);
    assert_eq!(standin.ledger().len(), 2);
}

#[test]
fn c() {
    if !is_left_out("c") {
        check(Command::new(compile(&write("readme.c", &fenced("c")), &[])));
    }
}

#[test]
fn cpp() {
    if !is_left_out("c++") {
        check(Command::new(compile(
            &write("readme.cpp", &fenced("cpp")),
            &[],
        )));
    }
}

#[test]
fn python() {
    if !is_left_out("python") {
        let mut command = python_command();
        command.arg(write("readme.py", &fenced("python")));
        check(command);
    }
}

#[test]
fn go() {
    if is_left_out("go") {
        return;
    }
    let folder = scratch("readme/go");
    fs::write(folder.join("main.go"), fenced("go")).unwrap();
    let module = "github.com/greenapi/greenapi/bindings/go";
    let bindings = root().join("bindings/go");
    fs::write(
        folder.join("go.mod"),
        format!(
            "module readme\n\ngo 1.23\n\nrequire {module} v0.0.0\n\nreplace {module} => {}\n",
            bindings.display()
        ),
    )
    .unwrap();
    let program = folder.join("readme");
    run(go_command(&folder)
        .args(["build", "-o"])
        .arg(&program)
        .arg("."));
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", support::installed().join("lib"));
    check(command);
}

fn example(source: &Path, ids: &[&str], expected: usize) {
    let program = compile(source, &[]);
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    run(Command::new(program)
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token)
        .args(ids));
    assert_eq!(standin.ledger().len(), expected, "{}", source.display());
}

/// Every file of `examples` is run.
#[test]
fn examples() {
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let language = match path.extension().and_then(|extension| extension.to_str()) {
            Some("c") => "c",
            Some("cpp") => "c++",
            // .ci/run runs demo.rs, because it is the README's first command.
            _ => continue,
        };
        if is_left_out(language) {
            continue;
        }
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some("delete") => example(&path, &["1101000001"], 1),
            _ => example(&path, &["1101000001", "1101000002", "1101000003"], 3),
        }
    }
}
