//! A queue: where the results of many submissions wait, with a descriptor that event loops watch.

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

/// A queue, of which each process of a family of forks has its own.
pub struct Queue {
    notifier: InheritedNotifier,
    local: PerProcess<Mutex<Option<Local>>>,
}

/// What a queue has in one process.
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
        // What lives long does not live in the reserve.
        memory::check()?;
        Ok(queue)
    }

    /// The descriptor that is readable exactly while results wait.
    pub fn descriptor(&self) -> Result<Descriptor, Outcome> {
        let local = self.local()?;
        local.results.watch();
        Ok(local.number)
    }

    /// Accepts the deletion of `id`: from here on it has one result to come, also where nothing is
    /// to be sent for it.
    pub fn submit(&self, client: &Arc<Client>, id: i64, tag: u64) -> Result<(), Outcome> {
        memory::check()?;
        let results = self.local()?.results;
        if let Err(outcome) = client.admit(id) {
            results.finish(results.open(tag, id), outcome);
            return Ok(());
        }
        let engine = engine()?;
        let key = results.open(tag, id);
        engine.submit(client.clone(), Submission::queued(results, key));
        Ok(())
    }

    /// Cancels every submission with this tag that has no result; how many there were.
    pub fn cancel(&self, tag: u64) -> usize {
        let Ok(local) = self.local() else { return 0 };
        let cancelled = local.results.cancel(tag);
        if let (1.., Some(engine)) = (cancelled.waiting, running_engine()) {
            engine.count_cancelled(cancelled.waiting);
        }
        cancelled.all
    }

    /// Takes up to `limit` results, waiting for the first one until `until` (`None`: for ever).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Record> {
        match self.local() {
            Ok(local) => local.results.take(limit, until),
            Err(_) => Vec::new(),
        }
    }

    /// Cancels what is left and closes the descriptor.
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
        // In a child of a fork: the descriptor shows whether the parent has results.
        let notifier = self.notifier.replace().map_err(no_descriptor)?;
        let local = Local {
            number: notifier.number(),
            results: Arc::new(Results::new(Some(notifier))),
        };
        // The parent's event loop may have been watching the number, and this one with it.
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
