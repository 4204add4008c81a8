//! The one thread that does all the work, and how submissions reach it.
//!
//! It starts at the first call and lives as long as the process. Callers push submissions into a
//! channel and wait at their [`Completions`]; the thread hands each to its client, which starts
//! it when its limits allow. One thread is enough for as many calls as the machine has room for,
//! and it is the only one that ever touches a connection.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, Notify};

use crate::call::Call;
use crate::client::Client;
use crate::completions::{Completions, Key};
use crate::options::Options;
use crate::outcome::Outcome;
use crate::process::{self, Bell, PerProcess};
use crate::status::Status;
use crate::sync::lock;
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
}

impl Ticket {
    /// When a blocking call has to end.
    pub fn deadline(&self) -> Option<Instant> {
        self.results.as_ref()?.deadline
    }

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
    /// Leaves the result, together with those of the other calls that end just now.
    pub fn with(mut self, outcome: Outcome) {
        let left = DELIVERIES.with_borrow_mut(|deliveries| match deliveries {
            Some(deliveries) => {
                deliveries.ended.push((self, outcome));
                deliveries.due.notify_one();
                None
            }
            None => self
                .results
                .take()
                .map(|results| (results, self.key, outcome)),
        });
        if let Some((results, key, outcome)) = left {
            results.finish(key, outcome);
        }
    }
}

thread_local! {
    /// On the engine's thread, results on their way out. A lock and a wake-up for each would cost
    /// more than the rest of a call, so they leave when the tasks that are ready have had their
    /// turn.
    static DELIVERIES: RefCell<Option<Deliveries>> = const { RefCell::new(None) };
}

struct Deliveries {
    /// Whatever happens to them here, each still leaves a result.
    ended: Vec<(Finish, Outcome)>,
    due: Arc<Notify>,
}

async fn deliver() {
    let due = Arc::new(Notify::new());
    DELIVERIES.set(Some(Deliveries {
        ended: Vec::new(),
        due: due.clone(),
    }));
    loop {
        due.notified().await;
        let ended = DELIVERIES.with_borrow_mut(|deliveries| {
            deliveries
                .as_mut()
                .map(|deliveries| std::mem::take(&mut deliveries.ended))
        });
        let mut ended = ended
            .unwrap_or_default()
            .into_iter()
            .filter_map(|(mut finish, outcome)| Some((finish.results.take()?, finish.key, outcome)))
            .peekable();
        while let Some((results, key, outcome)) = ended.next() {
            let rest = std::iter::from_fn(|| {
                let (_, key, outcome) = ended.next_if(|(next, ..)| Arc::ptr_eq(next, &results))?;
                Some((key, outcome))
            });
            results.finish_all(std::iter::once((key, outcome)).chain(rest));
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
    let mut slot = lock(ENGINE.get());
    if let Some(engine) = slot
        .as_ref()
        .filter(|engine| !engine.submissions.is_closed())
    {
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
                tokio::spawn(deliver());
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
        let mut shared = lock(&self.shared);
        shared.get_or_insert_with(make).clone()
    }

    /// Hands an accepted submission over. It cannot fail: if the thread is gone, the ticket
    /// leaves its result by itself.
    pub fn submit(&self, client: Arc<Client>, results: Arc<Results>, key: Key) {
        let ticket = Ticket {
            results: Some(results),
            key,
        };
        // A refused one is dropped here, and its ticket with it.
        let _ = self.submissions.send(Submission { client, ticket });
    }
}
