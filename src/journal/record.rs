//! The format of a journal's lines, which docs/JOURNAL.md describes: formatting and parsing,
//! without access to a file.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::endpoint::LARGEST_ID;
use crate::status;

/// The version of the format. Later versions of the library must be able to read it.
const VERSION: u32 = 1;

const MAGIC: &str = "greenapi-journal ";

/// `2026-11-25T00:41:18.123Z`
const TIME_SHAPE: &[u8] = b"0000-00-00T00:00:00.000Z";

/// No line is longer: an address has at most 4096 bytes, and percent-encoding makes it at most
/// three times as long.
pub(super) const LONGEST_LINE: usize = 32 * 1024;

/// One line of the journal other than the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970, UTC.
    pub at: u64,
    pub id: i64,
    pub event: Event,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The deletion may be sent from here on.
    Begin,
    /// A logout of the instance may be sent from here on.
    LogOut,
    /// The call ended.
    End {
        /// A `greenapi_status`, which a later version may have written.
        status: i32,
        code: i32,
    },
}

/// The content of the first line.
#[derive(Debug, PartialEq, Eq)]
pub enum Header<'a> {
    /// The address that the journal belongs to.
    Address(&'a str),
    LaterVersion(u32),
    Damaged,
    /// The line does not begin like a journal's first line.
    NotAJournal,
}

/// The current time in milliseconds since 1970, as in [`Record::at`].
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

/// The first line, line end included.
pub fn header(address: &str) -> String {
    let mut line = format!("{MAGIC}{VERSION} {address}");
    close(&mut line, 0);
    line
}

/// Reads the first line, given without its line end.
pub fn parse_header(line: &[u8]) -> Header<'_> {
    if !line.starts_with(MAGIC.as_bytes()) {
        return Header::NotAJournal;
    }
    let parsed = checked(line).and_then(|text| {
        let (version, address) = text.strip_prefix(MAGIC)?.split_once(' ')?;
        Some((number(version.as_bytes())?, address))
    });
    match parsed {
        Some((version, address)) if version == i64::from(VERSION) => Header::Address(address),
        Some((version, _)) if version > i64::from(VERSION) => {
            Header::LaterVersion(u32::try_from(version).unwrap_or(u32::MAX))
        }
        _ => Header::Damaged,
    }
}

/// Whether `start`, which has no line end, can be an interrupted write of the header for `address`.
pub fn is_torn_header(start: &[u8], address: &str) -> bool {
    header(address).as_bytes().starts_with(without_zeros(start))
}

impl Record {
    /// Appends the record to `lines` as one line, line end included.
    pub fn write(&self, lines: &mut String) {
        let start = lines.len();
        write_time(self.at, lines);
        let id = self.id;
        // Writing to a string cannot fail.
        let _ = match self.event {
            Event::Begin => write!(lines, " begin {id}"),
            Event::LogOut => write!(lines, " logout {id}"),
            Event::End { status, code } => {
                let name = status::name(status).to_str().unwrap_or_default();
                let name = name.trim_start_matches("GREENAPI_STATUS_");
                write!(lines, " end {id} {status} {code} {name}")
            }
        };
        close(lines, start);
    }

    /// Parses a line, given without its line end; `None` if the format or the checksum is wrong.
    pub fn parse(line: &[u8]) -> Option<Self> {
        let text = checked(line)?;
        let (time, rest) = text.split_at_checked(TIME_SHAPE.len())?;
        let at = parse_time(time.as_bytes())?;
        let mut fields = rest.strip_prefix(' ')?.split(' ');
        let event = fields.next()?;
        let id = number(fields.next()?.as_bytes()).filter(|id| (1..=LARGEST_ID).contains(id))?;
        let event = match event {
            "begin" => Event::Begin,
            "logout" => Event::LogOut,
            "end" => {
                let status = i32::try_from(number(fields.next()?.as_bytes())?).ok()?;
                let code = i32::try_from(number(fields.next()?.as_bytes())?).ok()?;
                // The status name is only for human readers, so any name is accepted.
                if status < 0 || !is_name(fields.next()?.as_bytes()) {
                    return None;
                }
                Event::End { status, code }
            }
            _ => return None,
        };
        match fields.next() {
            None => Some(Self { at, id, event }),
            Some(_) => None,
        }
    }
}

