//! Runs the tests of the Python package, checks its types, and builds its sdist and wheel.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use greenapi_standin::{Config, Standin};
use support::{
    fenced, is_left_out, outside_cargo, python, python_command, root, run, scratch,
    standin_program, target,
};

fn pytest_by(python: &Path) {
    let mut command = Command::new(python);
    for (name, value) in python_command().get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let said = run(command
        .current_dir(root().join("bindings/python"))
        .env("GREENAPI_STANDIN", standin_program())
        .args(["-m", "pytest", "-q", "--no-header"])
        .args(["-p", "no:cacheprovider", "tests"]));
    println!("{}", String::from_utf8_lossy(&said.stdout));
}

#[test]
fn pytest() {
    if !is_left_out("python") {
        pytest_by(&python());
    }
}

/// Also tests with the distribution's Python, if `python3` is another one.
#[test]
fn pytest_with_the_systems_own_python() {
    let system = Path::new("/usr/bin/python3");
    if is_left_out("python") || !system.exists() {
        return;
    }
    let version = |python: &Path| {
        let asked = ["-c", "import sys; print(sys.version)"];
        run(Command::new(python).args(asked)).stdout
    };
    let in_use = support::tool("python3");
    if version(system) == version(&in_use) {
        return;
    }
    let has_venv = Command::new(system)
        .args(["-m", "ensurepip", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_venv {
        support::leave_out("the system's own Python: /usr/bin/python3 has no venv module");
        return;
    }
    pytest_by(&support::python_environment(system, "venv-system"));
}

/// A shell script starts its background processes with SIGINT ignored.
#[test]
fn ctrl_c_works_where_the_parent_ignores_it() {
    if is_left_out("python") {
        return;
    }
    let python = python_command();
    let program = python.get_program().to_owned();
    let mut shell = Command::new("sh");
    for (name, value) in python.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    run(shell
        .current_dir(root().join("bindings/python"))
        .env("GREENAPI_STANDIN", standin_program())
        .args(["-c", "trap '' INT; exec \"$@\"", "sh"])
        .arg(program)
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .args(["tests", "-k", "ctrl_c"]));
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

/// Pyright must find a complete type for every public name, as Pylance shows them to users.
#[test]
fn pyright() {
    if is_left_out("python") {
        return;
    }
    for arguments in [
        &["--verifytypes", "greenapi", "--ignoreexternal"][..],
        &["src"],
    ] {
        run(Command::new(python())
            .current_dir(root().join("bindings/python"))
            .env("PYTHONPATH", "src")
            .args(["-m", "pyright", "--pythonpath"])
            .arg(python())
            .args(arguments));
    }
}

/// `python -m build` makes the sdist from the checkout and then the wheel from the sdist alone.
#[test]
fn the_sdist_builds_without_the_checkout() {
    if is_left_out("python") {
        return;
    }
    let made = empty("sdist");
    let target = target().join("test-scratch/sdist-target");
    // Files in an sdist have old dates, so Cargo would not notice that they changed since the last
    // run.
    for one in fs::read_dir(target.join("release/.fingerprint"))
        .into_iter()
        .flatten()
    {
        let one = one.expect("the directory is readable");
        if one.file_name().to_string_lossy().starts_with("greenapi-") {
            fs::remove_dir_all(one.path()).expect("the fingerprint can be removed");
        }
    }
    // The sdist has its own target directory, because its crate has the same name as the
    // checkout's. It is not optimized, because the test is about completeness.
    run(outside_cargo(&mut Command::new(python()))
        .args(["-m", "build", "--outdir"])
        .arg(&made)
        .arg(root().join("bindings/python"))
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"));
    only(&made, "tar.gz");
    runs_without_rust(&only(&made, "whl"), "sdist");
}

#[test]
fn the_wheel_runs_without_rust() {
    if is_left_out("python") {
        return;
    }
    let made = empty("wheel");
    // `pip wheel` builds what `pip install ./bindings/python` installs. CARGO_TARGET_DIR makes it
    // use the library that the other tests use.
    support::library();
    run(outside_cargo(&mut Command::new(python()))
        .args(["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"])
        .arg(&made)
        .arg(root().join("bindings/python"))
        .env("CARGO_TARGET_DIR", target()));
    let wheel = only(&made, "whl");
    if cfg!(target_os = "linux") {
        is_tagged_as_auditwheel_finds_it(&wheel);
    }
    let place = runs_without_rust(&wheel, "wheel");
    is_bundled_by_pyinstaller(&place);
}

fn empty(name: &str) -> PathBuf {
    let place = scratch("packages").join(name);
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).unwrap();
    place
}

/// The only file in `folder` whose name ends with `end`.
fn only(folder: &Path, end: &str) -> PathBuf {
    let found: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    let [path] = &found[..] else {
        panic!("expected one file that ends in {end}, found {found:?}")
    };
    path.clone()
}

fn is_tagged_as_auditwheel_finds_it(wheel: &Path) {
    let name = wheel.file_stem().unwrap().to_str().unwrap();
    let (_, tag) = name.rsplit_once('-').unwrap();
    assert!(tag.starts_with("manylinux_"), "{name}");
    assert!(name.ends_with(&format!("-py3-none-{tag}")), "{name}");
    let said = run(Command::new(python())
        .args(["-m", "auditwheel", "show"])
        .arg(wheel));
    let said = String::from_utf8_lossy(&said.stdout);
    // auditwheel wraps its lines.
    let words: Vec<&str> = said.split_whitespace().collect();
    let expected = format!("is consistent with the following platform tag: \"{tag}\"");
    assert!(words.join(" ").contains(&expected), "{tag}: {said}");
}

/// Installs a wheel into an empty environment, and runs the README's example there: the environment.
fn runs_without_rust(wheel: &Path, name: &str) -> PathBuf {
    let place = empty(&format!("{name}-environment"));
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&place));
    let command = || {
        let mut command = Command::new(place.join("bin/python"));
        // The environment has no cargo, and no other copy of the package or the library.
        command
            .env("PATH", place.join("bin"))
            .env_remove("PYTHONPATH")
            .env_remove("GREENAPI_LIBRARY")
            .current_dir(&place);
        command
    };
    run(command()
        .args(["-m", "pip", "install", "--quiet", "--no-index"])
        .arg(wheel));

    let said = run(command().args(["-m", "greenapi", "--version"]));
    let said = String::from_utf8_lossy(&said.stdout);
    let version = env!("CARGO_PKG_VERSION");
    assert!(said.contains(version), "{version}: {said}");

    let script = run(Command::new(place.join("bin/greenapi")).arg("--version"));
    assert_eq!(String::from_utf8_lossy(&script.stdout), said);

    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    let program = place.join("readme.py");
    fs::write(&program, fenced("python")).unwrap();
    run(command()
        .arg(program)
        .args(["1101000001", "1101000002"])
        .env("GREENAPI_URL", &endpoints.http)
        .env("GREENAPI_TOKEN", &endpoints.token));
    assert_eq!(standin.ledger().len(), 2);
    place
}

/// The one file that PyInstaller makes of a program deletes an instance over TLS, without Python on
/// PATH and without any option that names greenapi: its entry point finds the hook.
fn is_bundled_by_pyinstaller(place: &Path) {
    let python = place.join("bin/python");
    let shared = "import ctypes, os, sysconfig as s
ctypes.CDLL(os.path.join(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME')))";
    let has_libpython = Command::new(&python).args(["-c", shared]).output().unwrap();
    if !has_libpython.status.success() {
        return support::leave_out(
            "a bundle made by PyInstaller: this Python has no shared libpython (Debian: libpython3-dev)",
        );
    }
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "pyinstaller"]));
    let program = place.join("bundled.py");
    fs::write(
        &program,
        "import os, sys, greenapi
with greenapi.Client(
    os.environ['GREENAPI_URL'], os.environ['GREENAPI_TOKEN'], ca_file=os.environ['GREENAPI_CA_FILE']
) as client:
    print(client.delete_instance(int(sys.argv[1])).status.name, greenapi.AsyncClient.__name__)
",
    )
    .unwrap();
    run(Command::new(&python)
        .current_dir(place)
        .env_remove("PYTHONPATH")
        .env_remove("GREENAPI_LIBRARY")
        .args(["-m", "PyInstaller", "--onefile", "--log-level", "ERROR"])
        .arg(&program));
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    let said = run(Command::new(place.join("dist/bundled"))
        .arg("1101000001")
        .env("PATH", "")
        .env_remove("PYTHONPATH")
        .env_remove("GREENAPI_LIBRARY")
        .env("GREENAPI_URL", &endpoints.https)
        .env("GREENAPI_TOKEN", &endpoints.token)
        .env("GREENAPI_CA_FILE", &endpoints.ca_file));
    assert_eq!(String::from_utf8_lossy(&said.stdout), "OK AsyncClient\n");
    assert_eq!(standin.ledger().len(), 1);
}
