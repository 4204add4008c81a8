//! Holds results until they are taken; each accepted submission produces exactly one.
//!
//! One lock guards a map of the open submissions (those without a result) and a list of the results
//! that are ready. A submission is open until it is removed from the map, by the engine when the
//! call ends or by `cancel`; whichever removes it puts its one result into the list. The loser of
//! the race finds the entry gone and returns.
//!
//! The list needs memory. While memory is short, a submission that was not started is marked in the
//! map as ended instead, because there may be a million of them.
//!
//! The notifier is readable exactly while results wait: it is set and cleared under the same lock,
//! when the results stop and start being none. A waiting taker is woken by every change
//! that could end its wait. With loom, the tests below run every interleaving of the threads.

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::memory;
use crate::outcome::Outcome;
use crate::pieces::{self, Pieces};
use crate::status::Status;
use crate::sync::{unpoisoned, Condvar, Mutex, MutexGuard};

/// The caller's tag, then a number that makes the key unique: the time of acceptance in nanoseconds
/// since the `Completions` value was made, or the next greater number that is not used yet.
pub type Key = (u64, u64);

/// The number of submissions that are cancelled at a time before other threads get the lock.
const CANCEL_STEP: usize = 512;

/// How many submissions were cancelled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Cancelled {
    pub all: usize,
    /// How many of these had not been started yet.
    pub waiting: usize,
}

/// A result, with the tag and the id by which the caller recognises it.
#[derive(Debug)]
pub struct Record {
    pub tag: u64,
    pub id: i64,
    pub outcome: Outcome,
}

/// A notifier that is readable while results wait.
pub trait Signal {
    fn set(&self);
    fn clear(&self);
}

impl Signal for crate::process::Notifier {
    fn set(&self) {
        Self::set(self);
    }
    fn clear(&self) {
        Self::clear(self);
    }
}

/// A call that has been started, as [`Completions::cancel`] needs it.
pub trait Running {
    /// Stops the call.
    fn stop(&self) -> Stopped;
}

/// Where the result of a call is that was to be stopped.
pub enum Stopped {
    /// The call has ended, or was stopped before, and its result is about to arrive.
    Ended,
    /// The call was stopped, and this is its result.
    Now(Outcome),
    /// The call was stopped, and brings its result itself: once the journal has a record of it.
    Later,
}

/// The open submissions and the results of one queue or one bulk call.
pub struct Completions<R, S> {
    made: Instant,
    is_short: fn() -> bool,
    state: Mutex<State<R, S>>,
    changed: Condvar,
}

struct State<R, S> {
    /// The open submissions, and those that are marked as ended.
    open: BTreeMap<Key, Open<R>>,
    /// How many submissions are marked as ended; no key of theirs is before `first_marked`.
    marked: usize,
    first_marked: Key,
    /// The other results, in the order in which they arrived.
    ready: Pieces<Record>,
    /// The smallest number that the next key may have.
    next: u64,
    /// The number of takers that wait.
    waiting: usize,
    notifier: Option<S>,
    /// Whether the notifier is in use; setting and clearing it costs a system call.
    watched: bool,
}

struct Open<R> {
    place: Place,
    running: Option<Arc<R>>,
}

/// The id of a submission and, above its bits, its [`Mark`]: one number, because there may be a
/// million submissions.
#[derive(Clone, Copy)]
struct Place(u64);

/// How a submission ended that was not started, while memory was short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Cancelled = 1,
    Refused,
}

impl Place {
    /// More bits than an id has.
    const ID_BITS: u32 = 40;

    fn new(id: i64) -> Self {
        debug_assert_eq!(id >> Self::ID_BITS, 0);
        Self(id as u64)
    }

    fn id(self) -> i64 {
        (self.0 & ((1 << Self::ID_BITS) - 1)) as i64
    }

    fn mark(self) -> Option<Mark> {
        [Mark::Cancelled, Mark::Refused]
            .into_iter()
            .find(|mark| self.0 >> Self::ID_BITS == *mark as u64)
    }

    fn set(&mut self, mark: Mark) {
        self.0 |= (mark as u64) << Self::ID_BITS;
    }
}

impl Mark {
    /// The mark for a submission that ended with `outcome`, if there is one.
    fn of(outcome: &Outcome) -> Option<Self> {
        [Self::Cancelled, Self::Refused]
            .into_iter()
            .find(|mark| mark.outcome() == *outcome)
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::plain(Status::Cancelled),
            Self::Refused => memory::shortage(),
        }
    }
}

