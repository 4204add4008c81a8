//! The state of each instance according to the journal, held in memory: read from the file once,
//! then updated with every record.

use std::collections::{HashMap, TryReserveError};
use std::io::{self, Read};

use super::record::{is_torn, is_torn_header, parse_header, Event, Header, Record, LONGEST_LINE};

/// What the journal's records say about one instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    pub deletion: Deletion,
    /// A logout may have been sent by a call that has no end record or ended in doubt.
    pub logged_out: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Deletion {
    /// No call in the journal can have deleted the instance.
    #[default]
    None,
    /// A deletion was begun and may have been carried out.
    InDoubt,
    /// The instance is gone.
    Gone { status: i32, code: i32, at: u64 },
}

/// [`Past`] in 8 bytes, because a journal may have millions of instances.
#[derive(Clone, Copy)]
struct Entry {
    /// Seconds since 1970, which fit until 2106.
    at: u32,
    /// The API's code, 200 or 404 for an instance that is gone; a code that does not fit becomes 0.
    code: u16,
    /// A status of 0–9, `NONE` or `IN_DOUBT`.
    status: u8,
    logged_out: bool,
}

const NONE: u8 = 254;
const IN_DOUBT: u8 = 255;

impl Entry {
    const EMPTY: Self = Self {
        at: 0,
        code: 0,
        status: NONE,
        logged_out: false,
    };
}

#[derive(Default)]
pub struct Index {
    entries: HashMap<i64, Entry>,
}

impl Index {
    pub fn get(&self, id: i64) -> Past {
        let entry = self.entries.get(&id).unwrap_or(&Entry::EMPTY);
        Past {
            deletion: match entry.status {
                NONE => Deletion::None,
                IN_DOUBT => Deletion::InDoubt,
                status => Deletion::Gone {
                    status: i32::from(status),
                    code: i32::from(entry.code),
                    at: u64::from(entry.at) * 1000,
                },
            },
            logged_out: entry.logged_out,
        }
    }

    /// Allocates memory for `additional` instances, so that [`Index::apply`] need not.
    pub fn reserve(&mut self, additional: usize) -> Result<(), TryReserveError> {
        self.entries.try_reserve(additional)
    }

    /// Updates the index with a record; false if the record is impossible here: the end of a call
    /// that never began.
    pub fn apply(&mut self, record: &Record) -> bool {
        match record.event {
            Event::Begin => self.entry(record.id).status = IN_DOUBT,
            Event::LogOut => self.entry(record.id).logged_out = true,
            Event::End { status, code } => {
                let Some(entry) = self.entries.get_mut(&record.id) else {
                    return false;
                };
                if entry.status != IN_DOUBT && !entry.logged_out {
                    return false;
                }
                match status {
                    0..=9 => {
                        *entry = Entry {
                            at: u32::try_from(record.at / 1000).unwrap_or(u32::MAX),
                            code: u16::try_from(code).unwrap_or_default(),
                            status: status as u8,
                            logged_out: false,
                        }
                    }
                    10..=29 => {
                        self.entries.remove(&record.id);
                    }
                    _ => entry.status = IN_DOUBT,
                }
            }
        }
        true
    }

    fn entry(&mut self, id: i64) -> &mut Entry {
        self.entries.entry(id).or_insert(Entry::EMPTY)
    }
}

/// Why a file is not used as the journal.
#[derive(Debug)]
pub enum Refusal {
    NotAJournal,
    OtherAddress(String),
    LaterVersion(u32),
    /// The number of the line, from 1.
    Damaged(u64),
    NoMemory,
    Failed(io::Error),
}

/// A journal that was read.
pub struct Loaded {
    pub index: Index,
    /// The length of all complete lines in bytes; the bytes after them are an interrupted write. 0:
    /// not even the first line is complete.
    pub whole: u64,
    /// The length of the whole file in bytes.
    pub length: u64,
}

