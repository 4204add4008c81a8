//! The file of a journal: opened, locked and read once, then only appended to.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::index::{read, Index, Refusal};
use super::record::header;
use crate::process::file::{self, HeldFile, Identity, OpenError};

/// How long to wait for a lock that is about to be released because its client, in this process or
/// another, has just been freed.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct JournalFile {
    held: HeldFile,
    path: PathBuf,
    identity: Identity,
    /// The length of all complete lines in bytes.
    length: u64,
    /// The length up to which disk space is reserved.
    room: u64,
    synced: bool,
    /// A sync failed: no deletion may begin any more, but the ends of those under way are written.
    failed: bool,
    /// The contents of the file are unknown: nothing is written any more.
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

/// Why lines could not be written.
#[derive(Debug)]
pub struct WriteFailure {
    pub error: io::Error,
    /// Whether a later attempt may succeed: the file is unchanged, and no sync has failed.
    pub can_pass: bool,
}

impl JournalFile {
    /// Opens or creates the file, without reading it.
    pub fn open(path: &Path) -> Result<Self, OpenFailure> {
        // The host may change its working directory later.
        let path = std::path::absolute(path)?;
        let held = HeldFile::open(&path).map_err(|error| match error {
            OpenError::NotAFile(what) => OpenFailure::NotAFile(what),
            OpenError::Failed(error) => OpenFailure::Failed(error),
        })?;
        let identity = held.identity()?;
        Ok(Self {
            held,
            path,
            identity,
            length: 0,
            room: 0,
            synced: false,
            failed: false,
            broken: false,
        })
    }

    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Locks and reads the file and prepares it for appending: cuts off an interrupted write, and
    /// writes the first line of a new file. Then the whole file is durable.
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
        // A process that was killed may have left written records that were not synced.
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
        // The last holder may have removed the file, or replaced it by another one.
        match self.held.is_at(&self.path) {
            Ok(true) => Ok(()),
            Ok(false) => Err(OpenFailure::Held),
            Err(error) => Err(error.into()),
        }
    }

    /// Reserves disk space for appending this many bytes, because a deletion may be sent only if
    /// its end record will find space.
    pub fn make_room(&mut self, bytes: u64) -> Result<(), WriteFailure> {
        /// Reserved at once, so that most appends need no system call for it.
        const AHEAD: u64 = 64 * 1024;
        if self.failed {
            return Err(failed_before());
        }
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

    /// Appends complete lines: all of them, or none.
    pub fn append(&mut self, lines: &[u8]) -> Result<(), WriteFailure> {
        self.check()?;
        self.synced = false;
        match self.held.append(lines) {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Cut off a partly written line. This also frees the reserved space.
                self.broken = self.held.file.set_len(self.length).is_err();
                self.room = self.length;
                Err(WriteFailure {
                    error,
                    can_pass: !self.broken && !self.failed,
                })
            }
        }
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// After a failed [`Self::sync`]: removes the lines from `length` on. False if they may remain.
    pub fn take_back(&mut self, length: u64) -> bool {
        let taken = self.check().is_ok() && self.held.file.set_len(length).is_ok();
        if taken {
            self.length = length;
            self.room = length;
        }
        taken
    }

    /// Makes the whole file durable. After a failure no deletion may begin any more, because some
    /// systems drop the data that they could not write, and the next sync succeeds without it.
    pub fn sync(&mut self) -> Result<(), WriteFailure> {
        if self.broken || self.synced {
            return Ok(());
        }
        match self.held.file.sync_data() {
            Ok(()) => {
                self.synced = true;
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                Err(WriteFailure {
                    error,
                    can_pass: false,
                })
            }
        }
    }

    /// Checks that the file still has its name and its length. A record in a removed or renamed file
    /// would not be read, and a record after foreign bytes would make the journal damaged.
    fn check(&mut self) -> Result<(), WriteFailure> {
        if self.broken {
            return Err(failed_before());
        }
        match self.held.length_at(&self.path, self.identity) {
            Ok(None) => Err(self.broken(io::Error::other("it was removed or renamed"))),
            Ok(Some(length)) if length != self.length => {
                Err(self.broken(io::Error::other("another program has changed it")))
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

fn failed_before() -> WriteFailure {
    WriteFailure {
        error: io::Error::other("it failed before"),
        can_pass: false,
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

    /// A separate path for each test.
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

    /// A file that is refused stays unchanged, whatever it contains.
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
        drop(file);

        let (mut file, _) = place.open().unwrap();
        file.append(begin(1).as_bytes()).unwrap();
        let rotated = place.0.with_extension("1");
        fs::rename(&place.0, &rotated).unwrap();
        // Renaming it back does not tell what was read and written meanwhile.
        for _ in 0..2 {
            assert!(!file.append(begin(2).as_bytes()).unwrap_err().can_pass);
            let _ = fs::rename(&rotated, &place.0);
        }
        assert_eq!(place.text(), header(ADDRESS) + &begin(1));
    }
}
