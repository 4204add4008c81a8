//! The library's main thread, which carries out all calls, and how submissions reach it.
//!
//! The thread starts at the first call and lives as long as the process. Callers push submissions
//! into a channel; the thread hands each to its [`Dispatcher`], which starts the submission when
//! its limits allow. One thread is enough for as many calls as the machine has memory for, and only
//! this thread touches connections.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;

use crate::options::Options;
use crate::outcome::Outcome;
use crate::process::{self, PerProcess};
use crate::status::Status;
use crate::submission::{deliver, Submission};
use crate::sync::lock;
use crate::threads::{self, Tell};
use crate::transport::{Resolver, Transport};

/// The number of messages taken from the channel at a time.
const BATCH: usize = 256;

/// Up to this number, cancelled submissions keep their memory until their turn comes.
const FEW: usize = 4096;

/// For how many states of the environment a transport is shared; most processes have one state.
const ENVIRONMENTS: usize = 4;

/// The engine of each process.
static ENGINE: PerProcess<Mutex<Option<Arc<Engine>>>> = PerProcess::new();

pub struct Engine {
    messages: mpsc::UnboundedSender<Message>,
    runtime: Handle,
    resolver: Resolver,
    /// The transports shared by clients whose options do not affect connections, one for each state
    /// of the environment in which such a client was made.
    shared: Mutex<Vec<Arc<Transport>>>,
    /// The number of submissions that wait for their turn.
    waiting: AtomicUsize,
    /// How many of the waiting submissions were cancelled.
    cancelled: AtomicUsize,
    sweeping: AtomicBool,
}

/// Starts submissions, in turn and within limits. Used on the engine's thread only.
pub trait Dispatcher: Send + Sync {
    /// Puts a submission at the end of the queue.
    fn enqueue(&self, engine: &Engine, submission: Submission);
    /// Starts the submissions that may start now.
    fn dispatch(self: Arc<Self>, engine: &Arc<Engine>);
    /// Drops cancelled submissions, one step at a time: returns how many were dropped, or `None`
    /// after the last step. `position` holds the place between two steps.
    fn sweep(&self, position: &mut usize) -> Option<usize>;
    /// Takes back the permit of a request that has ended.
    fn finish(&self);
    /// Whether submissions wait.
    fn has_waiting(&self) -> bool;
}

enum Message {
    Submit(Arc<dyn Dispatcher>, Submission),
    /// Many of the waiting submissions were cancelled.
    Sweep,
}

/// The engine of this process, started if necessary, for a thread that is about to submit.
pub fn engine() -> Result<Arc<Engine>, Outcome> {
    threads::settle()?;
    let mut slot = lock(ENGINE.get());
    if let Some(engine) = slot.as_ref().filter(|engine| !engine.messages.is_closed()) {
        return Ok(engine.clone());
    }
    let engine = Engine::start().map_err(|error| {
        Outcome::new(
            Status::OutOfResources,
            format!("Free descriptors or threads and call again: the library's thread could not be started ({error}), and no request was sent."),
        )
    })?;
    *slot = Some(engine.clone());
    Ok(engine)
}

/// The engine of this process, if it has been started.
pub fn running_engine() -> Option<Arc<Engine>> {
    lock(ENGINE.get()).clone()
}

impl Engine {
    fn start() -> std::io::Result<Arc<Self>> {
        if !process::prepare_for_threads() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // The runtime is made on its own thread, where making it belongs to the first steps for
        // which memory is checked.
        threads::start_and_wait(c"greenapi-io", |tell| {
            let deliver = deliver();
            let runtime = Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build();
            match runtime {
                Ok(runtime) => runtime.block_on(Self::work(tell, deliver)),
                Err(error) => tell.tell(Err(error)),
            }
        })
    }

    /// Reports the new engine to the thread's starter, then handles messages until the engine is
    /// dropped.
    async fn work(
        tell: Tell<std::io::Result<Arc<Self>>>,
        deliver: impl Future<Output = ()> + Send + 'static,
    ) {
        tokio::spawn(deliver);
        let (messages, mut incoming) = mpsc::unbounded_channel();
        let engine = Arc::new(Self {
            messages,
            runtime: Handle::current(),
            resolver: Resolver::default(),
            shared: Mutex::default(),
            waiting: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            sweeping: AtomicBool::new(false),
        });
        // Only a weak reference: when the engine is dropped, the channel closes and the thread
        // ends.
        let weak = Arc::downgrade(&engine);
        tell.tell(Ok(engine));
        let mut batch = Vec::with_capacity(BATCH);
        let mut waiting = WaitingDispatchers::default();
        while incoming.recv_many(&mut batch, BATCH).await > 0 {
            let Some(engine) = weak.upgrade() else { break };
            engine.handle(&mut batch, &mut waiting);
        }
    }

