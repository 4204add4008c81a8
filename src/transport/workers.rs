//! Threads for blocking calls of the system (look-ups of names, reading the certificate store), so
//! that only the calls that need the result wait.
//!
//! At most three, started when needed, gone when idle. Two of them at most do work that may hang
//! for all that is known; the third is kept for names that have resolved before. (Tokio's blocking
//! pool is not used: it aborts the task when the system refuses it a thread, and its size is not
//! ours.)

use std::collections::hash_map::{Entry, HashMap};
use std::collections::VecDeque;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::sync::{lock, unpoisoned};
use crate::threads;

const MAX_THREADS: usize = 3;
const MAX_UNTRIED: usize = 2;
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads, shared by all transports of a process.
#[derive(Clone, Default)]
pub struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    tried: VecDeque<Job>,
    untried: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Threads that do untried work.
    on_untried: usize,
}

impl State {
    fn next(&mut self) -> Option<(Job, bool)> {
        if let Some(job) = self.tried.pop_front() {
            return Some((job, false));
        }
        if self.on_untried < MAX_UNTRIED {
            return Some((self.untried.pop_front()?, true));
        }
        None
    }
}

impl Workers {
    /// Runs `job` on a thread. `tried`: a job like it has completed before. Fails when no thread runs
    /// and none can be started.
    pub fn run(&self, tried: bool, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        let queue = match tried {
            true => &mut state.tried,
            false => &mut state.untried,
        };
        queue.push_back(Box::new(job));
        let allowed = MAX_UNTRIED.saturating_sub(state.on_untried);
        let wanted = state.tried.len() + state.untried.len().min(allowed);
        if state.idle < wanted && state.threads < MAX_THREADS {
            let shared = self.0.clone();
            let spawned = threads::start(c"greenapi-dns", move || shared.work());
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.tried.clear();
                    state.untried.clear();
                    return Err(error);
                }
                // A running thread will take the job.
                Err(_) => {}
            }
        }
        self.0.work.notify_one();
        Ok(())
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            let Some((job, untried)) = state.next() else {
                state.idle += 1;
                let (woken, timeout) = unpoisoned(self.work.wait_timeout(state, IDLE));
                state = woken;
                state.idle -= 1;
                if timeout.timed_out() && state.tried.is_empty() && state.untried.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            state.on_untried += usize::from(untried);
            drop(state);
            job();
            state = lock(&self.state);
            state.on_untried -= usize::from(untried);
        }
    }
}

/// Work under way, at most once for each key: callers with the same key share the result.
pub struct SingleFlight<K, V>(Mutex<HashMap<K, Flight<V>>>);

struct Flight<V> {
    began: Instant,
    waiting: Vec<oneshot::Sender<V>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// The channel of the result, the start of the work, and whether the caller is the first, who has
    /// to start the work.
    pub fn join(&self, key: K) -> (oneshot::Receiver<V>, Instant, bool) {
        let (sender, receiver) = oneshot::channel();
        match lock(&self.0).entry(key) {
            Entry::Occupied(mut under_way) => {
                let flight = under_way.get_mut();
                // Cancelled waiters would pile up while the work hangs.
                flight.waiting.retain(|waiting| !waiting.is_closed());
                flight.waiting.push(sender);
                (receiver, flight.began, false)
            }
            Entry::Vacant(first) => {
                let began = Instant::now();
                let waiting = vec![sender];
                first.insert(Flight { began, waiting });
                (receiver, began, true)
            }
        }
    }

    /// Delivers the result, or the failure to start the work.
    pub fn land(&self, key: &K, value: &V) {
        let flight = lock(&self.0).remove(key);
        for waiting in flight.into_iter().flat_map(|flight| flight.waiting) {
            // A cancelled waiter has dropped its receiver.
            let _ = waiting.send(value.clone());
        }
    }
}
