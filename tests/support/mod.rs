//! Shared by all tests: the built library, the languages, and the stand-in.
//!
//! The tests build everything themselves: the release library (which users load), the stand-in's
//! program, and the environments of Python and Go. `GREENAPI_TEST_WITHOUT=go,python` leaves
//! languages out. If tools are missing, the tests end at once with a list of all missing tools.
#![allow(dead_code)]

pub mod abi;
pub mod journal;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use greenapi_standin::Standin;

/// The languages besides Rust, named as in `GREENAPI_TEST_WITHOUT`.
pub const LANGUAGES: [&str; 4] = ["c", "c++", "python", "go"];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Cargo's target directory, which may have been set to another one than `target`.
pub fn target() -> PathBuf {
    let this = env::current_exe().expect("a test has a path");
    // target/debug/deps/test-…
    let profile = this.ancestors().nth(2).expect("cargo's layout");
    profile.parent().expect("cargo's layout").to_owned()
}

/// A directory for files that the tests write.
pub fn scratch(name: &str) -> PathBuf {
    let path = target().join("test-scratch").join(name);
    fs::create_dir_all(&path).expect("the target directory can be written to");
    path
}

/// Records what cannot be tested on this machine. `what_was_left_out` prints the records at the
/// end, because cargo hides the output of tests that pass.
pub fn leave_out(what: &str) {
    let path = scratch("left-out").join(format!("{:016x}", hash(what)));
    fs::write(path, what).expect("the target directory can be written to");
}

/// Removes and returns the records of `leave_out`.
pub fn take_left_out() -> Vec<String> {
    let mut notes = Vec::new();
    for entry in fs::read_dir(scratch("left-out")).expect("scratch() made the directory") {
        let path = entry.expect("the directory is readable").path();
        notes.push(fs::read_to_string(&path).expect("a note is text"));
        fs::remove_file(path).expect("the target directory can be written to");
    }
    notes
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The number of requests of an operation (`state`, `list`, …) that the stand-in received.
pub fn requests(standin: &Standin, operation: &str) -> u64 {
    let stats = serde_json::to_value(standin.stats()).expect("counters");
    stats["requests"][operation].as_u64().unwrap_or_default()
}

/// Whether `language` was left out on purpose.
pub fn is_left_out(language: &str) -> bool {
    env::var("GREENAPI_TEST_WITHOUT")
        .is_ok_and(|list| list.split(',').any(|name| name.trim() == language))
}

/// The path of a tool that the tests need (`tests/tools.txt`), either the system's or the one that
/// `make test` installed into the target directory. If any tool is missing, the first call ends
/// this test program with the list of all missing tools, instead of one failure for each test.
pub fn tool(name: &str) -> PathBuf {
    static LOOKED: OnceLock<()> = OnceLock::new();
    LOOKED.get_or_init(|| {
        let looked = Command::new("sh")
            .arg(root().join("tests/setup.sh"))
            .arg("check")
            .env("CARGO_TARGET_DIR", target())
            .output()
            .expect("every system has sh");
        if !looked.status.success() {
            // Written directly, because the test harness would capture eprint!.
            let _ = std::io::stderr().write_all(&[b"\n", &looked.stderr[..]].concat());
            std::process::exit(1);
        }
    });
    let beside = target().join("tools/bin").join(name);
    match beside.exists() {
        true => beside,
        false => name.into(),
    }
}

/// The directory of the release library, which is built if necessary.
pub fn library_dir() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Looks for missing tools before the long build.
        tool("cargo");
        let target = target();
        run(cargo()
            .args(["build", "--release", "--lib", "--target-dir"])
            .arg(&target));
        let built = target.join("release");
        // The dynamic loader looks for the library by its SONAME.
        let named = built.join("libgreenapi.so.0");
        if cfg!(target_os = "linux") && !named.exists() {
            // This fails when another test makes the link at the same moment.
            let _ = std::os::unix::fs::symlink("libgreenapi.so", &named);
        }
        built
    })
}

