//! Python's own tests, and its types.

mod support;

use support::{is_left_out, python, python_command, root, run, standin_program};

#[test]
fn pytest() {
    if is_left_out("python") {
        return;
    }
    let said = run(python_command()
        .current_dir(root().join("bindings/python"))
        .env("GREENAPI_STANDIN", standin_program())
        .args([
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "-p",
            "no:cacheprovider",
            "tests",
        ]));
    println!("{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn mypy() {
    if is_left_out("python") {
        return;
    }
    run(std::process::Command::new(python())
        .current_dir(root().join("bindings/python"))
        .args([
            "-m",
            "mypy",
            "--strict",
            "src/greenapi",
            "../../tests/drivers/driver.py",
        ]));
}
