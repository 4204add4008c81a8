//! Compiles and runs the programs of `tests/guest`, which test the library as a guest in its host's
//! process. Their README lists them.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use support::{compile, compile_statically, is_left_out, root, run, tool, StandinProcess};

/// The exit status of a program that this system cannot run (mostly for lack of privileges).
const SKIPPED: i32 = 77;

fn check(name: &str) {
    if is_left_out("c") {
        return;
    }
    let source = root().join("tests/guest").join(name);
    let extra: &[&str] = if name == "dlopen_loop.c" {
        &["-ldl"]
    } else {
        &[]
    };
    let program = compile(&source, extra);
    let standin = StandinProcess::start(&[]);
    let output = Command::new(&program)
        .envs(standin.environment())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(SKIPPED) {
        support::leave_out(&format!("{name}: {said}{complained}"));
        return;
    }
    assert!(
        output.status.success(),
        "{name}: {}\n{said}\n{complained}",
        output.status
    );
    println!("{said}");
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            check(concat!(stringify!($name), ".c"));
        }
    )*};
}

programs!(
    argument_fuzz,
    certificate_files,
    dlopen_loop,
    environment_read_once,
    exit_inside_call,
    fork_beside_journal,
    fork_child_exit,
    fork_exec_descriptors,
    fork_in_progress,
    fork_queue_inherited,
    fork_while_calling,
    fork_with_journal,
    hardened_service,
    hostile_servers,
    memcheck,
    no_ca_store,
    no_descriptors,
    no_proc,
    no_threads,
    read_only_file_system,
    set_user_id,
    short_lived_threads,
    signal_handlers,
    sigpipe_default,
    small_stack,
    standard_descriptors_closed,
    thread_cancelled,
    threads_named,
    token_wiped,
);

#[test]
fn memcheck_under_valgrind() {
    if !is_left_out("c") {
        let program = compile(&root().join("tests/guest/memcheck.c"), &[]);
        under_valgrind(&MEMCHECK, program);
    }
}

#[test]
fn memcheck_of_the_static_library_under_valgrind() {
    if !is_left_out("c") {
        let program = compile_statically(&root().join("tests/guest/memcheck.c"));
        under_valgrind(&MEMCHECK, program);
    }
}

/// Many calls at once, from a thread of the host to the library's.
#[test]
fn threads_named_under_the_checkers_of_threads() {
    if !is_left_out("c") {
        for checker in ["--tool=helgrind", "--tool=drd"] {
            let program = compile(&root().join("tests/guest/threads_named.c"), &[]);
            under_valgrind(&[checker], program);
        }
    }
}

/// "Possibly lost" memory counts as a leak, because the leak checks of host programs count it too.
const MEMCHECK: [&str; 2] = [
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,possible",
];

/// Valgrind must find no error.
fn under_valgrind(options: &[&str], program: PathBuf) {
    let valgrind = tool("valgrind");
    let standin = StandinProcess::start(&[]);
    run(Command::new(valgrind)
        .args(options)
        .args(["--num-callers=60", "--error-exitcode=9"])
        .arg(format!(
            "--suppressions={}",
            root().join("packaging/valgrind.supp").display()
        ))
        .arg(program)
        .envs(standin.environment()));
}

#[test]
fn cpp_exceptions() {
    if !is_left_out("c++") {
        check("cpp_exceptions.cpp");
    }
}

/// Every program has a test above.
#[test]
fn every_program_is_run() {
    let told = include_str!("guest.rs");
    for entry in std::fs::read_dir(root().join("tests/guest")).expect("the directory exists") {
        let name = entry
            .expect("the directory is readable")
            .file_name()
            .into_string()
            .expect("UTF-8");
        // abi_guard is compared by tests/header.rs.
        if let Some(stem) = name.strip_suffix(".c").or(name.strip_suffix(".cpp")) {
            assert!(
                stem == "abi_guard" || told.contains(stem),
                "no test runs {name}"
            );
        }
    }
}