/// Whether `start`, which has no line end, can be an interrupted write of a record. Any other bytes
/// mean that the file was changed afterwards.
pub fn is_torn(start: &[u8]) -> bool {
    let start = without_zeros(start);
    let (time, rest) = start.split_at(start.len().min(TIME_SHAPE.len()));
    if !time
        .iter()
        .zip(TIME_SHAPE)
        .all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte == shape,
        })
    {
        return false;
    }
    let Some((b' ', rest)) = rest.split_first() else {
        return rest.is_empty();
    };
    let mut fields = rest.split(|byte| *byte == b' ');
    let event = fields.next().unwrap_or_default();
    let mut rest: Vec<&[u8]> = fields.collect();
    let Some(last) = rest.pop() else {
        return [&b"begin"[..], b"logout", b"end"]
            .iter()
            .any(|word| word.starts_with(event));
    };
    type Shape = fn(&[u8]) -> bool;
    let digits: Shape = |field| field.iter().all(u8::is_ascii_digit) && field.len() <= 10;
    let signed: Shape = |field| {
        let field = field.strip_prefix(b"-").unwrap_or(field);
        field.iter().all(u8::is_ascii_digit) && field.len() <= 10
    };
    let name: Shape = |field| field.is_empty() || is_name(field);
    let sum: Shape = |field| field.iter().all(is_hex) && field.len() <= 8;
    let shapes: &[Shape] = match event {
        b"begin" | b"logout" => &[digits, sum],
        b"end" => &[digits, digits, signed, name, sum],
        _ => return false,
    };
    let Some(shape) = shapes.get(rest.len()) else {
        return false;
    };
    let complete = rest.len() + 1 == shapes.len() && last.len() == 8;
    shape(last)
        && rest
            .iter()
            .zip(shapes)
            .all(|(field, shape)| !field.is_empty() && shape(field))
        // If only the line end is missing, the checksum must be right.
        && (!complete || Record::parse(start).is_some())
}

/// `bytes` without the zeros that some file systems leave at the end of an interrupted write.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    &bytes[..bytes.len() - zeros]
}

/// Ends the line that begins at `start` with its checksum and a line end.
fn close(lines: &mut String, start: usize) {
    let sum = crc32fast::hash(&lines.as_bytes()[start..]);
    let _ = writeln!(lines, " {sum:08x}");
}

/// The content of a line without its checksum; `None` if the checksum is wrong.
fn checked(line: &[u8]) -> Option<&str> {
    let (content, end) = line.split_at_checked(line.len().checked_sub(9)?)?;
    let sum = end.strip_prefix(b" ")?.iter().try_fold(0u32, |sum, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(sum << 4 | u32::from(digit))
    })?;
    (crc32fast::hash(content) == sum)
        .then(|| std::str::from_utf8(content).ok())
        .flatten()
}

fn is_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn is_name(field: &[u8]) -> bool {
    !field.is_empty()
        && field
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// Parses an integer in the one form that the journal uses: no plus sign, no leading zeros.
fn number(digits: &[u8]) -> Option<i64> {
    let (sign, digits) = match digits.strip_prefix(b"-") {
        Some(digits) => (-1, digits),
        None => (1, digits),
    };
    let valid = matches!((digits, sign), ([b'0'], 1) | ([b'1'..=b'9', ..], _));
    if !valid || digits.len() > 18 {
        return None;
    }
    let value = digits.iter().try_fold(0i64, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })?;
    Some(sign * value)
}

/// The last millisecond of the year 9999, because a time is written with a four-digit year.
pub(super) const LAST_MOMENT: u64 = 253_402_300_799_999;

const DAY: u64 = 86_400;

/// Appends a time as `2026-11-25T00:41:18.123Z`.
pub fn write_time(milliseconds: u64, text: &mut String) {
    let milliseconds = milliseconds.min(LAST_MOMENT);
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    let (days, second) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = date(days);
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{milliseconds:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
}

fn parse_time(text: &[u8]) -> Option<u64> {
    let shaped = text
        .iter()
        .zip(TIME_SHAPE)
        .all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            shape => byte == shape,
        });
    if !shaped || text.len() != TIME_SHAPE.len() {
        return None;
    }
    let field = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .fold(0u64, |value, byte| value * 10 + u64::from(byte - b'0'))
    };
    let (year, month, day) = (field(0, 4), field(5, 7), field(8, 10));
    let (hour, minute, second) = (field(11, 13), field(14, 16), field(17, 19));
    let days = days(year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some((days * DAY + hour * 3600 + minute * 60 + second) * 1000 + field(20, 23))
}

