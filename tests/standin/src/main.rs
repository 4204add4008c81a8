//! The stand-in as a program: prints its addresses, and ends when its standard input is closed.

use std::io::{self, Write as _};
use std::process::ExitCode;

use greenapi_standin::{Config, Standin};
use tokio::sync::oneshot;

const HELP: &str = "\
A local server for tests that answers like GREEN-API's partner interface.

Usage: greenapi-standin [OPTIONS]

Options:
      --port PORT        port of plain HTTP [default: any]
      --https-port PORT  port of HTTPS [default: any]
      --token TOKEN      partner token [default: a made-up one]
      --instances N      instances at the start, from id 1101000001 on [default: 10]
      --directory DIR    where ca.pem is written [default: a temporary directory]
      --stay             do not end when the standard input is closed
  -h, --help             print this help

Prints its addresses as one line of JSON. README.md explains the control interface and the
faults.
";

/// The parsed command line.
struct Options {
    config: Config,
    stay: bool,
}

fn main() -> ExitCode {
    let options = match parse() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("greenapi-standin: {error}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("greenapi-standin: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the command line; `None` for `--help`.
fn parse() -> Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;

    let mut options = Options {
        config: Config::default(),
        stay: false,
    };
    let config = &mut options.config;
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => config.port = parser.value()?.parse()?,
            Long("https-port") => config.https_port = parser.value()?.parse()?,
            Long("token") => config.token = parser.value()?.string()?,
            Long("instances") => config.instances = parser.value()?.parse()?,
            Long("directory") => config.directory = Some(parser.value()?.into()),
            Long("stay") => options.stay = true,
            Short('h') | Long("help") => return Ok(None),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(Some(options))
}

fn run(options: Options) -> io::Result<()> {
    let standin = Standin::start(options.config)?;
    let mut line = serde_json::to_string(standin.endpoints())?;
    line.push('\n');
    let mut output = io::stdout().lock();
    output.write_all(line.as_bytes())?;
    output.flush()?;
    wait_for_the_end(options.stay)
}

/// Waits for a signal or for the end of the input. Catching the signals lets the program remove its
/// temporary directory.
fn wait_for_the_end(stay: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let input = input_ended();
        tokio::select! {
            signalled = signalled() => signalled,
            _ = input, if !stay => Ok(()),
        }
    })
}

#[cfg(unix)]
async fn signalled() -> io::Result<()> {
    use tokio::signal::unix::{signal, SignalKind};

    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(windows)]
async fn signalled() -> io::Result<()> {
    tokio::signal::ctrl_c().await
}

/// Reads the standard input on a separate thread: a blocking read cannot be cancelled, and the
/// runtime would wait for it when it shuts down.
fn input_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // An error ends the input too.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}
