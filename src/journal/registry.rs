//! The journals that this process has open, shared by all clients with the same file.

use std::collections::hash_map::Entry as Slot;
use std::collections::HashMap;
use std::mem;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::file::{JournalFile, OpenFailure};
use super::index::Refusal;
use super::writer::Writer;
use super::{messages, Claim, Shared};
use crate::call::Call;
use crate::outcome::Outcome;
use crate::process::file::Identity;
use crate::process::{generation, PerProcess};
use crate::secret::Secret;
use crate::sync::{lock, unpoisoned};
use crate::threads;

static REGISTRY: PerProcess<Registry> = PerProcess::new();

#[derive(Default)]
struct Registry {
    entries: Mutex<HashMap<Identity, Entry>>,
    /// Notified when an entry was opened or removed.
    changed: Condvar,
}

enum Entry {
    /// A thread of this process is reading the file.
    Opening,
    Open {
        shared: Arc<Shared>,
        clients: usize,
    },
}

/// A client's handle of a journal. The process closes the file after the last handle is dropped.
pub struct Journal {
    /// `None` only during the drop.
    shared: Option<Arc<Shared>>,
    identity: Identity,
    generation: u32,
}

impl Journal {
    /// Opens or creates the journal of `address` at `path`. No message shows `token`, even if the
    /// path or the address contains it.
    pub fn open(path: &str, address: &str, token: &Secret) -> Result<Self, Outcome> {
        let printable = messages::printable(path, token);
        let refuse = |failure: OpenFailure| messages::refused(&printable, address, token, failure);
        let file = JournalFile::open(Path::new(path)).map_err(refuse)?;
        let identity = file.identity();
        let registry = REGISTRY.get();
        let mut entries = lock(&registry.entries);
        loop {
            match entries.entry(identity) {
                Slot::Vacant(slot) => {
                    slot.insert(Entry::Opening);
                    break;
                }
                Slot::Occupied(mut slot) => match slot.get_mut() {
                    Entry::Opening => entries = unpoisoned(registry.changed.wait(entries)),
                    Entry::Open { shared, clients } => {
                        if shared.address != address {
                            let other = Refusal::OtherAddress(shared.address.clone());
                            return Err(refuse(OpenFailure::Refused(other)));
                        }
                        let mut state = lock(&shared.state);
                        state.hide(token);
                        match state.broken.clone() {
                            // The journal is being closed: wait, then open it anew.
                            Some(_) if *clients == 0 => {
                                drop(state);
                                entries = unpoisoned(registry.changed.wait(entries));
                            }
                            Some(outcome) => return Err(outcome),
                            None => {
                                state.closing = false;
                                drop(state);
                                *clients += 1;
                                return Ok(Self::new(shared.clone(), identity));
                            }
                        }
                    }
                },
            }
        }
        drop(entries);
        let opened = start(file, printable.clone(), address.to_owned(), identity);
        let mut entries = lock(&registry.entries);
        let result = match opened {
            Ok(shared) => {
                let open = Entry::Open {
                    shared: shared.clone(),
                    clients: 1,
                };
                entries.insert(identity, open);
                Ok(Self::new(shared, identity))
            }
            Err(failure) => {
                entries.remove(&identity);
                Err(refuse(failure))
            }
        };
        drop(entries);
        registry.changed.notify_all();
        result
    }

    fn new(shared: Arc<Shared>, identity: Identity) -> Self {
        Self {
            shared: Some(shared),
            identity,
            generation: generation(),
        }
    }

    /// The outcome of a call that must send nothing: the journal says that the instance is gone, or
    /// this process is a forked child, which does not hold the journal.
    pub fn known(&self, id: i64) -> Option<Outcome> {
        match self.shared() {
            Ok(shared) => shared.known(id),
            Err(outcome) => Some(outcome),
        }
    }

    /// See [`Shared::claim`].
    pub async fn claim(
        &self,
        id: i64,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> Result<Claim, Outcome> {
        self.shared()?.claim(id, call, deadline).await
    }

    fn shared(&self) -> Result<&Arc<Shared>, Outcome> {
        self.shared
            .as_ref()
            .filter(|_| self.generation == generation())
            .ok_or_else(|| {
                Outcome::invalid(
                    "Make a client with another journal in this process: it is a forked child, and the journal stays with its parent. Nothing was sent.",
                )
            })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        let shared = self.shared.take();
        if self.generation != generation() {
            // This is a forked child: the parent's memory is not touched here, not even freed.
            mem::forget(shared);
            return;
        }
        let entries = &REGISTRY.get().entries;
        let mut entries = lock(entries);
        match (entries.get_mut(&self.identity), shared) {
            (Some(Entry::Open { shared, clients }), Some(its)) if Arc::ptr_eq(shared, &its) => {
                *clients -= 1;
                if *clients == 0 {
                    lock(&shared.state).closing = true;
                    shared.work.notify_one();
                }
            }
            _ => {}
        }
    }
}

/// Starts the journal's thread and waits until the thread has read the file. The caller's thread
/// does not touch the file, because a write past a file size limit raises SIGXFSZ on the writing
/// thread.
fn start(
    mut file: JournalFile,
    path: String,
    address: String,
    identity: Identity,
) -> Result<Arc<Shared>, OpenFailure> {
    threads::start_and_wait(c"greenapi-write", move |tell| {
        match file.load(&address) {
            Err(failure) => {
                // Close the file first, because the caller may open it again at once.
                drop(file);
                tell.tell(Ok(Err(failure)));
            }
            Ok(index) => {
                let shared = Arc::new(Shared::new(path, address, index));
                let writer = Writer::new(shared.clone(), file);
                let serving = Serving {
                    shared: shared.clone(),
                    identity,
                };
                tell.tell(Ok(Ok(shared)));
                serving.run(writer);
            }
        }
    })
    .map_err(OpenFailure::Failed)?
}

/// Runs a journal's thread and removes the journal from the registry at the end.
struct Serving {
    shared: Arc<Shared>,
    identity: Identity,
}

impl Serving {
    /// Writes records until no client of this process uses the journal.
    fn run(self, mut writer: Writer) {
        loop {
            writer.run();
            let mut entries = lock(&REGISTRY.get().entries);
            match entries.get(&self.identity) {
                // A client has opened the journal again meanwhile.
                Some(Entry::Open { clients: 1.., .. }) => {}
                _ => {
                    entries.remove(&self.identity);
                    // Closed while the registry is locked, so that the next client to open the
                    // journal finds the file unlocked.
                    drop(writer);
                    return;
                }
            }
        }
    }
}

impl Drop for Serving {
    /// Removes the entry even if the thread panicked.
    fn drop(&mut self) {
        let registry = REGISTRY.get();
        let mut entries = lock(&registry.entries);
        if matches!(entries.get(&self.identity), Some(Entry::Open { shared, .. }) if Arc::ptr_eq(shared, &self.shared))
        {
            entries.remove(&self.identity);
        }
        drop(entries);
        registry.changed.notify_all();
    }
}
