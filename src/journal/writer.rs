//! The journal's thread, the only one that writes to the file.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use tokio::sync::watch;

use super::file::{JournalFile, WriteFailure};
use super::record::{Event, Record};
use super::{messages, Progress, Shared};
use crate::sync::{lock, unpoisoned};

/// No record is longer, in bytes, even with the longest status name.
const LONGEST_RECORD: usize = 128;

pub struct Writer {
    shared: Arc<Shared>,
    file: JournalFile,
    lines: String,
    /// End records that could not be written yet. Their calls have reported the outcome already;
    /// the records are written when the disk has space again.
    owed: Vec<Record>,
    /// The records of the current batch. This vector and the queue's are swapped, so that neither
    /// is allocated anew.
    notes: Vec<Record>,
}

impl Writer {
    pub fn new(shared: Arc<Shared>, file: JournalFile) -> Self {
        Self {
            shared,
            file,
            lines: String::new(),
            owed: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Writes queued records until no client uses the journal any more, then syncs the file.
    pub fn run(&mut self) {
        while let Some(progress) = self.wait() {
            let notes = mem::take(&mut self.notes);
            self.write(&notes, &progress);
            self.notes = notes;
        }
        self.pay();
        let _ = self.file.sync();
    }

    /// Waits for records and takes them from the queue. Returns the channel that reports their
    /// progress, or `None` when the queue is empty and no client is left.
    fn wait(&mut self) -> Option<watch::Sender<Progress>> {
        self.notes.clear();
        let mut state = lock(&self.shared.state);
        while state.queue.is_empty() {
            if state.closing {
                return None;
            }
            state = unpoisoned(self.shared.work.wait(state));
        }
        mem::swap(&mut state.queue, &mut self.notes);
        // Allocate memory for the records of all calls under way.
        let _ = state.reserve();
        Some(mem::replace(
            &mut state.batch,
            watch::Sender::new(Progress::Waiting),
        ))
    }

    fn write(&mut self, notes: &[Record], progress: &watch::Sender<Progress>) {
        let before = self.file.length();
        let written = match self.lines_of(notes) {
            Some(()) => self.make_room(notes).and_then(|()| self.append()),
            None => Err(out_of_memory()),
        };
        if let Err(failure) = written {
            self.owe(notes);
            return self.fail(notes, progress, &failure);
        }
        progress.send_replace(Progress::Written);
        if notes.iter().all(is_end) {
            self.owed.clear();
            return;
        }
        match self.file.sync() {
            Ok(()) => {
                self.owed.clear();
                progress.send_replace(Progress::Durable);
            }
            Err(failure) => {
                // Only the ends of earlier calls remain: a begin record would say that its deletion
                // may have been sent.
                match self.file.take_back(before) {
                    true => self.owe(notes),
                    // All lines remain.
                    false => self.owed.clear(),
                }
                self.fail(notes, progress, &failure);
            }
        }
    }

    /// Keeps the end records in `owed`, except those of calls whose begin record is among `notes`.
    fn owe(&mut self, notes: &[Record]) {
        for (place, note) in notes.iter().enumerate() {
            if is_end(note) && !begins(&notes[..place], note.id) && self.owed.try_reserve(1).is_ok()
            {
                self.owed.push(*note);
            }
        }
    }

    /// Reports that no call of these records may begin.
    fn fail(
        &mut self,
        notes: &[Record],
        progress: &watch::Sender<Progress>,
        failure: &WriteFailure,
    ) {
        let mut outcome = messages::not_noted(&self.shared.path(), failure);
        // The end records alone may still be written.
        self.pay();
        let mut state = lock(&self.shared.state);
        // Drop end records that were queued meanwhile for calls whose begin record failed.
        let mut begun = BTreeSet::new();
        state.queue.retain(|note| {
            if !is_end(note) {
                begun.insert(note.id);
            }
            !is_end(note) || begun.contains(&note.id) || !begins(notes, note.id)
        });
        if !failure.can_pass {
            // The first failure tells the cause.
            outcome = state.broken.get_or_insert(outcome).clone();
        }
        // Reported while the state is locked, because dropping a claim reads the progress under
        // this lock.
        progress.send_replace(Progress::Failed(outcome));
    }

    /// Tries to write the end records that are owed.
    fn pay(&mut self) {
        if !self.owed.is_empty() && self.lines_of(&[]).is_some() && self.append().is_ok() {
            self.owed.clear();
        }
    }

    /// Formats the owed records and `notes` as lines; `None` if there is no memory.
    fn lines_of(&mut self, notes: &[Record]) -> Option<()> {
        let count = self.owed.len() + notes.len();
        self.lines.clear();
        self.lines.try_reserve(count * LONGEST_RECORD).ok()?;
        for note in self.owed.iter().chain(notes) {
            note.write(&mut self.lines);
        }
        Some(())
    }

    /// If any call begins in `notes`, reserves disk space for the lines and for the end records of
    /// all calls under way.
    fn make_room(&mut self, notes: &[Record]) -> Result<(), WriteFailure> {
        if notes.iter().all(is_end) {
            return Ok(());
        }
        let ends = lock(&self.shared.state).claimed.len() * LONGEST_RECORD;
        self.file.make_room((self.lines.len() + ends) as u64)
    }

    fn append(&mut self) -> Result<(), WriteFailure> {
        self.file.append(self.lines.as_bytes())
    }
}

impl Drop for Writer {
    /// Fails all later calls, even if the thread panicked.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let outcome = messages::broken(&state.path, "its thread ended");
        state.broken = Some(outcome);
        // Dropping the old channel wakes the calls that wait for it.
        state.batch = watch::Sender::new(Progress::Waiting);
    }
}

fn is_end(note: &Record) -> bool {
    matches!(note.event, Event::End { .. })
}

/// Whether these records contain the begin record of a call for this instance.
fn begins(notes: &[Record], id: i64) -> bool {
    notes.iter().any(|note| note.id == id && !is_end(note))
}

fn out_of_memory() -> WriteFailure {
    WriteFailure {
        error: std::io::ErrorKind::OutOfMemory.into(),
        can_pass: true,
    }
}
