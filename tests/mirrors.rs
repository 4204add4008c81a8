//! Statuses, options and other constants of the header are repeated in the wrappers, the ABI guard
//! and the READMEs. After a new one is added, these tests name every file that still lacks it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The text of greenapi.h without its comments.
fn header() -> String {
    let mut code = String::new();
    let header = read("include/greenapi.h");
    let mut rest = header.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code + rest
}

/// Every enumerator `PREFIX… = value` and every `#define PREFIX… value`, without the prefix.
fn constants(header: &str, prefix: &str) -> Vec<(String, i64)> {
    header
        .lines()
        .filter_map(|line| {
            let line = line.trim().trim_start_matches("#define ");
            let (name, value) = line.strip_prefix(prefix)?.split_once([' ', '='])?;
            let value = value.trim_matches([' ', '=', ',']);
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// The members of a struct, in their order.
fn members(header: &str, name: &str) -> Vec<String> {
    let start = format!("struct {name} {{");
    let (_, body) = header
        .split_once(&start)
        .expect("the header has the struct");
    let (body, _) = body.split_once('}').expect("the struct ends");
    body.split(';')
        .filter_map(|member| {
            let name = member.trim().rsplit([' ', '*']).next()?;
            let name = name.split('[').next()?;
            (!name.is_empty()).then(|| name.to_owned())
        })
        .collect()
}

/// `TLS_FAILED` as Go and Python's classes write it: `TLSFailed`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| match word {
            "TLS" | "OK" | "CA" | "URL" | "HTTP" => word.to_owned(),
            word => word[..1].to_owned() + &word[1..].to_lowercase(),
        })
        .collect()
}

