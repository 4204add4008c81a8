//! Where results wait for their taker: each accepted submission leaves exactly one.
//!
//! One lock guards a map of what is open (submitted and without a result) and a list of what is
//! ready. A submission is open until somebody takes it out of the map, and whoever takes it out
//! puts its one result into the list: the engine when the call ends, or `cancel`. Who comes
//! second finds nothing and does nothing.
//!
//! The bell is readable exactly while the list is not empty: it is rung and silenced under that
//! same lock, at the two moments when the list stops and starts being empty. A taker that waits
//! is woken at every change that could end its wait. The tests below try
//! every order in which threads can meet here.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::status::Status;
use crate::sync::{unpoisoned, Condvar, Mutex, MutexGuard};

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
    /// Stops it. Whether its request may have been sent, and how many were; nothing if it has
    /// ended by itself and its outcome is on the way.
    fn stop(&self) -> Option<(bool, u32)>;
}

/// The place where the results of one queue, or of one blocking call, come together.
pub struct Completions<R, S> {
    state: Mutex<State<R, S>>,
    changed: Condvar,
    /// Of a blocking call: also what waits for its turn has to end by then. (Here rather than with
    /// each submission, of which a queue may hold a million.)
    pub deadline: Option<Instant>,
}

struct State<R, S> {
    open: BTreeMap<Key, Open<R>>,
    ready: VecDeque<Record>,
    submitted: u64,
    /// How many takers wait to be woken.
    waiting: usize,
    bell: Option<S>,
    /// Whether somebody watches the bell.
    watched: bool,
}

struct Open<R> {
    id: i64,
    running: Option<Arc<R>>,
}

impl<R: Running, S: Signal> Completions<R, S> {
    /// Without a bell for blocking calls, which wait by [`Completions::take`] alone.
    pub fn new(bell: Option<S>) -> Self {
        Self {
            state: Mutex::new(State {
                open: BTreeMap::new(),
                ready: VecDeque::new(),
                submitted: 0,
                waiting: 0,
                bell,
                watched: false,
            }),
            changed: Condvar::new(),
            deadline: None,
        }
    }

