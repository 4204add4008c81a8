//! Shared by the tests of the journal: a reader written from docs/JOURNAL.md alone, without the
//! library's code, and the worker program that the tests kill.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// A line of the journal, except the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at: u64,
    pub event: String,
    pub id: i64,
    pub status: Option<i32>,
}

/// The journal's address and its lines, without an incomplete last line.
pub fn read(path: &Path) -> (String, Vec<Line>) {
    parse(&fs::read(path).expect("the journal can be read"))
}

pub fn parse(bytes: &[u8]) -> (String, Vec<Line>) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let text = std::str::from_utf8(&bytes[..end.expect("a first line")]).expect("UTF-8");
    let mut lines = text.split('\n').map(|line| {
        let (content, sum) = line.rsplit_once(' ').expect("a checksum");
        assert_eq!(format!("{:08x}", crc32(content.as_bytes())), sum, "{line}");
        content.split(' ').map(str::to_owned).collect::<Vec<_>>()
    });
    let header = lines.next().expect("a first line");
    assert_eq!(header[..2], ["greenapi-journal", "1"]);
    let lines = lines.map(|fields| Line {
        at: milliseconds(&fields[0]),
        event: fields[1].clone(),
        id: fields[2].parse().expect("an id"),
        status: fields
            .get(3)
            .map(|status| status.parse().expect("a status")),
    });
    (header[2].clone(), lines.collect())
}

/// The status of each id's `end`, or `None` where a `begin` has no `end`.
pub fn states(lines: &[Line]) -> BTreeMap<i64, Option<i32>> {
    let words = lines.iter().filter(|line| line.event != "logout");
    words.map(|line| (line.id, line.status)).collect()
}

/// Whether the outcome of an id is unknown.
pub fn is_in_doubt(state: Option<&Option<i32>>) -> bool {
    matches!(state, Some(None | Some(30..)))
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn milliseconds(time: &str) -> u64 {
    let field = |from: usize, to: usize| time[from..to].parse::<u64>().expect("a number");
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut days = (1970..field(0, 4))
        .map(|year| 365 + u64::from(leap(year)))
        .sum::<u64>();
    let february = 28 + u64::from(leap(field(0, 4)));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += months[..field(5, 7) as usize - 1].iter().sum::<u64>() + field(8, 10) - 1;
    let seconds = days * 86_400 + field(11, 13) * 3600 + field(14, 16) * 60 + field(17, 19);
    seconds * 1000 + field(20, 23)
}

/// A command that runs tests/journal/worker.c.
pub fn worker(mode: &str, journal: &Path, url: &str, token: &str) -> Command {
    let mut command = Command::new(worker_program());
    command
        .arg(mode)
        .arg(journal)
        .env("GREENAPI_URL", url)
        .env("GREENAPI_TOKEN", token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The same command with tests/journal/shim.c preloaded.
pub fn shimmed(mut worker: Command, journal: &Path) -> Command {
    worker.env("LD_PRELOAD", shim()).env("SHIM_FILE", journal);
    worker
}

/// Runs a worker that must end by itself.
pub fn run(command: Command, ids: &[i64]) -> Vec<Said> {
    let (killed, said) = finish(start(command, ids));
    assert!(!killed);
    said
}

fn worker_program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| super::compile(&super::root().join("tests/journal/worker.c"), &[]))
        .clone()
}

fn shim() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let object = super::scratch("programs").join("journal-shim.so");
            super::run(
                Command::new(super::tool("cc"))
                    .args([
                        "-std=c11",
                        "-D_GNU_SOURCE",
                        "-O1",
                        "-Wall",
                        "-Wextra",
                        "-Werror",
                    ])
                    .args(["-shared", "-fPIC", "-pthread"])
                    .arg(super::root().join("tests/journal/shim.c"))
                    .arg("-o")
                    .arg(&object)
                    .arg("-ldl"),
            );
            object
        })
        .clone()
}

/// A result that a worker printed.
#[derive(Debug, Clone)]
pub struct Said {
    pub id: i64,
    pub status: i32,
    pub code: i32,
    pub attempts: u32,
    pub message: String,
}

impl Said {
    pub fn parse(line: &str) -> Self {
        let fields: Vec<&str> = line.splitn(5, '\t').collect();
        let number = |place: usize| fields[place].parse().expect("a number");
        Self {
            id: fields[0].parse().expect("an id"),
            status: number(1),
            code: number(2),
            attempts: fields[3].parse().expect("a count"),
            message: fields[4].to_owned(),
        }
    }
}

/// Starts a worker with these ids.
pub fn start(mut command: Command, ids: &[i64]) -> Child {
    let mut child = command.spawn().expect("the worker starts");
    let list: String = ids.iter().map(|id| format!("{id}\n")).collect();
    let mut input = child.stdin.take().expect("its pipe exists");
    // A worker that was killed does not read the ids.
    let _ = input.write_all(list.as_bytes());
    child
}

/// Waits for a worker. Returns whether it was killed, and the results that it printed.
pub fn finish(child: Child) -> (bool, Vec<Said>) {
    let output = child
        .wait_with_output()
        .expect("the process can be waited for");
    let killed = output.status.code().is_none();
    assert!(
        killed || output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    // The last line of a killed worker may be incomplete.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().filter(|line| !line.is_empty());
    (killed, lines.map(Said::parse).collect())
}