/// Reads the journal of `address` from its beginning to its end.
pub fn read(source: &mut impl Read, address: &str) -> Result<Loaded, Refusal> {
    let mut index = Index::default();
    let mut buffer = vec![0; 4 * LONGEST_LINE];
    let (mut line, mut whole, mut length) = (0, 0, 0);
    // The bytes at the start of the buffer that belong to an unfinished line.
    let mut kept = 0;
    loop {
        let got = match source.read(&mut buffer[kept..]) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Refusal::Failed(error)),
        };
        length += got as u64;
        let end = kept + got;
        let mut start = 0;
        while let Some(size) = buffer[start..end].iter().position(|byte| *byte == b'\n') {
            line += 1;
            take(&buffer[start..start + size], line, address, &mut index)?;
            start += size + 1;
        }
        whole += start as u64;
        kept = end - start;
        if kept > LONGEST_LINE {
            // No line is this long, but an interrupted write may end in any number of zeros.
            let zeros = buffer[start + LONGEST_LINE..end].iter().all(|b| *b == 0);
            if !zeros {
                return Err(damaged_or_foreign(&buffer[start..end], line + 1));
            }
            kept = LONGEST_LINE;
        }
        buffer.copy_within(start..start + kept, 0);
    }
    let rest = &buffer[..kept];
    let torn = match line {
        0 => is_torn_header(rest, address),
        _ => is_torn(rest),
    };
    match torn {
        true => Ok(Loaded {
            index,
            whole,
            length,
        }),
        false => Err(damaged_or_foreign(rest, line + 1)),
    }
}

fn take(text: &[u8], line: u64, address: &str, index: &mut Index) -> Result<(), Refusal> {
    if line == 1 {
        return match parse_header(text) {
            Header::Address(its) if its == address => Ok(()),
            Header::Address(its) => Err(Refusal::OtherAddress(its.to_owned())),
            Header::LaterVersion(version) => Err(Refusal::LaterVersion(version)),
            Header::Damaged => Err(Refusal::Damaged(1)),
            Header::NotAJournal => Err(Refusal::NotAJournal),
        };
    }
    let record = Record::parse(text).ok_or(Refusal::Damaged(line))?;
    index.reserve(1).map_err(|_| Refusal::NoMemory)?;
    match index.apply(&record) {
        true => Ok(()),
        false => Err(Refusal::Damaged(line)),
    }
}

