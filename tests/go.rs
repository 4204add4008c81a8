//! Go's own tests, with its race detector and its strictest check of pointers.

mod support;

use support::{go_command, is_left_out, root, run, standin_program};

fn go(arguments: &[&str], experiment: &str) {
    if is_left_out("go") {
        return;
    }
    let said = run(go_command(&root().join("bindings/go"))
        .env("GREENAPI_STANDIN", standin_program())
        .env("GOEXPERIMENT", experiment)
        .args(arguments));
    println!("{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn vet() {
    go(&["vet", "./..."], "");
}

#[test]
fn test_with_the_race_detector() {
    go(&["test", "-race", "-count=1", "./..."], "");
}

#[test]
fn test_with_every_pointer_checked() {
    go(&["test", "-count=1", "./..."], "cgocheck2");
}
