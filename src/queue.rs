//! A queue: it holds the results of many submissions until they are taken, and has a descriptor
//! that event loops watch.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::client::Client;
use crate::completions::Record;
use crate::engine::{engine, running_engine};
use crate::memory;
use crate::outcome::Outcome;
use crate::process::{Descriptor, InheritedNotifier, Notifier, PerProcess};
use crate::status::Status;
use crate::submission::{Results, Submission};
use crate::sync::lock;

/// A queue. After a fork the child's queue is separate from the parent's.
pub struct Queue {
    notifier: InheritedNotifier,
    local: PerProcess<Mutex<Option<Local>>>,
}

/// The state of a queue in one process.
#[derive(Clone)]
struct Local {
    results: Arc<Results>,
    number: Descriptor,
}

impl Queue {
    pub fn new() -> Result<Self, Outcome> {
        memory::check()?;
        let notifier = Notifier::new().map_err(no_descriptor)?;
        let queue = Self {
            notifier: InheritedNotifier::new(&notifier),
            local: PerProcess::new(),
        };
        *lock(queue.local.get()) = Some(Local {
            number: notifier.number(),
            results: Arc::new(Results::new(Some(notifier))),
        });
        // Refuse the queue if it was allocated from the memory reserve, which is for short-lived
        // allocations only.
        memory::check()?;
        Ok(queue)
    }

    /// The descriptor that is readable exactly while results wait.
    pub fn descriptor(&self) -> Result<Descriptor, Outcome> {
        let local = self.local()?;
        local.results.watch();
        Ok(local.number)
    }

    /// Accepts the deletion of `id`. An accepted deletion always gets one result, even if its id is
    /// invalid and nothing is sent.
    pub fn submit(&self, client: &Arc<Client>, id: i64, tag: u64) -> Result<(), Outcome> {
        memory::check()?;
        let results = self.local()?.results;
        if let Err(outcome) = client.admit(id) {
            results.refuse(tag, id, outcome);
            return Ok(());
        }
        let engine = engine()?;
        let key = results.open(tag, id);
        engine.submit(client.clone(), Submission::queued(results, key));
        Ok(())
    }

    /// Cancels every submission with this tag that has no result yet; returns their number.
    pub fn cancel(&self, tag: u64) -> usize {
        let Ok(local) = self.local() else { return 0 };
        let cancelled = local.results.cancel(tag);
        if let (1.., Some(engine)) = (cancelled.waiting, running_engine()) {
            engine.count_cancelled(cancelled.waiting);
        }
        cancelled.all
    }

    /// Takes up to `limit` results; waits for the first one until `until` (`None`: without a time
    /// limit).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Record> {
        match self.local() {
            Ok(local) => local.results.take(limit, until),
            Err(_) => Vec::new(),
        }
    }

    /// Cancels every submission without a result and closes the descriptor.
    pub fn close(&self) {
        let Ok(local) = self.local() else { return };
        let waiting = local.results.close();
        if let (1.., Some(engine)) = (waiting, running_engine()) {
            engine.count_cancelled(waiting);
        }
    }

    fn local(&self) -> Result<Local, Outcome> {
        let mut slot = lock(self.local.get());
        if let Some(local) = &*slot {
            return Ok(local.clone());
        }
        // This is the child of a fork. The inherited descriptor is readable when the parent has
        // results, so the child needs a new one.
        let notifier = self.notifier.replace().map_err(no_descriptor)?;
        let local = Local {
            number: notifier.number(),
            results: Arc::new(Results::new(Some(notifier))),
        };
        // The event loop that the child inherited may already watch this descriptor's number.
        local.results.watch();
        *slot = Some(local.clone());
        Ok(local)
    }
}

fn no_descriptor(error: io::Error) -> Outcome {
    Outcome::new(
        Status::OutOfResources,
        format!("Free descriptors and call again: there is none for the queue ({error})."),
    )
}
