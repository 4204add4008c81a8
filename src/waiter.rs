//! Lets a blocking call wait for its result, which the engine hands directly to the waiting thread.

use std::mem;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::sync::{unpoisoned, Condvar, Mutex, MutexGuard};

/// Connects the thread that makes a blocking call with the engine that carries the call out.
pub struct Waiter {
    id: i64,
    /// When the caller began the call.
    pub accepted: Instant,
    /// When the call has to end, even if it was never started.
    pub deadline: Option<Instant>,
    slot: Mutex<Slot>,
    done: Condvar,
}

enum Slot {
    Waiting,
    /// The call has been started. From here on the call itself keeps to the deadline and always
    /// brings an outcome.
    Started,
    Done(Outcome),
    /// The caller has an outcome and no longer waits.
    Over,
}

impl Waiter {
    pub fn new(id: i64, deadline: Option<Instant>) -> Self {
        Self {
            id,
            accepted: Instant::now(),
            deadline,
            slot: Mutex::new(Slot::Waiting),
            done: Condvar::new(),
        }
    }

    /// Whether the caller still waits.
    pub fn is_open(&self) -> bool {
        !matches!(*self.lock(), Slot::Over)
    }

    /// Marks the call as started and returns the instance's id, or `None` if the caller no longer
    /// waits.
    pub fn start(&self) -> Option<i64> {
        let mut slot = self.lock();
        match *slot {
            Slot::Waiting => {
                *slot = Slot::Started;
                Some(self.id)
            }
            _ => None,
        }
    }

    /// Hands the call's outcome to the caller, if the caller still waits.
    pub fn finish(&self, outcome: Outcome) {
        let mut slot = self.lock();
        if matches!(*slot, Slot::Waiting | Slot::Started) {
            *slot = Slot::Done(outcome);
            // Unlock first, so that the woken thread need not wait for the lock.
            drop(slot);
            self.done.notify_one();
        }
    }

    /// Waits for the outcome; `not_started` makes it if the call was not started before the
    /// deadline.
    pub fn wait(&self, not_started: impl FnOnce() -> Outcome) -> Outcome {
        let mut slot = self.lock();
        loop {
            let left = match mem::replace(&mut *slot, Slot::Over) {
                Slot::Done(outcome) => return outcome,
                Slot::Waiting => {
                    let now = Instant::now();
                    let left = self
                        .deadline
                        .map(|deadline| deadline.saturating_duration_since(now));
                    if left == Some(Duration::ZERO) {
                        drop(slot);
                        return not_started();
                    }
                    *slot = Slot::Waiting;
                    left
                }
                other => {
                    *slot = other;
                    None
                }
            };
            slot = match left {
                Some(left) => unpoisoned(self.done.wait_timeout(slot, left)).0,
                None => unpoisoned(self.done.wait(slot)),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        unpoisoned(self.slot.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::status::Status;

    #[cfg(feature = "loom")]
    use loom::thread;
    #[cfg(not(feature = "loom"))]
    use std::thread;

    fn model(body: impl Fn() + Sync + Send + 'static) {
        #[cfg(feature = "loom")]
        loom::model(body);
        #[cfg(not(feature = "loom"))]
        body();
    }

    fn outcome(status: Status) -> Outcome {
        Outcome::plain(status)
    }

    /// While the caller waits, the engine's thread starts and ends the call: the caller always gets
    /// the outcome of the call.
    #[test]
    fn loom_the_outcome_of_a_started_call_arrives() {
        model(|| {
            let waiter = Arc::new(Waiter::new(7, None));
            let engine = {
                let waiter = waiter.clone();
                thread::spawn(move || {
                    assert_eq!(waiter.start(), Some(7));
                    waiter.finish(outcome(Status::Ok));
                })
            };
            let got = waiter.wait(|| outcome(Status::NotStarted));
            assert_eq!(got.status, Status::Ok);
            engine.join().unwrap();
        });
    }

    /// The deadline passes while the call is being started: either the call never starts, or the
    /// caller waits for its outcome. Exactly one of the two happens.
    #[test]
    fn loom_a_call_that_was_given_up_never_starts() {
        model(|| {
            let waiter = Arc::new(Waiter::new(7, Some(Instant::now())));
            let engine = {
                let waiter = waiter.clone();
                thread::spawn(move || {
                    let started = waiter.start().is_some();
                    if started {
                        waiter.finish(outcome(Status::Ok));
                    }
                    started
                })
            };
            let got = waiter.wait(|| outcome(Status::NotStarted));
            let started = engine.join().unwrap();
            assert_eq!(got.status == Status::Ok, started);
            assert_eq!(got.status == Status::NotStarted, !started);
            assert_eq!(waiter.start(), None);
        });
    }
}