/// The shared object.
pub fn library() -> PathBuf {
    library_dir().join(if cfg!(target_os = "macos") {
        "libgreenapi.dylib"
    } else {
        "libgreenapi.so"
    })
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root());
    outside_cargo(&mut cargo);
    cargo
}

/// Removes the variables that cargo sets for its tests, which would make another cargo build use
/// them and compile everything again.
pub fn outside_cargo(command: &mut Command) -> &mut Command {
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        let tells = |prefix| name.starts_with(prefix);
        if tells("CARGO_PKG") || tells("CARGO_MANIFEST") || name == "OUT_DIR" {
            command.env_remove(name);
        }
    }
    command
}

/// The stand-in's program.
pub fn standin_program() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let target = target();
        run(cargo()
            .args(["build", "-p", "greenapi-standin", "--target-dir"])
            .arg(&target));
        target.join("debug/greenapi-standin")
    })
}

/// A stand-in in its own process, which ends when this value is dropped.
pub struct StandinProcess {
    child: Child,
    pub line: String,
    pub start: serde_json::Value,
}

impl StandinProcess {
    pub fn start(options: &[&str]) -> Self {
        let mut child = Command::new(standin_program())
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the stand-in starts");
        let mut line = String::new();
        let output = child.stdout.as_mut().expect("its pipe exists");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("the stand-in prints its start line");
        let start = serde_json::from_str(&line).expect("its start line is JSON");
        Self {
            child,
            line: line.trim().to_owned(),
            start,
        }
    }

    pub fn get(&self, name: &str) -> &str {
        self.start[name].as_str().expect("the start line has it")
    }

    /// The variables that the programs of all languages read.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("GREENAPI_URL", self.get("http").into()),
            ("GREENAPI_HTTPS_URL", self.get("https").into()),
            ("GREENAPI_TOKEN", self.get("token").into()),
            ("GREENAPI_CA_FILE", self.get("ca_file").into()),
            ("GREENAPI_CONTROL", self.get("control").into()),
            ("GREENAPI_STANDIN", self.line.clone()),
            ("GREENAPI_LIBRARY", library().display().to_string()),
        ]
    }
}

impl Drop for StandinProcess {
    fn drop(&mut self) {
        // The stand-in ends when its standard input is closed.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Gives SIGINT its default disposition, as in a program started from a terminal. A script's
/// background processes and their children ignore SIGINT, and some (Java) then refuse a handler.
#[cfg(unix)]
pub fn with_ctrl_c(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    // SAFETY: signal() may be called between fork and exec.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            Ok(())
        })
    }
}

