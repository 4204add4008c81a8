//! The one thread that does all the work, and how submissions reach it.
//!
//! The thread starts at the first call and lives as long as the process. Callers push submissions
//! into a channel; the thread hands each to its [`Dispatcher`], which starts it when its limits
//! allow. One thread is enough for as many calls as the machine has room for, and it is the only
//! one that ever touches a connection.

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

/// Messages taken from the channel at once.
const BATCH: usize = 256;

/// So few cancelled submissions may keep their memory until their turn comes.
const FEW: usize = 4096;

/// States of the environment whose connections are shared; most processes have one.
const ENVIRONMENTS: usize = 4;

/// Of this process.
static ENGINE: PerProcess<Mutex<Option<Arc<Engine>>>> = PerProcess::new();

pub struct Engine {
    messages: mpsc::UnboundedSender<Message>,
    runtime: Handle,
    resolver: Resolver,
    /// The connections of all clients whose options do not affect connections, for each state in
    /// which they found the environment.
    shared: Mutex<Vec<Arc<Transport>>>,
    /// Submissions that wait for their turn.
    waiting: AtomicUsize,
    /// Those of them that were cancelled.
    cancelled: AtomicUsize,
    sweeping: AtomicBool,
}

/// What starts submissions, in turn and within limits. Used on the engine's thread only.
pub trait Dispatcher: Send + Sync {
    /// Puts a submission behind those that wait.
    fn enqueue(&self, engine: &Engine, submission: Submission);
    /// Starts what may start now.
    fn dispatch(self: Arc<Self>, engine: &Arc<Engine>);
    /// One step of dropping cancelled submissions, `behind` being its place: how many it dropped,
    /// or nothing when it is through.
    fn sweep(&self, behind: &mut usize) -> Option<usize>;
    /// Whether submissions wait.
    fn has_waiting(&self) -> bool;
}

enum Message {
    Submit(Arc<dyn Dispatcher>, Submission),
    /// Many of those that wait were cancelled.
    Sweep,
}

/// This process' engine, started if need be, for a thread that is about to submit.
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

/// This process' engine, if it was ever needed.
pub fn running_engine() -> Option<Arc<Engine>> {
    lock(ENGINE.get()).clone()
}

impl Engine {
    fn start() -> std::io::Result<Arc<Self>> {
        if !process::prepare_for_threads() {
            return Err(std::io::ErrorKind::OutOfMemory.into());
        }
        // The runtime is made in its thread, because to make one is a thread's first step.
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

    /// What the thread does, from telling its starter of the engine on.
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
        // The channel closes, and the thread ends, when the engine has been given up.
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

    /// The connections for a client with these options: those of another client, if both leave
    /// it to the environment how connections are made, and it says the same to both.
    pub fn transport(&self, options: &Options) -> Arc<Transport> {
        let (trust, proxies) = (options.trust(), options.proxies());
        let mut shared = lock(&self.shared);
        if options.shares_connections {
            let alike = shared.iter().find(|one| one.is_alike(&trust, &proxies));
            if let Some(transport) = alike {
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

    /// Hands an accepted submission over. It cannot fail: if the thread is gone, the submission
    /// leaves its result by itself.
    pub fn submit(&self, dispatcher: Arc<dyn Dispatcher>, submission: Submission) {
        // A refused message is dropped here, and its submission with it.
        let _ = self.messages.send(Message::Submit(dispatcher, submission));
    }

    /// One more waits for its turn.
    pub fn count_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// So many do not wait any more, `cancelled` of them because they were cancelled.
    pub fn forget(&self, count: usize, cancelled: usize) {
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        // Those whose end was not counted are fewer than none.
        let less = |before: usize| Some(before.saturating_sub(cancelled));
        let _ = self
            .cancelled
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// So many of those that wait were cancelled. Once they are many, they are dropped before
    /// their turn comes, which under a slow pace would be late.
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

/// Those whose submissions may be waiting.
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

/// Drops what was cancelled before its turn, in steps that let other tasks go on.
async fn sweep_all(engine: Arc<Engine>, dispatchers: Vec<Arc<dyn Dispatcher>>) {
    for dispatcher in dispatchers {
        let mut behind = 0;
        while let Some(dropped) = dispatcher.sweep(&mut behind) {
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
    use std::time::{Duration, Instant};

    /// Under a pace that would let them go in months, cancelled submissions are dropped at once,
    /// and others keep their places.
    #[test]
    fn many_cancelled_submissions_are_dropped_before_their_turn() {
        let options = Options {
            interval: Duration::from_secs(1000),
            ..Options::default()
        };
        // Nothing listens at port 9; only the first submission would get so far.
        let client = Client::new("http://127.0.0.1:9", "token", options).unwrap();
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
