//! The thread that alone touches a journal's disk.

use std::mem;
use std::sync::Arc;

use tokio::sync::watch;

use super::file::{JournalFile, WriteFailure};
use super::record::{Event, Record};
use super::{messages, Progress, Shared};
use crate::sync::{lock, unpoisoned};

/// With the longest name of a status.
const LONGEST_RECORD: usize = 128;

pub struct Writer {
    shared: Arc<Shared>,
    file: JournalFile,
    lines: String,
    /// Ends that could not be written yet: whoever waits for them has been told the truth, and the
    /// disk may have room again.
    owed: Vec<Record>,
    /// Taken from the queue, whose place the vector takes in turn, so that neither is allocated
    /// anew.
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

    /// Writes what comes, until no client has the journal any more. All that was written is
    /// durable then, as far as the disk allows.
    pub fn run(&mut self) {
        while let Some(progress) = self.wait() {
            let notes = mem::take(&mut self.notes);
            self.write(&notes, &progress);
            self.notes = notes;
        }
        self.pay();
        let _ = self.file.sync();
    }

    /// Waits for notes and takes them: who waits for what becomes of them, or nothing when there
    /// are none and no client is left.
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
        // Room for the notes of all that is under way.
        let _ = state.reserve();
        Some(mem::replace(
            &mut state.batch,
            watch::Sender::new(Progress::Waiting),
        ))
    }

    fn write(&mut self, notes: &[Record], progress: &watch::Sender<Progress>) {
        let written = match self.lines_of(notes) {
            Some(()) => self.make_room(notes).and_then(|()| self.append()),
            None => Err(out_of_memory()),
        };
        if let Err(failure) = written {
            return self.fail(notes, progress, &failure);
        }
        self.owed.clear();
        progress.send_replace(Progress::Written);
        if notes.iter().all(is_end) {
            return;
        }
        match self.file.sync() {
            Ok(()) => {
                progress.send_replace(Progress::Durable);
            }
            Err(failure) => self.fail(notes, progress, &failure),
        }
    }

    /// None of the notes counts. The ends among them are owed, but for those of calls whose
    /// beginning is among them too.
    fn fail(
        &mut self,
        notes: &[Record],
        progress: &watch::Sender<Progress>,
        failure: &WriteFailure,
    ) {
        let outcome = messages::not_noted(&self.shared.path, failure);
        if failure.can_pass {
            for (place, note) in notes.iter().enumerate() {
                if is_end(note)
                    && !begins(&notes[..place], note.id)
                    && self.owed.try_reserve(1).is_ok()
                {
                    self.owed.push(*note);
                }
            }
            // Without the others there may be room.
            self.pay();
        }
        let mut state = lock(&self.shared.state);
        if failure.can_pass {
            // Ends that came meanwhile, of what did not begin.
            let mut begun = Vec::new();
            state.queue.retain(|note| {
                if !is_end(note) {
                    begun.push(note.id);
                }
                !is_end(note) || begun.contains(&note.id) || !begins(notes, note.id)
            });
        } else {
            state.broken = Some(outcome.clone());
        }
        // Within the lock: whoever drops a claim looks at it there.
        progress.send_replace(Progress::Failed(outcome));
    }

    /// Writes the ends that are owed, if they can be written.
    fn pay(&mut self) {
        if !self.owed.is_empty() && self.lines_of(&[]).is_some() && self.append().is_ok() {
            self.owed.clear();
        }
    }

    /// Makes the lines of what is owed and of `notes`; nothing if there is no memory for them.
    fn lines_of(&mut self, notes: &[Record]) -> Option<()> {
        let count = self.owed.len() + notes.len();
        self.lines.clear();
        self.lines.try_reserve(count * LONGEST_RECORD).ok()?;
        for note in self.owed.iter().chain(notes) {
            note.write(&mut self.lines);
        }
        Some(())
    }

    /// Where calls begin: room for them, and for the ends of all that are under way.
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
    /// Also when it panics.
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.broken = Some(messages::broken(&self.shared.path, "its thread ended"));
        // Whoever waits for the old one is woken.
        state.batch = watch::Sender::new(Progress::Waiting);
    }
}

fn is_end(note: &Record) -> bool {
    matches!(note.event, Event::End { .. })
}

/// Whether a call with this instance begins in these notes.
fn begins(notes: &[Record], id: i64) -> bool {
    notes.iter().any(|note| note.id == id && !is_end(note))
}

fn out_of_memory() -> WriteFailure {
    WriteFailure {
        error: std::io::ErrorKind::OutOfMemory.into(),
        can_pass: true,
    }
}
