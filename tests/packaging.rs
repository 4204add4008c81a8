//! Installs the library for C and C++, and builds against the installed files in every documented
//! way.

mod support;

use std::process::Command;

use support::{is_left_out, library_dir, root, run, standin_program};

#[test]
fn programs_build_against_every_kind_of_installation() {
    if is_left_out("c") || is_left_out("c++") {
        return;
    }
    let said = run(Command::new(root().join("tests/packaging/run.sh"))
        .env("LIBRARY_DIR", library_dir())
        .env("GREENAPI_STANDIN", standin_program()));
    println!("{}", String::from_utf8_lossy(&said.stdout));
}