    /// Those of a blocking call that has to end by `deadline`.
    pub fn until(deadline: Option<Instant>) -> Self {
        Self {
            deadline,
            ..Self::new(None)
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

    /// From now on the bell tells whether results wait.
    pub fn watch(&self) {
        let mut state = self.lock();
        if !state.watched {
            state.watched = true;
            if !state.ready.is_empty() {
                state.ring();
            }
        }
    }

    /// The call of `key` has ended. Nothing happens if it had a result already.
    pub fn finish(&self, key: Key, outcome: Outcome) {
        self.finish_all([(key, outcome)]);
    }

    /// The same for many, at the price of one.
    pub fn finish_all(&self, ended: impl IntoIterator<Item = (Key, Outcome)>) {
        let mut state = self.lock();
        let before = state.ready.len();
        for (key, outcome) in ended {
            if let Some(open) = state.open.remove(&key) {
                state.push(key, open.id, outcome);
            }
        }
        self.announce(state, before);
    }

    /// Ends what has not been started, with `outcome`. What has been started is left alone.
    pub fn expire(&self, key: Key, outcome: Outcome) {
        let mut state = self.lock();
        let before = state.ready.len();
        if state
            .open
            .get(&key)
            .is_some_and(|open| open.running.is_none())
        {
            let open = state.open.remove(&key).expect("it was just found");
            state.push(key, open.id, outcome);
        }
        self.announce(state, before);
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
        let before = state.ready.len();
        let keys: Vec<Key> = state.open.range(range).map(|(key, _)| *key).collect();
        for key in keys {
            let stopped = match &state.open[&key].running {
                None => Some((false, 0)),
                Some(running) => running.stop(),
            };
            let Some((sent, attempts)) = stopped else {
                continue;
            };
            let status = match sent {
                true => Status::CancelledInFlight,
                false => Status::Cancelled,
            };
            let open = state.open.remove(&key).expect("it was just found");
            state.push(key, open.id, Outcome::plain(status).after(attempts));
        }
        let count = state.ready.len() - before;
        self.announce(state, before);
        count
    }

    /// Takes up to `limit` results, waiting until there is one, nothing is under way, or `until`
    /// has passed (`None`: for ever).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Record> {
        let mut state = self.lock();
        while state.ready.is_empty() && !state.open.is_empty() && limit > 0 {
            let left = match until {
                None => None,
                Some(until) => match until.saturating_duration_since(Instant::now()) {
                    Duration::ZERO => break,
                    left => Some(left),
                },
            };
            state.waiting += 1;
            state = match left {
                None => unpoisoned(self.changed.wait(state)),
                Some(left) => unpoisoned(self.changed.wait_timeout(state, left)).0,
            };
            state.waiting -= 1;
        }
        let count = limit.min(state.ready.len());
        let taken: Vec<Record> = state.ready.drain(..count).collect();
        if count > 0 && state.ready.is_empty() {
            state.silence();
            if state.open.is_empty() && state.waiting > 0 {
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
                let _ = running.stop();
            }
        }
        state.ready.clear();
        state.bell = None;
        drop(state);
        self.changed.notify_all();
    }

    /// Tells those who wait that there are more results than `before`.
    fn announce(&self, state: MutexGuard<'_, State<R, S>>, before: usize) {
        if state.ready.len() == before {
            return;
        }
        if before == 0 {
            state.ring();
        }
        let wake = state.waiting > 0;
        // Who is woken should not find the lock taken.
        drop(state);
        if wake {
            self.changed.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R, S>> {
        unpoisoned(self.state.lock())
    }
}

impl<R, S: Signal> State<R, S> {
    fn push(&mut self, key: Key, id: i64, outcome: Outcome) {
        self.ready.push_back(Record {
            tag: key.0,
            id,
            outcome,
        });
    }

    fn ring(&self) {
        if let (Some(bell), true) = (&self.bell, self.watched) {
            bell.ring();
        }
    }

    fn silence(&self) {
        if let (Some(bell), true) = (&self.bell, self.watched) {
            bell.silence();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell that says when it is rung twice or silenced twice.
    #[derive(Clone, Default)]
    struct Checked(std::sync::Arc<std::sync::atomic::AtomicBool>);

    impl Checked {
        fn is_readable(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl Signal for Checked {
        fn ring(&self) {
            assert!(
                !self.0.swap(true, std::sync::atomic::Ordering::SeqCst),
                "rung twice"
            );
        }
        fn silence(&self) {
            assert!(
                self.0.swap(false, std::sync::atomic::Ordering::SeqCst),
                "silenced twice"
            );
        }
    }

    /// A call that can be stopped once.
    #[derive(Default)]
    struct Stoppable(std::sync::atomic::AtomicBool);

    impl Running for Stoppable {
        fn stop(&self) -> Option<(bool, u32)> {
            let first = !self.0.swap(true, std::sync::atomic::Ordering::SeqCst);
            first.then_some((true, 1))
        }
    }

    type Tested = Completions<Stoppable, Checked>;

    fn watched() -> (Arc<Tested>, Checked) {
        let bell = Checked::default();
        let completions = Arc::new(Tested::new(Some(bell.clone())));
        completions.watch();
        (completions, bell)
    }

    fn done() -> Outcome {
        Outcome::plain(Status::Ok)
    }

    /// In a model, or once where there is no loom.
    fn model(body: impl Fn() + Sync + Send + 'static) {
        #[cfg(feature = "loom")]
        loom::model(body);
        #[cfg(not(feature = "loom"))]
        body();
    }

    #[cfg(feature = "loom")]
    use loom::thread;
    #[cfg(not(feature = "loom"))]
    use std::thread;

    /// Two calls end on two threads while a taker waits for both: it is always woken, gets both,
    /// and leaves the bell silent.
    #[test]
    fn loom_no_wake_up_is_lost() {
        model(|| {
            let (completions, bell) = watched();
            let keys = [completions.open(1, 1), completions.open(2, 2)];
            let enders: Vec<_> = keys
                .into_iter()
                .map(|key| {
                    let completions = completions.clone();
                    thread::spawn(move || completions.finish(key, done()))
                })
                .collect();
            let mut taken = 0;
            while taken < 2 {
                let got = completions.take(1, None).len();
                assert_eq!(got, 1, "woken for nothing while something is under way");
                taken += got;
            }
            assert!(completions.take(1, None).is_empty());
            for ender in enders {
                ender.join().unwrap();
            }
            assert!(!bell.is_readable());
        });
    }

    /// Two takers and one result: one gets it, and the other does not wait for ever.
    #[test]
    fn loom_a_taker_that_comes_away_empty_is_told() {
        model(|| {
            let (completions, bell) = watched();
            let key = completions.open(1, 1);
            let other = {
                let completions = completions.clone();
                thread::spawn(move || completions.take(1, None).len())
            };
            let ender = {
                let completions = completions.clone();
                thread::spawn(move || completions.finish(key, done()))
            };
            let got = completions.take(1, None).len();
            assert_eq!(got + other.join().unwrap(), 1);
            ender.join().unwrap();
            assert!(!bell.is_readable());
        });
    }

    /// A call ends while it is cancelled and while its result is awaited: one result, whichever.
    #[test]
    fn loom_ending_and_cancelling_give_one_result() {
        model(|| {
            let (completions, bell) = watched();
            let key = completions.open(7, 1);
            let call = Arc::new(Stoppable::default());
            assert_eq!(completions.start(key, &call), Some(1));
            let ender = {
                let (completions, call) = (completions.clone(), call.clone());
                thread::spawn(move || {
                    // What the engine does: an outcome counts if the call was not stopped before.
                    if call.stop().is_some() {
                        completions.finish(key, done());
                    }
                })
            };
            let canceller = {
                let completions = completions.clone();
                thread::spawn(move || completions.cancel(7))
            };
            let taken = completions.take(2, None);
            let cancelled = canceller.join().unwrap();
            ender.join().unwrap();
            assert_eq!(taken.len(), 1);
            assert_eq!(
                taken[0].outcome.status,
                if cancelled == 1 {
                    Status::CancelledInFlight
                } else {
                    Status::Ok
                }
            );
            assert!(completions.take(1, None).is_empty());
            assert!(!bell.is_readable());
        });
    }

    #[test]
    fn the_bell_is_rung_for_what_waits_when_it_is_first_watched() {
        let bell = Checked::default();
        let completions = Tested::new(Some(bell.clone()));
        let keys = [completions.open(1, 1), completions.open(1, 2)];
        completions.finish(keys[0], done());
        assert!(!bell.is_readable());
        completions.watch();
        assert!(bell.is_readable());
        completions.finish(keys[1], done());
        assert_eq!(completions.take(1, None).len(), 1);
        assert!(bell.is_readable());
        assert_eq!(completions.take(9, None).len(), 1);
        assert!(!bell.is_readable());
    }

    #[test]
    fn what_has_started_does_not_expire() {
        let (completions, _) = watched();
        let keys = [completions.open(1, 1), completions.open(2, 2)];
        completions.start(keys[0], &Arc::new(Stoppable::default()));
        for key in keys {
            completions.expire(key, done());
        }
        let taken = completions.take(9, Some(Instant::now()));
        assert_eq!(
            taken.iter().map(|record| record.id).collect::<Vec<_>>(),
            [2]
        );
    }
}
