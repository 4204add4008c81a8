//! Where results wait for their taker: each accepted submission leaves exactly one.
//!
//! One lock guards a map of what is open (submitted and without a result) and a list of what is
//! ready. A submission is open until somebody takes it out of the map, and whoever takes it out
//! puts its one result into the list: the engine when the call ends, or `cancel`. Who comes
//! second finds nothing and does nothing.
//!
//! The bell is readable exactly while the list is not empty: it is rung and silenced under that
//! same lock, at the two moments when the list stops and starts being empty. A taker that waits
//! is woken at every change that could end its wait. `tests/loom.rs` tries every order in which
//! threads can meet here.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::status::Status;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};

/// The tag that the caller chose, then a number that makes it unique.
pub type Key = (u64, u64);

/// A result, with what the caller needs to know whose it is.
#[derive(Debug)]
pub struct Record {
    pub tag: u64,
    pub id: i64,
    pub outcome: Outcome,
}

/// What becomes readable while results wait.
pub trait Signal {
    fn ring(&self);
    fn silence(&self);
}

impl Signal for crate::process::Bell {
    fn ring(&self) {
        Self::ring(self);
    }
    fn silence(&self) {
        Self::silence(self);
    }
}

/// A call that has been started, as far as others need to reach it.
pub trait Running {
    /// Stops it. Whether its request may have been sent, and how many were.
    fn stop(&self) -> (bool, u32);
}

/// The place where the results of one queue, or of one blocking call, come together.
pub struct Completions<R, S> {
    state: Mutex<State<R, S>>,
    changed: Condvar,
}

struct State<R, S> {
    open: BTreeMap<Key, Open<R>>,
    ready: VecDeque<Record>,
    submitted: u64,
    bell: Option<S>,
}

struct Open<R> {
    id: i64,
    running: Option<Arc<R>>,
}

impl<R: Running, S: Signal> Completions<R, S> {
    /// Without a bell for a blocking call, which waits by [`Completions::take`] alone.
    pub fn new(bell: Option<S>) -> Self {
        Self {
            state: Mutex::new(State {
                open: BTreeMap::new(),
                ready: VecDeque::new(),
                submitted: 0,
                bell,
            }),
            changed: Condvar::new(),
        }
    }

    /// A submission is accepted: from here on it has a result to come.
    pub fn open(&self, tag: u64, id: i64) -> Key {
        let mut state = self.lock();
        let key = (tag, state.submitted);
        state.submitted += 1;
        state.open.insert(key, Open { id, running: None });
        key
    }

    /// The call of `key` is being started: its id, or nothing if it was cancelled meanwhile.
    pub fn start(&self, key: Key, running: &Arc<R>) -> Option<i64> {
        let mut state = self.lock();
        let open = state.open.get_mut(&key)?;
        open.running = Some(running.clone());
        Some(open.id)
    }

    /// The call of `key` has ended. Nothing happens if it had a result already.
    pub fn finish(&self, key: Key, outcome: Outcome) {
        let mut state = self.lock();
        if let Some(open) = state.open.remove(&key) {
            self.push(&mut state, key, open.id, outcome);
        }
    }

    /// Ends what has not been started, with `outcome`. What has been started is left alone.
    pub fn expire(&self, key: Key, outcome: Outcome) {
        let mut state = self.lock();
        if state.open.get(&key).is_some_and(|open| open.running.is_none()) {
            let open = state.open.remove(&key).expect("it was just found");
            self.push(&mut state, key, open.id, outcome);
        }
    }

    /// Cancels every open submission with this tag; how many there were.
    pub fn cancel(&self, tag: u64) -> usize {
        self.cancel_range((tag, 0)..=(tag, u64::MAX))
    }

    /// Cancels every open submission; how many there were.
    pub fn cancel_all(&self) -> usize {
        self.cancel_range((0, 0)..=(u64::MAX, u64::MAX))
    }

    fn cancel_range(&self, range: RangeInclusive<Key>) -> usize {
        let mut state = self.lock();
        let keys: Vec<Key> = state.open.range(range).map(|(key, _)| *key).collect();
        for key in &keys {
            let open = state.open.remove(key).expect("it was just found");
            let (sent, attempts) = open.running.map_or((false, 0), |running| running.stop());
            let status = match sent {
                true => Status::CancelledInFlight,
                false => Status::Cancelled,
            };
            self.push(&mut state, *key, open.id, Outcome::plain(status).after(attempts));
        }
        keys.len()
    }

    /// Takes up to `limit` results, waiting until there is one, nothing is under way, or `until`
    /// has passed (`None`: for ever).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Record> {
        let mut state = self.lock();
        while state.ready.is_empty() && !state.open.is_empty() && limit > 0 {
            state = match until {
                None => self.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
                Some(until) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left == Duration::ZERO {
                        break;
                    }
                    self.changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(|e| e.into_inner())
                        .0
                }
            };
        }
        let count = limit.min(state.ready.len());
        let taken: Vec<Record> = state.ready.drain(..count).collect();
        if count > 0 && state.ready.is_empty() {
            if let Some(bell) = &state.bell {
                bell.silence();
            }
            if state.open.is_empty() {
                // Others that wait would wait for ever.
                self.changed.notify_all();
            }
        }
        taken
    }

    /// The end of it all: stops what is open and forgets every result. The bell is gone when this
    /// returns, even while calls that were stopped still have hands on this.
    pub fn close(&self) {
        let mut state = self.lock();
        for open in std::mem::take(&mut state.open).into_values() {
            if let Some(running) = open.running {
                running.stop();
            }
        }
        state.ready.clear();
        state.bell = None;
        self.changed.notify_all();
    }

    fn push(&self, state: &mut State<R, S>, key: Key, id: i64, outcome: Outcome) {
        if state.ready.is_empty() {
            if let Some(bell) = &state.bell {
                bell.ring();
            }
        }
        state.ready.push_back(Record {
            tag: key.0,
            id,
            outcome,
        });
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<R, S>> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
