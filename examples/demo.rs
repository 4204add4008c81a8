//! Shows the library in use, from C, Python and Go where these are installed:
//!
//! ```text
//! cargo run --example demo                  uses the bundled stand-in of the API
//! cargo run --example demo -- URL ID        uses the real API, and asks before it deletes
//! ```
//!
//! The partner token for the real API comes from `GREENAPI_TOKEN` or from a prompt. It is never an
//! argument, because `ps` shows the arguments of a program to every user.

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use greenapi_standin::{Config, Standin, FIRST_ID};

/// The API's address and the token.
struct Api {
    url: String,
    token: String,
}

/// A program in one language that deletes the instance given as its argument.
struct Program {
    language: &'static str,
    command: Vec<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // target/debug/examples/demo
    let built = env::current_exe()?
        .ancestors()
        .nth(2)
        .ok_or("cargo's layout")?
        .to_owned();
    build_library(root, &built)?;
    let programs = programs(root, &built)?;
    match &arguments[..] {
        [] => show(&programs),
        [url, id] => delete_for_real(&programs, url, id),
        _ => {
            eprintln!(
                "usage: cargo run --example demo [-- URL ID]   (the token in GREENAPI_TOKEN)"
            );
            Ok(ExitCode::from(2))
        }
    }
}

/// Builds the shared library into the directory of this program. (Cargo does not do that for an
/// example, because Rust cannot link a cdylib.)
fn build_library(root: &Path, built: &Path) -> Result<(), Box<dyn Error>> {
    let status = Command::new(env!("CARGO"))
        .current_dir(root)
        .args(["build", "--lib", "--target-dir"])
        .arg(built.parent().ok_or("cargo's layout")?)
        .status()?;
    match status.success() {
        true => Ok(()),
        false => Err("the library could not be built".into()),
    }
}

/// Shows the documented answers of the stand-in in each language.
fn show(programs: &[Program]) -> Result<ExitCode, Box<dyn Error>> {
    let standin = Standin::start(Config::default())?;
    let endpoints = standin.endpoints();
    let api = |token: &str| Api {
        url: endpoints.http.clone(),
        token: token.to_owned(),
    };
    println!("\nA stand-in of the API runs at {}.", endpoints.http);
    let mut wrong = 0;
    for (id, program) in (FIRST_ID..).zip(programs) {
        println!("\n{}", program.language);
        for (what, token, expected) in [
            ("an instance", endpoints.token.as_str(), 0),
            ("the same one again", &endpoints.token, 1),
            ("with a wrong token", "gac.wrong", 1),
        ] {
            println!("  delete {id}, {what}:");
            let status = run(program, &api(token), &id.to_string())?;
            wrong += i32::from(status != Some(expected));
        }
    }
    let deleted = standin.ledger().len();
    println!("\nThe stand-in's ledger: {deleted} deleted.");
    Ok(match wrong == 0 && deleted == programs.len() {
        true => ExitCode::SUCCESS,
        false => {
            println!("The demo failed: {wrong} calls did not end as expected.");
            ExitCode::FAILURE
        }
    })
}

/// Deletes one instance with the first language that is installed.
fn delete_for_real(programs: &[Program], url: &str, id: &str) -> Result<ExitCode, Box<dyn Error>> {
    let program = programs
        .first()
        .ok_or("neither C, Python nor Go is installed")?;
    let token = match env::var("GREENAPI_TOKEN") {
        Ok(token) => token,
        Err(_) => ask("Partner token: ")?,
    };
    println!("This deletes instance {id} at {url}. It cannot be undone.");
    if ask("Type yes to go on: ")? != "yes" {
        println!("Nothing was sent.");
        return Ok(ExitCode::FAILURE);
    }
    let api = Api {
        url: url.to_owned(),
        token,
    };
    let status = run(program, &api, id)?;
    Ok(ExitCode::from(
        status
            .and_then(|status| status.try_into().ok())
            .unwrap_or(1),
    ))
}