/// The part of `file` that begins with `start` and ends before the next line that begins with
/// `end`.
fn part(file: &str, start: &str, end: &str) -> String {
    let text = read(file);
    let Some((_, rest)) = text.split_once(start) else {
        panic!("{file} does not contain {start:?}: correct this test if the text has moved");
    };
    rest.split(&format!("\n{end}"))
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Collects the missing places, and panics with all of them when it is dropped.
#[derive(Default)]
struct Lagging(String);

impl Lagging {
    fn expect(&mut self, what: &str, file: &str, text: &str, needle: &str) {
        if !text.contains(needle) {
            let _ = writeln!(self.0, "{what}: {file} lacks `{needle}`");
        }
    }
}

impl Drop for Lagging {
    fn drop(&mut self) {
        assert!(
            self.0.is_empty() || std::thread::panicking(),
            "these places lack a constant or an option of the header:\n{}",
            self.0
        );
    }
}

#[test]
fn every_status_is_in_the_wrappers_the_guard_and_the_readme() {
    let statuses = constants(&header(), "GREENAPI_STATUS_");
    assert!(statuses.len() >= 22, "{statuses:?}");
    let hpp = part("include/greenapi.hpp", "enum class status", "}");
    let python = part(
        "bindings/python/src/greenapi/_abi.py",
        "class Status(",
        "class ",
    );
    let python_errors = read("bindings/python/src/greenapi/_errors.py");
    let python_names = read("bindings/python/src/greenapi/__init__.py");
    let go = read("bindings/go/status.go");
    let go_errors = read("bindings/go/errors.go");
    let readme = read("README.md");
    let guard = read("tests/guest/abi_guard.c");
    let written = read("tests/guest/abi_guard.txt");
    let mut lagging = Lagging::default();
    for (name, value) in &statuses {
        let what = format!("GREENAPI_STATUS_{name}");
        let lower = name.to_lowercase();
        let camel = camel(name);
        let class = match name.as_str() {
            "INTERNAL" => "InternalError",
            _ => &camel,
        };
        lagging.expect(
            &what,
            "include/greenapi.hpp",
            &hpp,
            &format!(" {lower} = {what},"),
        );
        lagging.expect(
            &what,
            "bindings/python/src/greenapi/_abi.py, Status",
            &python,
            &format!(" {name} = {value}\n"),
        );
        lagging.expect(
            &what,
            "bindings/go/status.go",
            &go,
            &format!("Status{camel} Status = {value}\n"),
        );
        lagging.expect(
            &what,
            "README.md, the table of statuses",
            &readme,
            &format!("| {value} `{name}` |"),
        );
        lagging.expect(
            &what,
            "tests/guest/abi_guard.c",
            &guard,
            &format!("VALUE({what});"),
        );
        lagging.expect(
            &what,
            "tests/guest/abi_guard.txt",
            &written,
            &format!("value {what} {value}\n"),
        );
        if *value >= 10 {
            lagging.expect(
                &what,
                "bindings/python/src/greenapi/_errors.py",
                &python_errors,
                &format!("Status.{name}: {class},"),
            );
            lagging.expect(
                &what,
                "bindings/python/src/greenapi/__init__.py",
                &python_names,
                &format!("\"{class}\","),
            );
            lagging.expect(
                &what,
                "bindings/go/errors.go",
                &go_errors,
                &format!("statusError(Status{camel})"),
            );
        }
    }
}

#[test]
fn every_session_policy_is_in_the_wrappers_and_the_guard() {
    let hpp = part("include/greenapi.hpp", "enum class session", "}");
    let python = part(
        "bindings/python/src/greenapi/_abi.py",
        "class Session(",
        "class ",
    );
    let go = read("bindings/go/options.go");
    let guard = read("tests/guest/abi_guard.c");
    let mut lagging = Lagging::default();
    for (name, value) in constants(&header(), "GREENAPI_SESSION_") {
        let what = format!("GREENAPI_SESSION_{name}");
        let lower = name.to_lowercase();
        lagging.expect(
            &what,
            "include/greenapi.hpp",
            &hpp,
            &format!(" {lower} = {what},"),
        );
        lagging.expect(
            &what,
            "bindings/python/src/greenapi/_abi.py, Session",
            &python,
            &format!(" {name} = {value}\n"),
        );
        lagging.expect(
            &what,
            "bindings/go/options.go",
            &go,
            &format!("Session{} Session = {value}\n", camel(&name)),
        );
        lagging.expect(
            &what,
            "tests/guest/abi_guard.c",
            &guard,
            &format!("VALUE({what});"),
        );
    }
}

#[test]
fn every_state_and_flag_of_an_instance_is_in_the_wrappers_and_the_guard() {
    let header = header();
    let hpp = read("include/greenapi.hpp");
    let python = part(
        "bindings/python/src/greenapi/_abi.py",
        "class State(",
        "FLAG_",
    );
    let python_flags = read("bindings/python/src/greenapi/_abi.py");
    let go: String = ["instances.go", "abi.go", "state.go", "list.go", "status.go"]
        .iter()
        .map(|file| {
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("bindings/go")
                .join(file)
        })
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    let guard = read("tests/guest/abi_guard.c");
    let mut lagging = Lagging::default();
    for (name, value) in constants(&header, "GREENAPI_STATE_") {
        let what = format!("GREENAPI_STATE_{name}");
        lagging.expect(&what, "include/greenapi.hpp", &hpp, &format!("= {what}"));
        lagging.expect(
            &what,
            "bindings/python/src/greenapi/_abi.py, State",
            &python,
            &format!(" {name} = {value}\n"),
        );
        lagging.expect(
            &what,
            "bindings/go",
            &go,
            &format!("State{} State = {value}\n", camel(&name)),
        );
        lagging.expect(
            &what,
            "tests/guest/abi_guard.c",
            &guard,
            &format!("VALUE({what});"),
        );
    }
    for (name, value) in constants(&header, "GREENAPI_INSTANCE_") {
        let what = format!("GREENAPI_INSTANCE_{name}");
        lagging.expect(&what, "include/greenapi.hpp", &hpp, &what);
        lagging.expect(&what, "bindings/go", &go, &what);
        lagging.expect(
            &what,
            "bindings/python/src/greenapi/_abi.py",
            &python_flags,
            &format!("INSTANCE_{name} = {value}\n"),
        );
    }
}

/// The names of an option in the wrappers, which follow each language's conventions.
struct Named {
    hpp: String,
    python: String,
    go: String,
}

fn named(option: &str) -> Named {
    let (shared, go) = match option {
        "timeout_ms" => ("timeout", "Timeout".into()),
        "connect_timeout_ms" => ("connect_timeout", "ConnectTimeout".into()),
        // There is only one flag.
        "flags" => ("allow_http", "AllowHTTP".into()),
        "ca_pem" => ("ca_pem", "CACertificates".into()),
        other => (other, camel(&other.to_uppercase())),
    };
    Named {
        hpp: shared.into(),
        python: shared.into(),
        go: format!("With{go}"),
    }
}

#[test]
fn every_option_is_in_the_wrappers_and_the_guard() {
    let options = members(&header(), "greenapi_options");
    assert!(options.len() >= 14, "{options:?}");
    assert_eq!(options[0], "size");
    let edge = part("src/ffi/options.rs", "    take!(", "    );");
    let hpp = part("include/greenapi.hpp", "struct options {", "}");
    let python = part(
        "bindings/python/src/greenapi/_client.py",
        "class BaseClient(",
        "class ",
    );
    let python_struct = part(
        "bindings/python/src/greenapi/_abi.py",
        "class OptionsStruct(",
        "\n\n",
    );
    let go = read("bindings/go/options.go");
    let go_abi = read("bindings/go/abi.go");
    let guard = read("tests/guest/abi_guard.c");
    let tests = part("tests/support/abi.rs", "pub struct RawOptions", "}");
    let mut lagging = Lagging::default();
    for option in &options[1..] {
        let names = named(option);
        lagging.expect(
            option,
            "src/ffi/options.rs, take!",
            &format!("{edge},"),
            &format!("{option},").replace("journal,", "journal"),
        );
        lagging.expect(
            option,
            "include/greenapi.hpp, options",
            &hpp,
            &format!(" {}", names.hpp),
        );
        lagging.expect(
            option,
            "bindings/python/src/greenapi/_client.py, BaseClient",
            &python,
            &format!("        {}: ", names.python),
        );
        lagging.expect(
            option,
            "_abi.py, OptionsStruct",
            &python_struct,
            &format!("(\"{option}\", "),
        );
        lagging.expect(
            option,
            "bindings/go/options.go",
            &go,
            &format!("func {}(", names.go),
        );
        lagging.expect(
            option,
            "bindings/go/abi.go",
            &go_abi,
            &format!("c.{option}"),
        );
        lagging.expect(
            option,
            "tests/guest/abi_guard.c",
            &guard,
            &format!("MEMBER(greenapi_options, {option});"),
        );
        lagging.expect(
            option,
            "tests/support/abi.rs",
            &tests,
            &format!("pub {option}: "),
        );
    }
}

/// The texts in double quotes of a source, without those of the unit tests at its end.
fn literals(source: &str) -> Vec<String> {
    let code: String = source
        .split("#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or_default()
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.to_owned() + "\n")
        .collect();
    let code = code.replace("'\"'", "").replace("\\\"", "");
    let pieces = code.split('"').skip(1).step_by(2);
    pieces.map(str::to_owned).collect()
}

fn sources(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("it can be read").path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

/// A message of a result reaches programs in four languages, in which an option has as many names.
/// Only the refusal of an option has C's name, at its beginning, for the wrappers to translate.
#[test]
fn only_the_refusal_of_an_option_names_one() {
    let options = members(&header(), "greenapi_options");
    let names: Vec<&str> = options
        .iter()
        .map(String::as_str)
        .filter(|name| name.contains('_'))
        .collect();
    assert!(names.contains(&"timeout_ms") && names.contains(&"instance_url"));
    let mut files = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    let (mut seen, mut wrong) = (0, String::new());
    for file in files {
        let source = fs::read_to_string(&file).expect("a source");
        for text in literals(&source).iter().filter(|text| text.contains(' ')) {
            seen += 1;
            let begins = names
                .iter()
                .any(|name| text.starts_with(&format!("{name} ")));
            let names_one = |name: &&str| text.replace(&format!("{{{name}}}"), "").contains(*name);
            if !begins && names.iter().any(names_one) {
                let _ = writeln!(wrong, "{}: {text}", file.display());
            }
        }
    }
    assert!(seen > 200, "the messages were not found: {seen}");
    assert!(wrong.is_empty(), "these name an option as C does:\n{wrong}");
}