    fn handle(self: &Arc<Self>, batch: &mut Vec<Message>, waiting: &mut WaitingDispatchers) {
        let mut last: Option<Arc<dyn Dispatcher>> = None;
        let mut dispatch = |dispatcher: Arc<dyn Dispatcher>| {
            dispatcher.clone().dispatch(self);
            if dispatcher.has_waiting() {
                waiting.add(&dispatcher);
            }
        };
        let mut sweep = false;
        for message in batch.drain(..) {
            match message {
                Message::Submit(dispatcher, submission) => {
                    dispatcher.enqueue(self, submission);
                    match &last {
                        Some(before) if Arc::ptr_eq(before, &dispatcher) => {}
                        _ => {
                            if let Some(before) = last.replace(dispatcher) {
                                dispatch(before);
                            }
                        }
                    }
                }
                Message::Sweep => sweep = true,
            }
        }
        if let Some(last) = last {
            dispatch(last);
        }
        if sweep {
            self.runtime
                .spawn(sweep_all(self.clone(), waiting.living()));
        }
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// The transport for a client with these options. Clients share one if none of their options
    /// affects connections and they found the same settings in the environment.
    pub fn transport(&self, options: &Options) -> Arc<Transport> {
        let (trust, proxies) = (options.trust(), options.proxies());
        let mut shared = lock(&self.shared);
        if options.shares_connections {
            let equal = shared.iter().find(|one| one.is_alike(&trust, &proxies));
            if let Some(transport) = equal {
                return transport.clone();
            }
        }
        let resolver = self.resolver.clone();
        let transport = Transport::new(resolver, trust, proxies, options.connect_timeout);
        if options.shares_connections {
            if shared.len() == ENVIRONMENTS {
                shared.remove(0);
            }
            shared.push(transport.clone());
        }
        transport
    }

    /// Hands an accepted submission to the thread. If the thread has ended, the submission is
    /// dropped, which delivers its result.
    pub fn submit(&self, dispatcher: Arc<dyn Dispatcher>, submission: Submission) {
        // An error contains the message, which is dropped here together with the submission.
        let _ = self.messages.send(Message::Submit(dispatcher, submission));
    }

    /// Counts one more submission that waits for its turn.
    pub fn count_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `count` fewer waiting submissions, `cancelled` of which had been cancelled.
    pub fn forget(&self, count: usize, cancelled: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        // A cancellation may be counted only after its submission was dropped, so the counter must
        // not go below zero.
        let less = |before: usize| Some(before.saturating_sub(cancelled));
        let _ = self
            .cancelled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Counts cancelled submissions among those that wait. Once there are many, they are dropped
    /// before their turn comes, because with a slow pace their turn may come late.
    pub fn count_cancelled(&self, count: usize) {
        if count == 0 {
            return;
        }
        let cancelled = self.cancelled.fetch_add(count, Ordering::Relaxed) + count;
        let many = cancelled >= FEW && 2 * cancelled >= self.waiting.load(Ordering::Relaxed);
        if many && !self.sweeping.swap(true, Ordering::Relaxed) {
            let _ = self.messages.send(Message::Sweep);
        }
    }
}

/// The dispatchers that may have waiting submissions.
#[derive(Default)]
struct WaitingDispatchers {
    known: HashMap<*const (), Weak<dyn Dispatcher>>,
    prune_at: usize,
}

impl WaitingDispatchers {
    fn add(&mut self, dispatcher: &Arc<dyn Dispatcher>) {
        if self.known.len() >= self.prune_at {
            self.known.retain(|_, known| known.strong_count() > 0);
            self.prune_at = 16.max(2 * self.known.len());
        }
        self.known
            .entry(Arc::as_ptr(dispatcher).cast())
            .or_insert_with(|| Arc::downgrade(dispatcher));
    }

    fn living(&self) -> Vec<Arc<dyn Dispatcher>> {
        self.known.values().filter_map(Weak::upgrade).collect()
    }
}

/// Drops cancelled submissions before their turn, in steps between which other tasks run.
async fn sweep_all(engine: Arc<Engine>, dispatchers: Vec<Arc<dyn Dispatcher>>) {
    for dispatcher in dispatchers {
        let mut position = 0;
        while let Some(dropped) = dispatcher.sweep(&mut position) {
            engine.forget(dropped, dropped);
            tokio::task::yield_now().await;
        }
    }
    engine.sweeping.store(false, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;
    use crate::queue::Queue;
    use crate::secret::Secret;
    use std::time::{Duration, Instant};

    /// With a pace so slow that their turn would come after months, cancelled submissions are
    /// dropped at once, and others keep their places.
    #[test]
    fn many_cancelled_submissions_are_dropped_before_their_turn() {
        let options = Options {
            interval: Duration::from_secs(1000),
            ..Options::default()
        };
        // Nothing listens on port 9, and only the first submission gets as far as connecting.
        let client = Client::new("http://127.0.0.1:9", Secret::new("token"), options).unwrap();
        let queue = Queue::new().unwrap();
        for id in 1..=3 * FEW as i64 {
            queue.submit(&client, id, id as u64 % 3).unwrap();
        }
        let engine = engine().unwrap();
        let cancelled = queue.cancel(1) + queue.cancel(2);
        assert!((2 * FEW - 1..=2 * FEW).contains(&cancelled), "{cancelled}");
        let until = Instant::now() + Duration::from_secs(30);
        while engine.waiting.load(Ordering::Relaxed) > FEW {
            assert!(Instant::now() < until, "they still wait");
            std::thread::yield_now();
        }
        assert!(client.has_waiting());
        assert_eq!(queue.cancel(0), FEW);
        queue.close();
    }
}