/// Runs a command, and panics with its output if it fails.
pub fn run(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
    assert!(
        output.status.success(),
        "{shown} failed with {}:\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Runs a command with `input` as its standard input, and returns its standard output.
pub fn feed(command: &mut Command, input: &str) -> String {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{shown} cannot be started: {error}"));
    let mut stdin = child.stdin.take().expect("its pipe exists");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .expect("the process can be waited for");
    let _ = feeder.join();
    assert!(
        output.status.success(),
        "{shown} failed with {}:\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// Compiles a C (`.c`) or C++ (`.cpp`) program against the release library.
pub fn compile(source: &Path, extra: &[&str]) -> PathBuf {
    let cpp = source.extension() == Some(OsStr::new("cpp"));
    let compiler = match cpp {
        true => tool("c++"),
        false => tool("cc"),
    };
    let name = source.file_stem().expect("the file has a name");
    let kind = source
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default();
    let program = scratch("programs").join(format!(
        "{}-{}-{}",
        kind.to_string_lossy(),
        name.to_string_lossy(),
        if cpp { "cpp" } else { "c" }
    ));
    let mut command = Command::new(compiler);
    command
        .args(match cpp {
            true => &["-std=c++17"][..],
            false => &["-std=c11", "-D_GNU_SOURCE"][..],
        })
        .args(["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"])
        .arg("-I")
        .arg(root().join("include"))
        .arg(source)
        .arg("-o")
        .arg(&program)
        .args(extra);
    if !extra.contains(&"-ldl") {
        let built = library_dir();
        command
            .arg("-L")
            .arg(built)
            .arg("-lgreenapi")
            .arg(format!("-Wl,-rpath,{}", built.display()));
    }
    run(&mut command);
    program
}

/// Python in a virtual environment with the packages that its tests need.
pub fn python() -> PathBuf {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| python_environment(&tool("python3"), "venv"))
        .clone()
}

/// A virtual environment of this Python with the packages that the tests need, made if necessary.
pub fn python_environment(system: &Path, name: &str) -> PathBuf {
    let place = target().join("test-scratch").join(name);
    let python = place.join("bin/python");
    let wanted = root().join("bindings/python/requirements-test.txt");
    let stamp = place.join("requirements");
    let text = fs::read_to_string(&wanted).expect("the requirements are there");
    if fs::read_to_string(&stamp).is_ok_and(|done| done == text) {
        return python;
    }
    run(Command::new(system).args(["-m", "venv"]).arg(&place));
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "-r"])
        .arg(&wanted));
    fs::write(&stamp, text).expect("the environment can be written to");
    python
}

/// A Python command that finds the package and the library.
pub fn python_command() -> Command {
    let mut command = Command::new(python());
    command
        .env("PYTHONPATH", root().join("bindings/python/src"))
        .env("GREENAPI_LIBRARY", library());
    command
}

/// A Go command that finds the library with pkg-config, like an installed one.
pub fn go_command(folder: &Path) -> Command {
    let prefix = installed();
    let built = fs::metadata(library()).and_then(|library| library.modified());
    let header = fs::read_to_string(prefix.join("include/greenapi.h")).expect("the header exists");
    let installed = format!("{} {built:?} {header}", prefix.display());
    let mut command = Command::new(tool("go"));
    command
        .current_dir(folder)
        // Go's build cache depends on these flags, but not on pkg-config's output nor on the files
        // it names. Without the flag Go would reuse a build with another library or header.
        .env(
            "CGO_CFLAGS",
            format!("-g -O2 -DGREENAPI_INSTALLED={}", hash(&installed)),
        )
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .env("LD_LIBRARY_PATH", prefix.join("lib"))
        .env("CGO_ENABLED", "1")
        // By default Go asks git, which fails if another user owns the checkout.
        .env("GOFLAGS", "-buildvcs=false");
    command
}

/// A prefix into which the library has been installed by `make install`.
pub fn installed() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        library_dir();
        let prefix = scratch("prefix");
        run(Command::new("make")
            .current_dir(root())
            // The flags of an outer `make test` are not meant for this make.
            .env_remove("MAKEFLAGS")
            .arg("install")
            .arg(format!("LIBRARY_DIR={}", library_dir().display()))
            .arg(format!("PREFIX={}", prefix.display())));
        prefix
    })
}

