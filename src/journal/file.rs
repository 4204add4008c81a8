//! The file of a journal: opened, locked and read once, then only appended to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::{read, Index, Refusal};
use super::record::header;
use crate::process::file::{self, HeldFile, Identity, OpenError};

/// How long the lock of a client that was just freed, here or in another process, may take to end.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct JournalFile {
    held: HeldFile,
    path: PathBuf,
    /// Of the whole lines in it.
    length: u64,
    /// Up to where it can grow without being refused.
    room: u64,
    synced: bool,
    /// Nothing about it is believed any more.
    broken: bool,
}

/// Why a journal cannot be opened.
#[derive(Debug)]
pub enum OpenFailure {
    NotAFile(&'static str),
    /// Another process holds it.
    Held,
    Refused(Refusal),
    Failed(io::Error),
}

impl From<io::Error> for OpenFailure {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Why lines are not in the file.
#[derive(Debug)]
pub struct WriteFailure {
    pub error: io::Error,
    /// Whether the file is as it was, so that a later attempt may succeed.
    pub can_pass: bool,
}

impl JournalFile {
    /// Opens or makes the file, without a look into it.
    pub fn open(path: &Path) -> Result<Self, OpenFailure> {
        // The working directory may change.
        let path = std::path::absolute(path)?;
        let held = HeldFile::open(&path).map_err(|error| match error {
            OpenError::NotAFile(what) => OpenFailure::NotAFile(what),
            OpenError::Failed(error) => OpenFailure::Failed(error),
        })?;
        Ok(Self {
            held,
            path,
            length: 0,
            room: 0,
            synced: false,
            broken: false,
        })
    }

    pub fn identity(&self) -> io::Result<Identity> {
        self.held.identity()
    }

    /// Locks and reads it, and makes it ready to append to: what is torn is cut off, and a new one
    /// gets its first line. All of it is durable then.
    pub fn load(&mut self, address: &str) -> Result<Index, OpenFailure> {
        self.lock()?;
        let loaded = read(&mut &self.held.file, address).map_err(OpenFailure::Refused)?;
        self.length = loaded.whole;
        if loaded.length > loaded.whole {
            self.held.file.set_len(loaded.whole)?;
        }
        if loaded.whole == 0 {
            self.held.make_private();
            self.append(header(address).as_bytes())
                .map_err(|failure| failure.error)?;
        }
        // With a process that was killed, nobody knows what it had synced.
        self.held.file.sync_all()?;
        if let Some(directory) = self.path.parent() {
            file::sync_directory(directory)?;
        }
        self.synced = true;
        Ok(loaded.index)
    }

    fn lock(&self) -> Result<(), OpenFailure> {
        const PAUSE: Duration = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while !self.held.lock()? {
            if waited >= PATIENCE {
                return Err(OpenFailure::Held);
            }
            std::thread::sleep(PAUSE);
            waited += PAUSE;
        }
        // Its last holder may have removed it, or put another in its place.
        match self.held.is_at(&self.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenFailure::Held),
            Err(error) => Err(error.into()),
        }
    }

    /// Sees to it that so many bytes can be appended. A deletion that may be sent must find room
    /// for its end later.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), WriteFailure> {
        /// What is not asked for at every turn.
        const AHEAD: u64 = 64 * 1024;
        if self.length + bytes <= self.room {
            return Ok(());
        }
        let held = &self.held;
        let (ahead, exact) = (bytes.max(AHEAD), bytes);
        let room = held
            .make_room(self.length, ahead)
            .map(|()| ahead)
            .or_else(|_| held.make_room(self.length, exact).map(|()| exact));
        match room {
            Ok(room) => {
                self.room = self.length + room;
                Ok(())
            }
            Err(error) => Err(WriteFailure {
                error,
                can_pass: true,
            }),
        }
    }