impl<R: Running, S: Signal> Completions<R, S> {
    /// `notifier`: `None` for bulk calls, which wait only in [`Completions::take`].
    pub fn new(notifier: Option<S>) -> Self {
        Self {
            made: Instant::now(),
            is_short: memory::is_short,
            state: Mutex::new(State {
                open: BTreeMap::new(),
                marked: 0,
                first_marked: (0, 0),
                ready: Pieces::default(),
                next: 0,
                waiting: 0,
                notifier,
                watched: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Accepts a submission of a valid id, which from here on will get a result.
    pub fn open(&self, tag: u64, id: i64) -> Key {
        let now = self.made.elapsed().as_nanos() as u64;
        let mut state = self.lock();
        let number = state.next.max(now);
        let key = (tag, number);
        state.next = number + 1;
        let place = Place::new(id);
        state.open.insert(
            key,
            Open {
                place,
                running: None,
            },
        );
        key
    }

    /// Accepts a submission that has its result already.
    pub fn refuse(&self, tag: u64, id: i64, outcome: Outcome) {
        let mut state = self.lock();
        let before = state.results();
        state.push(tag, id, outcome);
        self.announce(state, before);
    }

    /// When the submission of `key` was accepted.
    pub fn accepted(&self, key: Key) -> Instant {
        self.made + Duration::from_nanos(key.1)
    }

    /// Marks the call of `key` as started and returns its id, or `None` if the call was cancelled
    /// meanwhile.
    pub fn start(&self, key: Key, running: &Arc<R>) -> Option<i64> {
        let mut state = self.lock();
        let open = state.open.get_mut(&key)?;
        if open.place.mark().is_some() {
            return None;
        }
        open.running = Some(running.clone());
        Some(open.place.id())
    }

    /// Makes the notifier show, from now on, whether results wait.
    pub fn watch(&self) {
        let mut state = self.lock();
        if !state.watched {
            state.watched = true;
            if state.results() > 0 {
                state.set();
            }
        }
    }

    /// Adds the result of the call of `key`, unless the call has one already.
    pub fn finish(&self, key: Key, outcome: Outcome) {
        self.finish_all([(key, outcome)]);
    }

    /// Adds many results with only one locking and one wake-up.
    pub fn finish_all(&self, ended: impl IntoIterator<Item = (Key, Outcome)>) {
        let mut state = self.lock();
        let before = state.results();
        for (key, outcome) in ended {
            let Entry::Occupied(open) = state.open.entry(key) else {
                continue;
            };
            if open.get().place.mark().is_some() {
                continue;
            }
            if open.get().running.is_none() && (self.is_short)() {
                if let Some(mark) = Mark::of(&outcome) {
                    state.mark(key, mark);
                    continue;
                }
            }
            let id = open.remove().place.id();
            state.push(key.0, id, outcome);
        }
        self.announce(state, before);
    }

    /// Whether the submission of `key` has no result yet.
    pub fn is_open(&self, key: Key) -> bool {
        let state = self.lock();
        let open = state.open.get(&key);
        open.is_some_and(|open| open.place.mark().is_none())
    }

    /// Cancels every open submission with this tag.
    pub fn cancel(&self, tag: u64) -> Cancelled {
        self.cancel_range((tag, 0), (tag, u64::MAX))
    }

    /// Cancels every open submission.
    pub fn cancel_all(&self) -> Cancelled {
        self.cancel_range((0, 0), (u64::MAX, u64::MAX))
    }

    /// Cancels in steps, between which other threads get the lock, because there may be a million
    /// submissions.
    fn cancel_range(&self, mut first: Key, last: Key) -> Cancelled {
        let mut cancelled = Cancelled::default();
        loop {
            let mut state = self.lock();
            let before = state.results();
            let is_short = (self.is_short)();
            let open = state.open.range(first..=last).take(CANCEL_STEP);
            let keys: Vec<Key> = open.map(|(key, _)| *key).collect();
            for key in &keys {
                let Entry::Occupied(open) = state.open.entry(*key) else {
                    continue;
                };
                if open.get().place.mark().is_some() {
                    continue;
                }
                if is_short && open.get().running.is_none() {
                    cancelled.all += 1;
                    cancelled.waiting += 1;
                    state.mark(*key, Mark::Cancelled);
                    continue;
                }
                let stopped = match &open.get().running {
                    None => {
                        cancelled.waiting += 1;
                        Stopped::Now(Outcome::plain(Status::Cancelled))
                    }
                    Some(running) => running.stop(),
                };
                match stopped {
                    Stopped::Ended => {}
                    Stopped::Later => cancelled.all += 1,
                    Stopped::Now(outcome) => {
                        cancelled.all += 1;
                        let id = open.remove().place.id();
                        state.push(key.0, id, outcome);
                    }
                }
            }
            self.announce(state, before);
            match keys.last() {
                Some((tag, number)) if keys.len() == CANCEL_STEP && *number < u64::MAX => {
                    first = (*tag, number + 1);
                }
                _ => return cancelled,
            }
        }
    }

    /// Takes up to `limit` results. Waits until there is one, nothing is under way, or `until` has
    /// passed (`None`: without a time limit).
    pub fn take(&self, limit: usize, until: Option<Instant>) -> Vec<Record> {
        let mut state = self.lock();
        while state.results() == 0 && !state.open.is_empty() && limit > 0 {
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
        let taken = match state.ready.is_empty() {
            true => state.take_marked(limit),
            false => state.ready.take(limit),
        };
        if !taken.is_empty() && state.results() == 0 {
            state.clear();
            if state.open.is_empty() && state.waiting > 0 {
                // Nothing is under way any more, so the other takers would wait for ever.
                self.changed.notify_all();
            }
        }
        taken
    }

    /// Stops all open submissions, drops all results and closes the notifier, even if stopped calls
    /// still hold references to this value. Returns the number of submissions that had not been
    /// started.
    pub fn close(&self) -> usize {
        let mut state = self.lock();
        let mut waiting = 0;
        for open in std::mem::take(&mut state.open).into_values() {
            match open.running {
                Some(running) => {
                    let _ = running.stop();
                }
                None => waiting += usize::from(open.place.mark().is_none()),
            }
        }
        state.marked = 0;
        state.ready = Pieces::default();
        state.notifier = None;
        drop(state);
        self.changed.notify_all();
        waiting
    }

    /// Notifies waiting takers if there are more results than `before`.
    fn announce(&self, state: MutexGuard<'_, State<R, S>>, before: usize) {
        if state.results() == before {
            return;
        }
        if before == 0 {
            state.set();
        }
        let (waiting, results) = (state.waiting, state.results() - before);
        // Unlock first, so that a woken thread need not wait for the lock.
        drop(state);
        // Wake one thread for each result; others would find nothing and wait again.
        if results >= waiting && waiting > 1 {
            self.changed.notify_all();
        } else {
            for _ in 0..results.min(waiting) {
                self.changed.notify_one();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<R, S>> {
        unpoisoned(self.state.lock())
    }
}

impl<R, S: Signal> State<R, S> {
    /// The number of results that wait.
    fn results(&self) -> usize {
        self.ready.len() + self.marked
    }

    fn push(&mut self, tag: u64, id: i64, outcome: Outcome) {
        self.ready.push_back(Record { tag, id, outcome });
    }

    /// Marks the open submission of `key`, which was not started, as ended.
    fn mark(&mut self, key: Key, mark: Mark) {
        if let Some(open) = self.open.get_mut(&key) {
            open.place.set(mark);
            self.first_marked = match self.marked {
                0 => key,
                _ => self.first_marked.min(key),
            };
            self.marked += 1;
        }
    }

    /// Removes up to `limit` submissions that are marked as ended, in the order of their keys, and
    /// returns their results.
    fn take_marked(&mut self, limit: usize) -> Vec<Record> {
        let count = limit.min(self.marked);
        let mut taken = pieces::with_room(count);
        while taken.len() < count.min(taken.capacity()) {
            let mut rest = self.open.range(self.first_marked..);
            let found = rest.find_map(|(key, open)| Some((*key, open.place.mark()?)));
            let Some((key, mark)) = found else { break };
            self.first_marked = key;
            self.marked -= 1;
            if let Some(open) = self.open.remove(&key) {
                taken.push(Record {
                    tag: key.0,
                    id: open.place.id(),
                    outcome: mark.outcome(),
                });
            }
        }
        taken
    }

    fn set(&self) {
        if let (Some(notifier), true) = (&self.notifier, self.watched) {
            notifier.set();
        }
    }

    fn clear(&self) {
        if let (Some(notifier), true) = (&self.notifier, self.watched) {
            notifier.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A notifier that panics when it is set twice or cleared twice.
    #[derive(Clone, Default)]
    struct Checked(std::sync::Arc<std::sync::atomic::AtomicBool>);

    impl Checked {
        fn is_readable(&self) -> bool {
            self.0.load(std::sync::atomic::Ordering::SeqCst)
        }
    }

    impl Signal for Checked {
        fn set(&self) {
            assert!(
                !self.0.swap(true, std::sync::atomic::Ordering::SeqCst),
                "set twice"
            );
        }
        fn clear(&self) {
            assert!(
                self.0.swap(false, std::sync::atomic::Ordering::SeqCst),
                "cleared twice"
            );
        }
    }

    /// A call that can be stopped once.
    #[derive(Default)]
    struct Stoppable(std::sync::atomic::AtomicBool);

    impl Running for Stoppable {
        fn stop(&self) -> Stopped {
            match self.0.swap(true, std::sync::atomic::Ordering::SeqCst) {
                true => Stopped::Ended,
                false => Stopped::Now(Outcome::plain(Status::CancelledInFlight)),
            }
        }
    }

    type Tested = Completions<Stoppable, Checked>;

    fn watched() -> (Arc<Tested>, Checked) {
        let notifier = Checked::default();
        let completions = Arc::new(Tested::new(Some(notifier.clone())));
        completions.watch();
        (completions, notifier)
    }

    /// The same, while memory is short.
    fn short() -> (Arc<Tested>, Checked) {
        let notifier = Checked::default();
        let mut completions = Tested::new(Some(notifier.clone()));
        completions.is_short = || true;
        completions.watch();
        (Arc::new(completions), notifier)
    }

    fn done() -> Outcome {
        Outcome::plain(Status::Ok)
    }

    /// Runs `body` in every interleaving with loom, or once without loom.
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
    /// and leaves the notifier clear.
    #[test]
    fn loom_no_wake_up_is_lost() {
        model(|| {
            let (completions, notifier) = watched();
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
            assert!(!notifier.is_readable());
        });
    }

    /// Two takers and one result: one taker gets the result, and the other does not wait for ever.
    #[test]
    fn loom_a_taker_that_comes_away_empty_is_told() {
        model(|| {
            let (completions, notifier) = watched();
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
            assert!(!notifier.is_readable());
        });
    }

    /// Two takers each wait for one result, and two results arrive one after the other: each result
    /// wakes a taker, and no taker waits for ever.
    #[test]
    fn loom_each_result_wakes_a_taker() {
        model(|| {
            let (completions, notifier) = watched();
            let keys = [completions.open(1, 1), completions.open(2, 2)];
            let other = {
                let completions = completions.clone();
                thread::spawn(move || completions.take(1, None).len())
            };
            let ender = {
                let completions = completions.clone();
                thread::spawn(move || {
                    for key in keys {
                        completions.finish(key, done());
                    }
                })
            };
            assert_eq!(completions.take(1, None).len(), 1);
            assert_eq!(other.join().unwrap(), 1);
            ender.join().unwrap();
            assert!(!notifier.is_readable());
        });
    }

    #[test]
    fn a_million_are_cancelled_in_steps() {
        let (completions, _) = watched();
        let count = 3 * CANCEL_STEP + 1;
        let keys: Vec<Key> = (0..count)
            .map(|id| completions.open(id as u64 % 2, id as i64))
            .collect();
        // One call has started and can be stopped; one has ended, and its outcome is about to
        // arrive.
        let started = Arc::new(Stoppable::default());
        completions.start(keys[0], &started);
        let ended = Arc::new(Stoppable::default());
        completions.start(keys[1], &ended);
        ended.stop();
        let even = completions.cancel(0);
        assert_eq!(even.all, count.div_ceil(2));
        assert_eq!(even.waiting, even.all - 1);
        let odd = completions.cancel_all();
        assert_eq!(odd.all, count / 2 - 1);
        completions.finish(keys[1], done());
        assert_eq!(completions.take(usize::MAX, None).len(), count);
    }

    /// A call ends while it is being cancelled and a taker waits: there is exactly one result, of
    /// either kind.
    #[test]
    fn loom_ending_and_cancelling_give_one_result() {
        model(|| {
            let (completions, notifier) = watched();
            let key = completions.open(7, 1);
            let call = Arc::new(Stoppable::default());
            assert_eq!(completions.start(key, &call), Some(1));
            let ender = {
                let (completions, call) = (completions.clone(), call.clone());
                thread::spawn(move || {
                    // Like the engine: an outcome counts only if the call was not stopped before.
                    if let Stopped::Now(_) = call.stop() {
                        completions.finish(key, done());
                    }
                })
            };
            let canceller = {
                let completions = completions.clone();
                thread::spawn(move || completions.cancel(7))
            };
            let taken = completions.take(2, None);
            let cancelled = canceller.join().unwrap().all;
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
            assert!(!notifier.is_readable());
        });
    }

    /// While memory is short, a submission that was not started ends without an allocation. Its
    /// result is like any other.
    #[test]
    fn what_ends_while_memory_is_short_stays_in_its_place() {
        let (completions, notifier) = short();
        let keys: Vec<Key> = (1..=3 * CANCEL_STEP as i64)
            .map(|id| completions.open(id as u64 % 2, 9_999_999_999 - id))
            .collect();
        let started = Arc::new(Stoppable::default());
        completions.start(keys[0], &started);
        let (refused, marked) = (keys[9], keys.len() - 1);
        completions.finish(refused, memory::shortage());
        completions.finish(refused, done());
        assert!(notifier.is_readable() && !completions.is_open(refused));
        assert_eq!(completions.start(refused, &started), None);
        let even = completions.cancel(0);
        let odd = completions.cancel_all();
        assert_eq!(even.all + odd.all, marked);
        assert_eq!(odd.waiting + 1, odd.all);
        assert_eq!(completions.cancel_all(), Cancelled::default());
        let state = completions.lock();
        assert_eq!((state.ready.len(), state.marked), (1, marked));
        drop(state);
        let mut ids = std::collections::BTreeMap::new();
        while ids.len() < keys.len() {
            assert!(notifier.is_readable());
            let taken = completions.take(100, None);
            assert!(
                !taken.is_empty(),
                "{} results are missing",
                keys.len() - ids.len()
            );
            for record in taken {
                assert_eq!(record.tag, (9_999_999_999 - record.id) as u64 % 2);
                assert_eq!(ids.insert(record.id, record.outcome), None);
            }
        }
        assert!(!notifier.is_readable());
        let refusal = ids.remove(&(9_999_999_999 - 10));
        assert_eq!(refusal, Some(memory::shortage()));
        let stopped = ids.remove(&(9_999_999_999 - 1)).unwrap();
        assert_eq!(stopped.status, Status::CancelledInFlight);
        assert!(ids
            .values()
            .all(|outcome| *outcome == Mark::Cancelled.outcome()));
        let last = completions.open(1, 1);
        completions.cancel(1);
        assert_eq!(completions.close(), 0);
        assert!(!completions.is_open(last));
    }

    /// While memory is short, a submission is refused while it is being cancelled and a taker waits.
    #[test]
    fn loom_refusing_and_cancelling_give_one_result() {
        model(|| {
            let (completions, notifier) = short();
            let key = completions.open(7, 1);
            let refuser = {
                let completions = completions.clone();
                thread::spawn(move || completions.finish(key, memory::shortage()))
            };
            let canceller = {
                let completions = completions.clone();
                thread::spawn(move || completions.cancel(7))
            };
            let taken = completions.take(2, None);
            let cancelled = canceller.join().unwrap().all;
            refuser.join().unwrap();
            assert_eq!(taken.len(), 1);
            assert_eq!(
                taken[0].outcome.status,
                if cancelled == 1 {
                    Status::Cancelled
                } else {
                    Status::OutOfResources
                }
            );
            assert!(completions.take(1, None).is_empty());
            assert!(!notifier.is_readable());
        });
    }

    #[test]
    fn the_notifier_is_set_for_what_waits_when_it_is_first_watched() {
        let notifier = Checked::default();
        let completions = Tested::new(Some(notifier.clone()));
        let keys = [completions.open(1, 1), completions.open(1, 2)];
        completions.finish(keys[0], done());
        assert!(!notifier.is_readable());
        completions.watch();
        assert!(notifier.is_readable());
        completions.finish(keys[1], done());
        assert_eq!(completions.take(1, None).len(), 1);
        assert!(notifier.is_readable());
        assert_eq!(completions.take(9, None).len(), 1);
        assert!(!notifier.is_readable());
    }
}