fn ask(question: &str) -> io::Result<String> {
    print!("{question}");
    io::stdout().flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn run(program: &Program, api: &Api, id: &str) -> io::Result<Option<i32>> {
    let output = Command::new(&program.command[0])
        .args(&program.command[1..])
        .arg(id)
        .envs(
            program
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .env("GREENAPI_URL", &api.url)
        .env("GREENAPI_TOKEN", &api.token)
        .output()?;
    for text in [&output.stdout, &output.stderr] {
        for line in String::from_utf8_lossy(text).lines() {
            println!("    {line}");
        }
    }
    Ok(output.status.code())
}

/// Builds the programs whose compilers are installed, and names the others.
fn programs(root: &Path, built: &Path) -> Result<Vec<Program>, Box<dyn Error>> {
    let place = built.join("demo");
    fs::create_dir_all(&place)?;
    // The dynamic loader looks for the library by its SONAME.
    let library = place.join("libgreenapi.so.0");
    let shared = format!(
        "{}greenapi{}",
        env::consts::DLL_PREFIX,
        env::consts::DLL_SUFFIX
    );
    fs::copy(built.join(&shared), &library)?;
    fs::copy(&library, place.join(&shared))?;
    let found_at_run_time = [
        ("LD_LIBRARY_PATH", place.clone()),
        ("DYLD_LIBRARY_PATH", place.clone()),
    ];
    let mut programs = Vec::new();

    let c = place.join("delete-c");
    let compiled = Command::new("cc")
        .arg(root.join("examples/delete.c"))
        .arg("-I")
        .arg(root.join("include"))
        .arg("-L")
        .arg(&place)
        .args(["-lgreenapi", "-o"])
        .arg(&c)
        .status();
    match compiled {
        Ok(status) if status.success() => programs.push(Program {
            language: "C (examples/delete.c)",
            command: vec![c],
            environment: found_at_run_time.to_vec(),
        }),
        Ok(_) => return Err("examples/delete.c could not be compiled".into()),
        Err(_) => println!("C is left out: cc is not installed."),
    }

    let python = Path::new("python3");
    if Command::new(python)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let mut environment = found_at_run_time.to_vec();
        environment.push(("PYTHONPATH", root.join("bindings/python/src")));
        environment.push(("GREENAPI_LIBRARY", place.join(&shared)));
        programs.push(Program {
            language: "Python (bindings/python/examples/delete.py)",
            command: vec![
                python.into(),
                root.join("bindings/python/examples/delete.py"),
            ],
            environment,
        });
    } else {
        println!("Python is left out: python3 is not installed.");
    }

    // The same file as make install writes, for the library in this directory.
    let version = env!("CARGO_PKG_VERSION");
    fs::write(
        place.join("greenapi.pc"),
        format!(
            "Name: greenapi\nDescription: of this build\nVersion: {version}\nCflags: -I{}\nLibs: -L{} -lgreenapi\n",
            root.join("include").display(),
            place.display()
        ),
    )?;
    let go = place.join("delete-go");
    let compiled = Command::new("go")
        .current_dir(root.join("bindings/go"))
        .env("PKG_CONFIG_PATH", &place)
        // Go's build cache depends on this variable, but not on pkg-config's output.
        .env("CGO_LDFLAGS", format!("-L{}", place.display()))
        // With -buildvcs Go would ask git, which fails if another user owns the checkout.
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&go)
        .arg("./examples/delete")
        .status();
    match compiled {
        Ok(status) if status.success() => programs.push(Program {
            language: "Go (bindings/go/examples/delete)",
            command: vec![go],
            environment: found_at_run_time.to_vec(),
        }),
        Ok(_) => {
            println!("Go is left out: the program could not be built (is pkg-config installed?).")
        }
        Err(_) => println!("Go is left out: go is not installed."),
    }
    Ok(programs)
}