    /// Appends whole lines: all of them, or none.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        self.check()?;
        self.synced = false;
        match self.held.append(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Otherwise the next line would follow half a line. It gives room away, too.
                self.broken = self.held.file.set_len(self.length).is_err();
                self.room = self.length;
                Err(WriteFailure {
                    error,
                    can_pass: !self.broken,
                })
            }
        }
    }

    /// Makes all of it durable. After a failure nobody knows what is: some systems forget what
    /// they could not write, and the next sync succeeds without it.
    pub fn sync(&mut self) -> Result<(), WriteFailure> {
        if self.broken || self.synced {
            return Ok(());
        }
        match self.held.file.sync_data() {
            Ok(()) => {
                self.synced = true;
                Ok(())
            }
            Err(error) => Err(self.broken(error)),
        }
    }

    /// A note in a file that nobody will find again would be worth nothing, and one behind what
    /// somebody else has written could not be read.
    fn check(&mut self) -> Result<(), WriteFailure> {
        if self.broken {
            return Err(self.broken(io::Error::other("it failed before")));
        }
        match self.held.length_and_name() {
            Ok((_, false)) => Err(self.broken(io::Error::other("it was removed"))),
            Ok((length, true)) if length != self.length => {
                Err(self.broken(io::Error::other("somebody else has changed it")))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.broken(error)),
        }
    }

    fn broken(&mut self, error: io::Error) -> WriteFailure {
        self.broken = true;
        WriteFailure {
            error,
            can_pass: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::index::Deletion;
    use crate::journal::record::{Event, Record};
    use std::fs;
    use std::io::Write;

    const ADDRESS: &str = "https://api.green-api.com";

    /// A path of its own for each test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir()
                .join(format!("greenapi-journal-{}-{name}", std::process::id()));
            let _ = fs::remove_file(&path);
            Self(path)
        }
        fn open(&self) -> Result<(JournalFile, Index), OpenFailure> {
            let mut file = JournalFile::open(&self.0)?;
            let index = file.load(ADDRESS)?;
            Ok((file, index))
        }
        fn text(&self) -> String {
            fs::read_to_string(&self.0).unwrap()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn begin(id: i64) -> String {
        let mut line = String::new();
        Record {
            at: 0,
            id,
            event: Event::Begin,
        }
        .write(&mut line);
        line
    }

    #[test]
    fn what_is_appended_is_there_when_it_is_opened_again() {
        let place = Place::new("again");
        let (mut file, _) = place.open().unwrap();
        assert_eq!(place.text(), header(ADDRESS));
        file.append(begin(7).as_bytes()).unwrap();
        file.sync().unwrap();
        drop(file);
        let (_file, index) = place.open().unwrap();
        assert_eq!(index.get(7).deletion, Deletion::InDoubt);
    }

    #[test]
    fn what_is_torn_is_cut_off() {
        let place = Place::new("torn");
        for torn in ["", "greenapi-jour", &(header(ADDRESS) + &begin(1)[..30])] {
            fs::write(&place.0, torn).unwrap();
            let (mut file, _) = place.open().unwrap();
            assert_eq!(place.text(), header(ADDRESS));
            file.append(begin(2).as_bytes()).unwrap();
            drop(file);
            assert_eq!(place.text(), header(ADDRESS) + &begin(2));
        }
    }

    /// A file that was refused is left as it was, whatever it is.
    #[test]
    fn what_is_refused_is_not_touched() {
        let place = Place::new("foreign");
        for foreign in ["hello", "root:x:0:0:root\n", &(header(ADDRESS) + "x")] {
            fs::write(&place.0, foreign).unwrap();
            assert!(matches!(place.open(), Err(OpenFailure::Refused(_))));
            assert_eq!(place.text(), foreign);
        }
    }

    #[test]
    fn the_second_holder_is_refused() {
        let place = Place::new("held");
        let (_file, _) = place.open().unwrap();
        assert!(matches!(place.open(), Err(OpenFailure::Held)));
    }

    #[test]
    fn a_journal_that_somebody_changes_is_broken_for_good() {
        let place = Place::new("changed");
        let (mut file, _) = place.open().unwrap();
        fs::OpenOptions::new()
            .append(true)
            .open(&place.0)
            .and_then(|mut other| other.write_all(b"x"))
            .unwrap();
        for _ in 0..2 {
            assert!(!file.append(begin(1).as_bytes()).unwrap_err().can_pass);
        }
        drop(file);
        fs::remove_file(&place.0).unwrap();

        let (mut file, _) = place.open().unwrap();
        fs::remove_file(&place.0).unwrap();
        assert!(!file.append(begin(1).as_bytes()).unwrap_err().can_pass);
    }
}
