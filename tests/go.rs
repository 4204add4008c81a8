//! Runs the tests of the Go module with the race detector and with cgo's strictest pointer checks.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use greenapi_standin::{Config, Standin};
use support::{go_command, installed, is_left_out, root, run, scratch, standin_program};

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

/// With the tag `greenapi_static` the program contains the library, even where the shared object is
/// installed beside the archive.
#[test]
fn linked_statically() {
    if !is_left_out("go") {
        link_statically("delete-go-static", &installed().join("lib/pkgconfig"));
    }
}

/// The tag needs only greenapi-static.pc and the files that it names.
#[test]
fn linked_statically_by_greenapi_static_alone() {
    if is_left_out("go") {
        return;
    }
    let prefix = scratch("static-only");
    for file in [
        "include/greenapi.h",
        "lib/libgreenapi.a",
        "lib/pkgconfig/greenapi-static.pc",
    ] {
        let copy = prefix.join(file);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(installed().join(file), copy).unwrap();
    }
    link_statically("delete-go-static-alone", &prefix.join("lib/pkgconfig"));
}

fn link_statically(name: &str, pkg_config_path: &Path) {
    let program = scratch("programs").join(name);
    run(go_command(&root().join("bindings/go"))
        .args(["build", "-tags", "greenapi_static", "-o"])
        .arg(&program)
        .arg("./examples/delete")
        .env("PKG_CONFIG_LIBDIR", pkg_config_path)
        .env_remove("PKG_CONFIG_PATH")
        // Go's cache ignores PKG_CONFIG_PATH, so another flag makes it build again.
        .env(
            "CGO_CFLAGS",
            format!("-g -O2 -DGREENAPI_STATIC_{}", name.len()),
        ));
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    run(Command::new(program)
        .arg("1101000001")
        .env_remove("LD_LIBRARY_PATH")
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token));
    assert_eq!(standin.ledger().len(), 1);
}

/// pkg-config's message must be the one that the README's table of errors explains.
#[test]
fn a_build_without_the_library_gives_the_error_in_the_readme() {
    if is_left_out("go") {
        return;
    }
    let folder = root().join("bindings/go");
    let output = go_command(&folder)
        .args(["build", "."])
        .env("PKG_CONFIG_LIBDIR", scratch("nothing"))
        .env_remove("PKG_CONFIG_PATH")
        // Without a flag that was never used before, Go would take the package from its cache.
        .env("CGO_CFLAGS", "-DGREENAPI_IS_MISSING")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let sentence = "Package greenapi was not found in the pkg-config search path";
    assert!(said.contains(sentence), "{said}");
    let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
    assert!(readme.contains(sentence));
}
