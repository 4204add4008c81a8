//! The header and the shared object as C sees them.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::{compile, is_left_out, library, root, run, scratch, tool};

/// Without one warning, in every dialect that is promised.
#[test]
fn it_compiles_everywhere() {
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
        // Clang's own stdbool.h is no C89.
        check(&tool("cc"), "-std=c89", &source);
    }
    if !is_left_out("c++") {
        for compiler in [tool("c++"), tool("clang++")] {
            check(&compiler, "-std=c++17", &cpp);
        }
    }
}

/// A name without the prefix would meet one of the program's own. (cbindgen exports every public
/// constant of the crate that cbindgen.toml does not exclude.)
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

/// One error that says what to do, instead of a hundred.
#[test]
fn cpp_that_cannot_use_it_is_told_so() {
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

/// What was committed is what the sources say: build.rs has just written it.
#[test]
fn it_has_not_drifted() {
    if !root().join(".git").exists() {
        support::leave_out("the header's drift: this is no git checkout to compare with");
        return;
    }
    // Named, because git looks for a repository only where the user owns it (not with sudo, nor in
    // a container's mount).
    let said = run(Command::new(tool("git"))
        .current_dir(root())
        .env("GIT_DIR", root().join(".git"))
        .env("GIT_WORK_TREE", root())
        .args(["diff", "--stat", "--", "include/greenapi.h"]))
    .stdout;
    assert_eq!(
        String::from_utf8_lossy(&said),
        "",
        "include/greenapi.h has changed with the sources: look at it and commit it"
    );
}

#[test]
fn its_numbers_are_written_down() {
    if is_left_out("c") {
        return;
    }
    let program = compile(&root().join("tests/guest/abi_guard.c"), &[]);
    let said = run(&mut Command::new(program)).stdout;
    let written = fs::read_to_string(root().join("tests/guest/abi_guard.txt")).unwrap();
    assert_eq!(
        String::from_utf8(said).unwrap(),
        written,
        "the binary interface has changed: if that is meant, edit tests/guest/abi_guard.txt"
    );
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
    // The page at the top names some of them in its example.
    declared.dedup();
    assert_eq!(exported, declared);
    assert_eq!(exported.len(), 21);
}

#[cfg(target_os = "linux")]
#[test]
fn the_shared_object_has_a_name_stays_loaded_and_is_small() {
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
