//! A reader of journals that shares nothing with the library's: docs/JOURNAL.md in code.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// One line but the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Milliseconds since 1970.
    pub at: u64,
    pub event: String,
    pub id: i64,
    pub status: Option<i32>,
}

/// The journal's address and its lines, without a last one that is torn.
pub fn read(path: &Path) -> (String, Vec<Line>) {
    parse(&fs::read(path).expect("the journal can be read"))
}

pub fn parse(bytes: &[u8]) -> (String, Vec<Line>) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n');
    let text = std::str::from_utf8(&bytes[..end.expect("a first line")]).expect("UTF-8");
    let mut lines = text.split('\n').map(|line| {
        let (content, sum) = line.rsplit_once(' ').expect("a check sum");
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

/// For each id the status of its end, or nothing where a deletion began and has none.
pub fn states(lines: &[Line]) -> BTreeMap<i64, Option<i32>> {
    let words = lines.iter().filter(|line| line.event != "logout");
    words.map(|line| (line.id, line.status)).collect()
}

/// Whether nobody knows what became of an id.
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
