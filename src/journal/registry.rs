//! The journals that this process holds: several clients may share one.

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
use crate::sync::{lock, unpoisoned};
use crate::threads;

static REGISTRY: PerProcess<Registry> = PerProcess::new();

#[derive(Default)]
struct Registry {
    entries: Mutex<HashMap<Identity, Entry>>,
    /// An entry was opened, or is gone.
    changed: Condvar,
}

enum Entry {
    /// A thread of this process reads it.
    Opening,
    Open {
        shared: Arc<Shared>,
        clients: usize,
    },
}

/// A client's hold on a journal. The process lets go of the file when the last one is dropped.
pub struct Journal {
    /// Nothing only while it is dropped.
    shared: Option<Arc<Shared>>,
    identity: Identity,
    generation: u32,
}

impl Journal {
    /// Opens the journal of `address` at `path`, or makes it.
    pub fn open(path: &str, address: &str) -> Result<Self, Outcome> {
        let shown = messages::shown(path);
        let refuse = |failure: OpenFailure| messages::refused(&shown, address, failure);
        let file = JournalFile::open(Path::new(path)).map_err(refuse)?;
        let identity = file
            .identity()
            .map_err(|error| refuse(OpenFailure::Failed(error)))?;
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
                        match state.broken.clone() {
                            // It is being closed.
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
        let opened = start(file, shown.clone(), address.to_owned(), identity);
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

    /// The outcome of a call that sends nothing: the journal knows it, or this is a forked child,
    /// which does not hold the journal.
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
            // Its parent's: not even to be freed here.
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

/// Starts the journal's thread, which reads it first: a disk may be slow, and a limit on the size
/// of files would raise SIGXFSZ on the caller's thread.
fn start(
    mut file: JournalFile,
    path: String,
    address: String,
    identity: Identity,
) -> Result<Arc<Shared>, OpenFailure> {
    threads::start_and_wait(c"greenapi-write", move |tell| {
        match file.load(&address) {
            Err(failure) => {
                // Its opener may try again at once.
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

/// The journal's thread, as the registry knows it.
struct Serving {
    shared: Arc<Shared>,
    identity: Identity,
}

impl Serving {
    /// Writes until no client of this process has the journal any more.
    fn run(self, mut writer: Writer) {
        loop {
            writer.run();
            let mut entries = lock(&REGISTRY.get().entries);
            match entries.get(&self.identity) {
                // Somebody has opened it again meanwhile.
                Some(Entry::Open { clients: 1.., .. }) => {}
                _ => {
                    entries.remove(&self.identity);
                    // Within the lock: who opens it next finds it unlocked.
                    drop(writer);
                    return;
                }
            }
        }
    }
}

impl Drop for Serving {
    /// Also when it panics.
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