/// The first day of a month, counted in days from the first of March.
fn month_start(month_from_march: u64) -> u64 {
    (153 * month_from_march + 2) / 5
}

/// The number of days from 1970-01-01 to a date; `None` for a date that does not exist. The
/// computation lets years begin in March, so that the leap day is the last day; 719 468 days lie
/// between 0000-03-01 and 1970-01-01.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let longest = match month {
        2 => 28 + u64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=longest).contains(&day) || year < 1970 {
        return None;
    }
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        month => (year, month - 3),
    };
    let before = year * 365 + year / 4 - year / 100 + year / 400;
    Some(before + month_start(month) + day - 1 - 719_468)
}

/// The date (year, month, day) that is `days` after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    // A cycle of 400 years has 146 097 days.
    let (cycle, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - month_start(month) + 1;
    let year = cycle * 400 + year;
    match month {
        10 | 11 => (year + 1, month - 9, day),
        month => (year, month + 3, day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(record: Record) -> String {
        let mut line = String::new();
        record.write(&mut line);
        line
    }

    const AT: u64 = 1_795_567_278_123;

    const fn record(event: Event) -> Record {
        Record {
            at: AT,
            id: 1_101_000_001,
            event,
        }
    }

    const RECORDS: [(Record, &str); 5] = [
        (
            record(Event::Begin),
            "2026-11-25T00:41:18.123Z begin 1101000001 e4dc48ee\n",
        ),
        (
            record(Event::LogOut),
            "2026-11-25T00:41:18.123Z logout 1101000001 eea9b8a5\n",
        ),
        (
            record(Event::End {
                status: 0,
                code: 200,
            }),
            "2026-11-25T00:41:18.123Z end 1101000001 0 200 OK 48bae833\n",
        ),
        (
            record(Event::End {
                status: 31,
                code: -5,
            }),
            "2026-11-25T00:41:18.123Z end 1101000001 31 -5 CONNECTION_LOST 18a01c0e\n",
        ),
        (
            record(Event::End {
                status: 99,
                code: 0,
            }),
            "2026-11-25T00:41:18.123Z end 1101000001 99 0 UNKNOWN 046b4824\n",
        ),
    ];

    #[test]
    fn a_record_is_one_line() {
        for (record, expected) in RECORDS {
            assert_eq!(line(record), expected);
            assert_eq!(
                Record::parse(expected.trim_end().as_bytes()),
                Some(record),
                "{expected}"
            );
        }
    }

    /// The checksums are right, so the content is the reason for the refusal.
    #[test]
    fn what_is_no_record() {
        for content in [
            "",
            "2026-11-25T00:41:18.123Z",
            "2026-11-25T00:41:18.123Z begin",
            "2026-11-25T00:41:18.123Z begin 0",
            "2026-11-25T00:41:18.123Z begin 01",
            "2026-11-25T00:41:18.123Z begin -1",
            "2026-11-25T00:41:18.123Z begin 10000000000",
            "2026-11-25T00:41:18.123Z begin 1 ",
            "2026-11-25T00:41:18.123Z  begin 1",
            "2026-11-25T00:41:18.123Z begin 1 2",
            "2026-11-25T00:41:18.123Z ended 1",
            "2026-11-25T00:41:18.123Z end 1",
            "2026-11-25T00:41:18.123Z end 1 0 200",
            "2026-11-25T00:41:18.123Z end 1 0 200 ",
            "2026-11-25T00:41:18.123Z end 1 0 200 ok",
            "2026-11-25T00:41:18.123Z end 1 -1 200 OK",
            "2026-11-25T00:41:18.123Z end 1 0 -0 OK",
            "2026-11-25T00:41:18.123Z end 1 0 99999999999 OK",
            "2026-11-25T00:41:18.123Z end 1 0 200 OK OK",
            "2026-02-29T00:41:18.123Z begin 1",
            "2026-13-25T00:41:18.123Z begin 1",
            "2026-11-25T24:41:18.123Z begin 1",
            "1969-11-25T00:41:18.123Z begin 1",
            "2026-11-25 00:41:18.123Z begin 1",
        ] {
            let mut line = content.to_owned();
            close(&mut line, 0);
            assert_eq!(Record::parse(line.trim_end().as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_first_line() {
        let address = "https://gateway:8443/green/api";
        let line = header(address);
        let line = line.trim_end().as_bytes();
        assert_eq!(parse_header(line), Header::Address(address));
        let mut later = "greenapi-journal 2 whatever comes then".to_owned();
        close(&mut later, 0);
        assert_eq!(
            parse_header(later.trim_end().as_bytes()),
            Header::LaterVersion(2)
        );
        for other in ["", "root:x:0:0", "greenapi"] {
            assert_eq!(parse_header(other.as_bytes()), Header::NotAJournal);
        }
        for damaged in ["greenapi-journal 1", "greenapi-journal 1 x 00000000"] {
            assert_eq!(parse_header(damaged.as_bytes()), Header::Damaged);
        }
        let versions = ["0", "01", "-2", "x"].map(|version| format!("{MAGIC}{version} {address}"));
        for damaged in versions.into_iter().chain([MAGIC.trim_end().to_owned()]) {
            let mut line = damaged;
            close(&mut line, 0);
            assert_eq!(parse_header(line.trim_end().as_bytes()), Header::Damaged);
        }
        for length in 0..header(address).len() {
            assert!(is_torn_header(
                &header(address).as_bytes()[..length],
                address
            ));
        }
        assert!(!is_torn_header(
            b"greenapi-journal 1 https://other",
            address
        ));
        assert!(!is_torn_header(b"hello", address));
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (AT, "2026-11-25T00:41:18.123Z"),
            (4_107_542_400_001, "2100-03-01T00:00:00.001Z"),
            (LAST_MOMENT, "9999-12-31T23:59:59.999Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            let mut written = String::new();
            write_time(milliseconds, &mut written);
            assert_eq!(written, text);
            assert_eq!(
                parse_time(text.as_bytes()),
                Some(milliseconds.min(LAST_MOMENT)),
                "{text}"
            );
        }
    }

    #[test]
    fn every_beginning_of_a_record_may_be_torn_and_nothing_else() {
        for (record, _) in RECORDS {
            let line = line(record);
            for length in 0..line.len() {
                let mut start = line.as_bytes()[..length].to_vec();
                assert!(is_torn(&start), "{:?}", &line[..length]);
                start.extend([0; 70]);
                assert!(is_torn(&start), "{:?} and zeros", &line[..length]);
            }
            // A line whose line end was changed is no interrupted write.
            for bit in 0..8 {
                let mut changed = line.clone().into_bytes();
                *changed.last_mut().unwrap() ^= 1 << bit;
                assert!(!is_torn(&changed), "bit {bit}");
            }
        }
        for other in [
            "x",
            "2026-11-25T00:41:18.123Z ",
            "2026-11-25T00:41:18.123Z be",
            "2026-11-25T00:41:18.123Z end 1 0 200 O",
        ] {
            assert_eq!(is_torn(other.as_bytes()), other != "x");
        }
        for other in [
            "hello",
            "2026-11-25T00:41:18.123Zx",
            "2026-11-25T00:41:18.123Z bex",
            "2026-11-25T00:41:18.123Z begin 1 2 3",
            "2026-11-25T00:41:18.123Z begin  1",
            "2026-11-25T00:41:18.123Z begin 1 00000000",
            "2026-11-25T00:41:18.123Z begin 1 000000000",
        ] {
            assert!(!is_torn(other.as_bytes()), "{other}");
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let event = prop_oneof![
            Just(Event::Begin),
            Just(Event::LogOut),
            (0..100i32, any::<i32>()).prop_map(|(status, code)| Event::End { status, code }),
        ];
        (0..=LAST_MOMENT, 1..=LARGEST_ID, event).prop_map(|(at, id, event)| Record {
            at,
            id,
            event,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(record in any_record()) {
            let line = line(record);
            prop_assert_eq!(Record::parse(line.trim_end().as_bytes()), Some(record));
        }

        #[test]
        fn a_flipped_bit_anywhere_is_seen(record in any_record(), place in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut line = line(record).into_bytes();
            line.pop();
            let place = place.index(line.len());
            line[place] ^= 1 << bit;
            prop_assert_eq!(Record::parse(&line), None);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (Record::parse(&bytes), parse_header(&bytes), is_torn(&bytes));
        }
    }
}