fn damaged_or_foreign(text: &[u8], line: u64) -> Refusal {
    match line == 1 && parse_header(text) == Header::NotAJournal {
        true => Refusal::NotAJournal,
        false => Refusal::Damaged(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::header;
    use proptest::prelude::*;

    const ADDRESS: &str = "https://api.green-api.com";
    const ID: i64 = 1_101_000_001;

    const GONE: Event = Event::End {
        status: 0,
        code: 200,
    };
    const LOST: Event = Event::End {
        status: 31,
        code: 0,
    };
    const REFUSED: Event = Event::End {
        status: 11,
        code: 401,
    };

    fn journal(records: &[(i64, Event)]) -> String {
        let mut text = header(ADDRESS);
        for (id, event) in records {
            Record {
                at: 1_795_567_278_123,
                id: *id,
                event: *event,
            }
            .write(&mut text);
        }
        text
    }

    /// A source that returns at most this many bytes at a time.
    struct Pieces<'a>(&'a [u8], usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1.min(buffer.len());
            self.0.read(&mut buffer[..size])
        }
    }

    fn load(text: &[u8]) -> Result<Loaded, Refusal> {
        let pieces = read(&mut Pieces(text, 7), ADDRESS);
        let at_once = read(&mut &text[..], ADDRESS);
        assert_eq!(pieces.is_ok(), at_once.is_ok());
        at_once
    }

    #[test]
    fn the_last_word_about_an_instance_counts() {
        use Deletion::*;
        use Event::{Begin, LogOut};
        let gone = Gone {
            status: 0,
            code: 200,
            at: 1_795_567_278_000,
        };
        let rows: &[(&[Event], Deletion, bool)] = &[
            (&[], None, false),
            (&[Begin], InDoubt, false),
            (&[Begin, GONE], gone, false),
            (&[Begin, LOST], InDoubt, false),
            (&[Begin, REFUSED], None, false),
            (&[Begin, LOST, Begin], InDoubt, false),
            (&[Begin, LOST, Begin, GONE], gone, false),
            (&[Begin, Begin, REFUSED], None, false),
            (&[LogOut], None, true),
            (&[LogOut, Begin], InDoubt, true),
            (&[LogOut, Begin, LOST], InDoubt, true),
            (&[LogOut, Begin, GONE], gone, false),
            (&[LogOut, REFUSED], None, false),
            (&[Begin, LogOut], InDoubt, true),
        ];
        for (events, deletion, logged_out) in rows {
            let records: Vec<_> = events.iter().map(|event| (ID, *event)).collect();
            let loaded = load(journal(&records).as_bytes()).unwrap();
            assert_eq!(
                loaded.index.get(ID),
                Past {
                    deletion: *deletion,
                    logged_out: *logged_out
                },
                "{events:?}"
            );
            assert_eq!(loaded.index.get(ID + 1), Past::default());
        }
    }

    #[test]
    fn an_end_without_a_beginning_is_damage() {
        for events in [&[GONE][..], &[Event::Begin, REFUSED, GONE]] {
            let records: Vec<_> = events.iter().map(|event| (ID, *event)).collect();
            let lines = records.len() as u64;
            match load(journal(&records).as_bytes()) {
                Err(Refusal::Damaged(line)) => assert_eq!(line, lines + 1),
                _ => panic!("{events:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_journal_of_this_address() {
        let mut text = journal(&[(ID, Event::Begin)]);
        assert!(matches!(
            read(&mut text.as_bytes(), "https://api.green-api.com/x"),
            Err(Refusal::OtherAddress(its)) if its == ADDRESS
        ));
        text.push('\n');
        assert!(matches!(load(text.as_bytes()), Err(Refusal::Damaged(3))));
        for foreign in ["\n", "root:x:0:0:root\n", "hello", &"x".repeat(200_000)] {
            assert!(matches!(
                load(foreign.as_bytes()),
                Err(Refusal::NotAJournal)
            ));
        }
        let endless = journal(&[]) + &"x".repeat(200_000);
        assert!(matches!(load(endless.as_bytes()), Err(Refusal::Damaged(2))));
        let zeros = [journal(&[]).into_bytes(), vec![0; 40_000]].concat();
        let loaded = load(&zeros).unwrap();
        assert_eq!(loaded.whole as usize, journal(&[]).len());
        assert_eq!(loaded.length as usize, zeros.len());
        // An empty file becomes a new journal.
        assert_eq!(load(b"").unwrap().whole, 0);
    }

    /// A journal with several lines of every kind, for the tests below.
    fn sample() -> String {
        journal(&[
            (ID, Event::Begin),
            (ID + 1, Event::LogOut),
            (ID + 1, Event::Begin),
            (ID, GONE),
            (ID + 2, Event::Begin),
            (ID + 1, LOST),
            (ID + 2, REFUSED),
        ])
    }

    #[test]
    fn a_journal_torn_at_every_byte_keeps_its_whole_lines() {
        let text = sample();
        for length in 0..=text.len() {
            let torn = &text[..length];
            let loaded = load(torn.as_bytes()).unwrap();
            let whole = torn.rfind('\n').map_or(0, |end| end + 1);
            assert_eq!(loaded.whole as usize, whole);
            assert_eq!(loaded.length as usize, length);
        }
    }

    #[test]
    fn a_bit_flipped_anywhere_is_refused_with_its_line() {
        let text = sample();
        for place in 0..text.len() {
            for bit in 0..8 {
                let mut flipped = text.clone().into_bytes();
                flipped[place] ^= 1 << bit;
                let expected = 1 + text[..place].matches('\n').count() as u64;
                match read(&mut &flipped[..], ADDRESS) {
                    Err(Refusal::Damaged(line)) => assert_eq!(line, expected),
                    Err(Refusal::NotAJournal) => assert_eq!(expected, 1),
                    _ => panic!("bit {bit} of byte {place}"),
                }
            }
        }
    }

    /// The hash table doubles when it is 7/8 full, and the old and the new table exist at once.
    #[test]
    fn an_instance_takes_less_than_64_bytes_at_every_size() {
        let slot = std::mem::size_of::<(i64, Entry)>() + 1;
        let mut index = Index::default();
        let mut before = 0;
        for id in 1..=250_000 {
            let begun = Record {
                at: 0,
                id,
                event: Event::Begin,
            };
            index.reserve(1).unwrap();
            assert!(index.apply(&begun));
            let slots = |capacity: usize| (capacity * 8 / 7).next_power_of_two();
            let capacity = index.entries.capacity();
            if capacity != before && id > 1000 {
                let bytes = (slots(before) + slots(capacity)) * slot;
                assert!(bytes < 64 * id as usize, "{bytes} bytes for {id}");
            }
            before = capacity;
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = load(&bytes);
            let _ = load(&[journal(&[]).into_bytes(), bytes].concat());
        }

        /// A file of complete lines in any order is read correctly or refused as a whole.
        #[test]
        fn lines_in_any_order_give_the_last_word(events in prop::collection::vec((1..4i64, 0..4usize), 0..30)) {
            let kinds = [Event::Begin, Event::LogOut, GONE, LOST];
            let records: Vec<_> = events.iter().map(|(id, kind)| (*id, kinds[*kind])).collect();
            if let Ok(loaded) = load(journal(&records).as_bytes()) {
                for id in 1..4 {
                    let last = records.iter().rev().find(|(its, event)| *its == id && *event != Event::LogOut);
                    let expected = match last {
                        None => false,
                        Some((_, event)) => *event != GONE,
                    };
                    prop_assert_eq!(loaded.index.get(id).deletion == Deletion::InDoubt, expected);
                }
            }
        }
    }
}