/// Compiles a C program against the installed static library.
pub fn compile_statically(source: &Path) -> PathBuf {
    let flags = run(Command::new(tool("pkg-config"))
        .args(["--cflags", "--libs", "greenapi-static"])
        .env("PKG_CONFIG_PATH", installed().join("lib/pkgconfig")));
    let name = source.file_stem().expect("the file has a name");
    let program = scratch("programs").join(format!("{}-static", name.to_string_lossy()));
    run(Command::new(tool("cc"))
        .args(["-std=c11", "-O1", "-D_GNU_SOURCE", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .args(String::from_utf8_lossy(&flags.stdout).split_whitespace()));
    program
}

/// A driver's (`tests/drivers`) line about one id.
#[derive(Debug, Clone)]
pub struct Line {
    pub id: i64,
    /// `None` where the language reports only that the instance is gone (Go's nil).
    pub status: Option<i32>,
    pub code: Option<i32>,
    pub http_status: Option<i32>,
    pub attempts: Option<u32>,
    /// The language's name of the result: a status, the class of an exception, an error variable.
    pub name: String,
    pub message: String,
}

/// An instance as a driver lists it.
#[derive(Debug, Default, PartialEq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListedInstance {
    pub id: i64,
    pub state: i32,
    /// Seconds since 1970, or `None` where the API gives no time; so are the next two.
    pub created: Option<i64>,
    pub deleted: Option<i64>,
    pub expires: Option<i64>,
    pub is_deleted: bool,
    pub is_expired: bool,
    pub is_free: bool,
    pub is_partner: bool,
    #[serde(rename = "type")]
    pub kind: String,
    pub tariff: String,
    pub name: String,
}

/// One way of calling the library in one language.
pub struct Driver {
    pub language: &'static str,
    pub mode: &'static str,
    program: Program,
}

/// How a driver is started.
#[derive(Clone, Default)]
struct Program {
    path: PathBuf,
    arguments: Vec<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Driver {
    /// The drivers that delete in one language; empty if the language is left out.
    pub fn of(language: &'static str) -> Vec<Self> {
        Self::all(language)
            .into_iter()
            .filter(|driver| !driver.lists())
            .collect()
    }

    /// Whether this driver lists instances instead of deleting them.
    pub fn lists(&self) -> bool {
        self.mode.starts_with("list")
    }

    /// All drivers of one language; empty if the language is left out.
    pub fn all(language: &'static str) -> Vec<Self> {
        if is_left_out(language) {
            return Vec::new();
        }
        let modes = match language {
            "c" | "c++" => &["one_call", "client", "queue", "bulk", "list"][..],
            "python" => &["one_call", "client", "async", "bulk", "list", "list_async"],
            "go" => &["one_call", "client", "bulk", "list"],
            other => panic!("{other} has no driver"),
        };
        let program =
            Self::for_windows(language).unwrap_or_else(|| Self::for_this_system(language));
        modes
            .iter()
            .map(|mode| Self {
                language,
                mode,
                program: program.clone(),
            })
            .collect()
    }

    /// The driver that .ci/windows has built for Windows.
    fn for_windows(language: &str) -> Option<Program> {
        let name = language.to_uppercase().replace('+', "P");
        let path = env::var_os(format!("GREENAPI_{name}_DRIVER"))?;
        Some(Program {
            path: path.into(),
            ..Program::default()
        })
    }

    fn for_this_system(language: &str) -> Program {
        let folder = root().join("tests/drivers");
        let mut program = Program::default();
        match language {
            "c" => program.path = compile(&folder.join("driver.c"), &[]),
            "c++" => program.path = compile(&folder.join("driver.cpp"), &[]),
            "python" => {
                program.path = python();
                program.arguments = vec![folder.join("driver.py")];
                program.environment = vec![
                    ("PYTHONPATH", root().join("bindings/python/src")),
                    ("GREENAPI_LIBRARY", library()),
                ];
            }
            _ => {
                program.path = scratch("programs").join("driver-go");
                run(go_command(&folder.join("go"))
                    .args(["build", "-o"])
                    .arg(&program.path)
                    .arg("."));
                program.environment = vec![("LD_LIBRARY_PATH", installed().join("lib"))];
            }
        }
        program
    }

    /// Deletes `ids` and returns the driver's line about each, in any order.
    pub fn delete(&self, environment: &[(&str, String)], ids: &[i64]) -> Vec<Line> {
        let input: String = ids.iter().map(|id| format!("{id}\n")).collect();
        self.run(environment, &input).lines().map(parse).collect()
    }

    /// The account's instances, and how the list ended.
    pub fn list(&self, environment: &[(&str, String)]) -> (Vec<ListedInstance>, Line) {
        let printed = self.run(environment, "");
        let mut lines: Vec<&str> = printed.lines().collect();
        let end = lines.pop().expect("the end of the list");
        (lines.into_iter().map(parse_instance).collect(), parse(end))
    }

    fn run(&self, environment: &[(&str, String)], input: &str) -> String {
        let mut command = Command::new(&self.program.path);
        command
            .args(&self.program.arguments)
            .arg(self.mode)
            .envs(self.program.environment.iter().cloned());
        for (name, value) in environment {
            command.env(name, value);
        }
        feed(&mut command, input)
    }
}

fn parse_instance(line: &str) -> ListedInstance {
    let fields: Vec<&str> = line.split('\t').collect();
    let ["instance", id, state, created, deleted, expires, is_deleted, is_expired, is_free, is_partner, kind, tariff, name] =
        fields[..]
    else {
        panic!("not a driver's line: {line:?}")
    };
    let number = |text: &str| {
        text.parse::<i64>()
            .unwrap_or_else(|_| panic!("no number in {line:?}"))
    };
    let time = |text: &str| (text != "-").then(|| number(text));
    let flag = |text: &str| match text {
        "0" => false,
        "1" => true,
        _ => panic!("no flag in {line:?}"),
    };
    let text = |hexadecimal: &str| {
        let byte = |at| u8::from_str_radix(&hexadecimal[at..at + 2], 16);
        let bytes: Result<Vec<u8>, _> = (0..hexadecimal.len()).step_by(2).map(byte).collect();
        String::from_utf8(bytes.unwrap_or_else(|_| panic!("no text in {line:?}")))
            .unwrap_or_else(|_| panic!("no UTF-8 in {line:?}"))
    };
    ListedInstance {
        id: number(id),
        state: i32::try_from(number(state)).expect("a state"),
        created: time(created),
        deleted: time(deleted),
        expires: time(expires),
        is_deleted: flag(is_deleted),
        is_expired: flag(is_expired),
        is_free: flag(is_free),
        is_partner: flag(is_partner),
        kind: text(kind),
        tariff: text(tariff),
        name: text(name),
    }
}

fn parse(line: &str) -> Line {
    let fields: Vec<&str> = line.splitn(7, '\t').collect();
    let [id, status, code, http_status, attempts, name, message] = fields[..] else {
        panic!("not a driver's line: {line:?}")
    };
    let number = |text: &str| {
        text.parse()
            .unwrap_or_else(|_| panic!("no number in {line:?}"))
    };
    Line {
        id: id.parse().unwrap_or_else(|_| panic!("no id in {line:?}")),
        status: (status != "-").then(|| number(status)),
        code: (code != "-").then(|| number(code)),
        http_status: (http_status != "-").then(|| number(http_status)),
        attempts: (attempts != "-").then(|| attempts.parse().expect("a count")),
        name: name.to_owned(),
        message: message.to_owned(),
    }
}

/// The one example in this language of README.md and examples/README.md.
pub fn fenced(language: &str) -> String {
    let pages = ["README.md", "examples/README.md"];
    let pages = pages.map(|page| fs::read_to_string(root().join(page)).unwrap());
    let fence = format!("\n```{language}\n");
    let mut blocks = pages.iter().flat_map(|page| page.split(&fence).skip(1));
    let block = blocks
        .next()
        .unwrap_or_else(|| panic!("no {language} in the READMEs"));
    assert!(blocks.next().is_none(), "two examples in {language}");
    block.split("\n```").next().unwrap().to_owned() + "\n"
}

/// Whether `text` shows four characters in a row of `secret`.
pub fn shows(text: &str, secret: &str) -> bool {
    let secret: Vec<char> = secret.chars().collect();
    secret
        .windows(4)
        // Four digits can also be those of a port.
        .filter(|piece| !piece.iter().all(char::is_ascii_digit))
        .any(|piece| text.contains(&piece.iter().collect::<String>()))
}
