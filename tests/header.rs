//! Checks greenapi.h, greenapi.hpp and the shared object from the outside, as C and C++ see them.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{compile, is_left_out, library, root, run, scratch, tool};

#[test]
fn the_headers_compile_without_warnings_in_every_promised_dialect() {
    let source = scratch("header").join("just_include.c");
    fs::write(
        &source,
        "#include <greenapi.h>\n#include <greenapi.h>\nint main(void) { return greenapi_version() == 0; }\n",
    )
    .unwrap();
    let cpp = source.with_extension("cpp");
    fs::copy(&source, &cpp).unwrap();
    let check = |compiler: &Path, standard: &str, source: &Path| {
        run(Command::new(compiler)
            .args([
                standard,
                "-pedantic",
                "-Wall",
                "-Wextra",
                "-Wundef",
                "-Werror",
                "-fsyntax-only",
                "-I",
            ])
            .arg(root().join("include"))
            .arg(source));
    };
    if !is_left_out("c") {
        for compiler in [tool("cc"), tool("clang")] {
            for standard in ["-std=c99", "-std=c11"] {
                check(&compiler, standard, &source);
            }
        }
        // Clang's own stdbool.h is not valid C89.
        check(&tool("cc"), "-std=c89", &source);
    }
    if !is_left_out("c++") {
        for compiler in [tool("c++"), tool("clang++")] {
            check(&compiler, "-std=c++17", &cpp);
        }
    }
}

/// A name without the prefix could clash with a name of the host program. (cbindgen exports every
/// public constant of the crate that cbindgen.toml does not exclude.)
#[test]
fn every_name_has_the_librarys_prefix() {
    let header = fs::read_to_string(root().join("include/greenapi.h")).unwrap();
    let is_ours = |name: &str| name.to_ascii_lowercase().starts_with("greenapi_");
    let mut seen = 0;
    for line in header.lines() {
        let words: Vec<&str> = line
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| !word.is_empty())
            .collect();
        let name = match words[..] {
            _ if line.starts_with([' ', '/']) => continue,
            ["define" | "enum" | "struct", name, ..] => name,
            ["typedef", .., name] if line.ends_with(';') && !line.contains('(') => name,
            ["typedef", _, name, ..] if line.contains("(*") => name,
            [name] if line.starts_with("} ") => name,
            _ => continue,
        };
        assert!(is_ours(name), "{line}");
        seen += 1;
    }
    assert!(seen > 30, "only {seen} names were found");
}

#[test]
fn an_unsuitable_cpp_compiler_gives_one_error_with_advice() {
    if is_left_out("c++") {
        return;
    }
    let source = scratch("header").join("too_old.cpp");
    fs::write(&source, "#include <greenapi.hpp>\n").unwrap();
    for compiler in ["c++", "clang++"] {
        for (options, advice) in [
            ("-std=c++11", "-std=c++17"),
            ("-std=c++14", "-std=c++17"),
            ("-std=c++17 -fno-exceptions", "with exceptions"),
        ] {
            let output = Command::new(compiler)
                .args(options.split(' '))
                .args(["-fsyntax-only", "-I"])
                .arg(root().join("include"))
                .arg(&source)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            let errors: Vec<&str> = said.lines().filter(|l| l.contains(" error: ")).collect();
            assert_eq!(errors.len(), 1, "{compiler} {options}: {said}");
            assert!(errors[0].contains(advice), "{compiler} {options}: {said}");
        }
    }
}

/// Building this test has just made build.rs generate greenapi.h again.
#[test]
fn the_committed_header_is_up_to_date() {
    if !root().join(".git").exists() {
        support::leave_out("whether greenapi.h is up to date: this is not a git checkout");
        return;
    }
    // Without GIT_DIR git refuses a repository that another user owns, as under sudo or in a
    // container's mount.
    let said = run(Command::new(tool("git"))
        .current_dir(root())
        .env("GIT_DIR", root().join(".git"))
        .env("GIT_WORK_TREE", root())
        .args(["diff", "--stat", "--", "include/greenapi.h"]))
    .stdout;
    assert_eq!(
        String::from_utf8_lossy(&said),
        "",
        "review and commit include/greenapi.h: the build generated another one from the sources"
    );
}

#[test]
fn the_abi_matches_abi_guard_txt() {
    if is_left_out("c") {
        return;
    }
    let program = compile(&root().join("tests/guest/abi_guard.c"), &[]);
    let said = run(&mut Command::new(program)).stdout;
    let written = fs::read_to_string(root().join("tests/guest/abi_guard.txt")).unwrap();
    assert_eq!(
        String::from_utf8(said).unwrap(),
        written,
        "the ABI has changed: if this is intended, edit tests/guest/abi_guard.txt"
    );
}

/// `tests/guest/released` keeps `abi_guard.txt` as it was at each release.
#[test]
fn what_was_released_still_holds() {
    let guest = root().join("tests/guest");
    let now = fs::read_to_string(guest.join("abi_guard.txt")).unwrap();
    let options = "type struct greenapi_options size ";
    let mut released = 0;
    for entry in fs::read_dir(guest.join("released")).unwrap() {
        let entry = entry.unwrap();
        let broken: Vec<String> = fs::read_to_string(entry.path())
            .unwrap()
            .lines()
            // Fields are added at their end.
            .filter(|line| !line.starts_with(options) && !now.lines().any(|other| other == *line))
            .map(str::to_owned)
            .collect();
        assert!(
            broken.is_empty(),
            "programs built with {} need what has changed or gone: {broken:#?}",
            entry.file_name().display()
        );
        released += 1;
    }
    assert!(released > 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_object_exports_its_functions_and_nothing_else() {
    let nm = tool("nm");
    let said = run(Command::new(nm)
        .args(["-D", "--defined-only"])
        .arg(library()))
    .stdout;
    let mut exported: Vec<String> = String::from_utf8(said)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().last().map(str::to_owned))
        .collect();
    exported.sort();
    let header = fs::read_to_string(root().join("include/greenapi.h")).unwrap();
    let mut declared: Vec<String> = header
        .lines()
        .filter(|line| !line.trim_start().starts_with('*') && !line.starts_with("typedef"))
        .filter_map(|line| {
            let name = line.split('(').next()?.rsplit([' ', '*']).next()?;
            (line.contains('(') && name.starts_with("greenapi_")).then(|| name.to_owned())
        })
        .collect();
    declared.sort();
    // The example in the header's first comment names some functions a second time.
    declared.dedup();
    assert_eq!(exported, declared);
    assert_eq!(exported.len(), 21);
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_object_has_a_soname_stays_loaded_and_is_small() {
    let readelf = tool("readelf");
    let said = run(Command::new(readelf).arg("-d").arg(library())).stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("[libgreenapi.so.0]"), "{said}");
    assert!(said.contains("NODELETE"), "{said}");
    let stripped = scratch("header").join("stripped.so");
    run(Command::new(tool("strip"))
        .arg("-o")
        .arg(&stripped)
        .arg(library()));
    let size = fs::metadata(stripped).unwrap().len();
    println!("stripped: {size} bytes");
    assert!(size <= 3_670_016, "{size} bytes are more than 3.5 MiB");
}
