//! The one thread that does all the work, and how submissions reach it.
//!
//! It starts at the first call and lives as long as the process. Callers push submissions into a
//! channel and wait at their [`Completions`]; the thread hands each to its client, which starts
//! it when its limits allow. One thread is enough for as many calls as the machine has room for,
//! and it is the only one that ever touches a connection.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use crate::call::Call;
use crate::client::Client;
use crate::completions::{Completions, Key};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::process::{self, Bell, PerProcess};
use crate::status::Status;
use crate::transport::{Resolver, Transport};

/// The results of a queue or of a blocking call.
pub type Results = Completions<Call, Bell>;

/// Submissions taken from the channel at once.
const BATCH: usize = 256;

/// Of this process.
static ENGINE: PerProcess<Mutex<Option<Arc<Engine>>>> = PerProcess::new();

pub struct Engine {
    submissions: mpsc::UnboundedSender<Submission>,
    runtime: Handle,
    resolver: Resolver,
    /// The connections of all clients whose options leave no difference to be made.
    shared: Mutex<Option<Arc<Transport>>>,
}

struct Submission {
    client: Arc<Client>,
    ticket: Ticket,
}

/// An accepted submission. Dropped before it was started, it still leaves its one result.
pub struct Ticket {
    results: Option<Arc<Results>>,
    key: Key,
    /// Of a blocking call: what waits for its turn counts there.
    pub deadline: Option<Box<Instant>>,
}

impl Ticket {
    /// Starts the call: where its result goes, and its id; nothing if it was cancelled.
    pub fn start(mut self, call: &Arc<Call>) -> Option<(Finish, i64)> {
        let results = self.results.take()?;
        let id = results.start(self.key, call)?;
        Some((
            Finish {
                results: Some(results),
                key: self.key,
            },
            id,
        ))
    }

    /// Ends it without starting it.
    pub fn refuse(mut self, outcome: Outcome) {
        if let Some(results) = self.results.take() {
            results.finish(self.key, outcome);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(results) = self.results.take() {
            results.finish(self.key, Outcome::plain(Status::Internal));
        }
    }
}

/// A call under way. Dropped without a result (a panic, or the end of the runtime), it leaves one
/// all the same.
pub struct Finish {
    results: Option<Arc<Results>>,
    key: Key,
}

impl Finish {
    pub fn with(mut self, outcome: Outcome) {
        if let Some(results) = self.results.take() {
            results.finish(self.key, outcome);
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        if let Some(results) = self.results.take() {
            results.finish(self.key, Outcome::plain(Status::Internal));
        }
    }
}

/// This process' engine, started if need be.
pub fn engine() -> Result<Arc<Engine>, Outcome> {
    let mut slot = ENGINE.get().lock().unwrap_or_else(|e| e.into_inner());
    if let Some(engine) = slot.as_ref().filter(|engine| !engine.submissions.is_closed()) {
        return Ok(engine.clone());
    }
    let engine = Arc::new(Engine::start().map_err(|error| {
        Outcome::new(
            Status::OutOfResources,
            format!("The library's thread could not be started ({error}). No request was sent: free descriptors or threads and call again."),
        )
    })?);
    *slot = Some(engine.clone());
    Ok(engine)
}

impl Engine {
    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let (submissions, mut incoming) = mpsc::unbounded_channel::<Submission>();
        process::spawn("greenapi-io", move || {
            crate::panics::keep_quiet();
            runtime.block_on(async move {
                let mut batch = Vec::with_capacity(BATCH);
                while incoming.recv_many(&mut batch, BATCH).await > 0 {
                    let mut last: Option<Arc<Client>> = None;
                    for Submission { client, ticket } in batch.drain(..) {
                        if let Some(last) = &last {
                            if !Arc::ptr_eq(last, &client) {
                                last.pump();
                            }
                        }
                        client.enqueue(ticket);
                        last = Some(client);
                    }
                    if let Some(last) = last {
                        last.pump();
                    }
                }
            });
        })?;
        Ok(Self {
            submissions,
            runtime: handle,
            resolver: Resolver::default(),
            shared: Mutex::new(None),
        })
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The connections for a client with these options.
    pub fn transport(&self, options: &Options) -> Arc<Transport> {
        let make = || {
            Transport::new(
                self.resolver.clone(),
                options.trust(),
                options.proxies(),
                options.connect_timeout,
            )
        };
        if !options.share_connections() {
            return make();
        }
        let mut shared = self.shared.lock().unwrap_or_else(|e| e.into_inner());
        shared.get_or_insert_with(make).clone()
    }

    /// Hands an accepted submission over. It cannot fail: if the thread is gone, the ticket
    /// leaves its result by itself.
    pub fn submit(
        &self,
        client: Arc<Client>,
        results: Arc<Results>,
        key: Key,
        deadline: Option<Instant>,
    ) {
        let ticket = Ticket {
            results: Some(results),
            key,
            deadline: deadline.map(Box::new),
        };
        // A refused one is dropped here, and its ticket with it.
        let _ = self.submissions.send(Submission { client, ticket });
    }
}
