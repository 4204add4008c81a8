//! The stand-in as a program: prints where it listens, and ends when its input does.

use std::io::{self, Write as _};
use std::process::ExitCode;

use greenapi_standin::{Config, Standin};
use tokio::signal::unix::{signal, SignalKind};
use tokio::sync::oneshot;

const HELP: &str = "\
A stand-in of the remote GREEN-API partner interface, for tests.

Usage: greenapi-standin [OPTIONS]

Options:
      --port PORT        port of plain HTTP [default: any]
      --https-port PORT  port of HTTPS [default: any]
      --token TOKEN      partner token [default: a made-up one]
      --instances N      instances to begin with, from id 1101000001 on [default: 10]
      --directory DIR    where ca.pem is written [default: a temporary directory]
      --stay             do not end when the standard input does
  -h, --help             print this help

Prints one line of JSON that says where everything is. README.md explains the control
interface and the faults.
";

/// What the command line asks for.
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

/// Reads the command line; `None` when it asks for help.
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

/// Waits for a signal, or for the end of the input. Signals are waited for rather than left to
/// kill the process, so that the temporary directory goes, too.
fn wait_for_the_end(stay: bool) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let input = input_ended();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = input, if !stay => {}
        }
        Ok(())
    })
}

/// Reads the standard input on a thread of its own: a read cannot be taken back, and a runtime
/// would wait for it in the end.
fn input_ended() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // An error is as final as the end.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let _ = sender.send(());
    });
    receiver
}
