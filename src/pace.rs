//! Lets a request use its client's schedule: it gets a permit, waits for the pace, and reports a
//! 429 to the other requests.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::{sleep_until, timeout_at};

use crate::engine::{Dispatcher, Engine};
use crate::schedule::{Limits, Schedule};
use crate::submission::Submission;
use crate::sync::lock;

/// The requests of a client that wait for permits.
pub type Requests = Schedule<Submission, Question>;

/// A question that waits for its permit.
pub struct Question {
    place: oneshot::Sender<Permit>,
    /// Whether the permit is for a new request; otherwise it is for continuing to read a response
    /// after the permit was returned.
    pub starts: bool,
}

impl Question {
    /// Makes a question and the channel that delivers its permit.
    pub fn new(starts: bool) -> (Self, oneshot::Receiver<Permit>) {
        let (place, permit) = oneshot::channel();
        (Self { place, starts }, permit)
    }

    /// Whether the question still waits for its permit.
    pub fn is_wanted(&self) -> bool {
        !self.place.is_closed()
    }

    /// Hands the permit over.
    pub fn grant(self, permit: Permit) {
        if let Err(permit) = self.place.send(permit) {
            permit.give_back();
        }
    }
}

/// The permission to have one request under way, one of `max_in_flight`. A deletion holds its
/// permit from its start to its end, so its questions and retries need no second permit.
pub struct Permit {
    dispatcher: Arc<dyn Dispatcher>,
    engine: Arc<Engine>,
    passes_on: bool,
}

impl Permit {
    /// Makes the permit for what the schedule of `dispatcher` returned.
    pub fn new(dispatcher: Arc<dyn Dispatcher>, engine: Arc<Engine>) -> Self {
        Self {
            dispatcher,
            engine,
            passes_on: true,
        }
    }

    /// Returns the permit without starting the next request: the dispatcher does that anyway.
    pub fn give_back(mut self) {
        self.passes_on = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.dispatcher.finish();
        // A second panic while the first one unwinds would end the process.
        if self.passes_on && !std::thread::panicking() {
            self.dispatcher.clone().dispatch(&self.engine);
        }
    }
}

/// The limits that every request of a client keeps to, whatever its method.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    pub schedule: &'a Mutex<Requests>,
    /// Locked by the request that waits for its turn. Others wait for the lock, so that they are sent
    /// in the order in which they came, and only one of them wakes at a time.
    pub turns: &'a tokio::sync::Mutex<()>,
    pub limits: Limits,
    /// Whether a 429 to one call delays the others.
    pub holds: bool,
}

impl Pace<'_> {
    /// After a 429, delays all requests of the client by the pause that the API asked for.
    pub fn hold(&self, pause: Duration) {
        if self.holds {
            lock(self.schedule).hold(Instant::now(), pause);
        }
    }

    /// Whether a pause that the API asked for is still running.
    pub fn is_held(&self) -> bool {
        let held_until = lock(self.schedule).held_until();
        held_until.is_some_and(|until| until > Instant::now())
    }

    /// Waits until the pace and any 429 allow a request that is not the first of its call, and
    /// counts the request; false if that would be after the deadline.
    pub async fn start(&self, deadline: Option<Instant>) -> bool {
        loop {
            let opening = lock(self.schedule).try_start(Instant::now(), self.limits);
            let Err(opening) = opening else {
                return true;
            };
            if deadline.is_some_and(|deadline| opening >= deadline) {
                return false;
            }
            // Other calls may wait for the same time, and only one of them may start; so the loop
            // tries again after waking.
            sleep_until(opening.into()).await;
        }
    }

    /// Waits for the turn of a request whose start has been counted: it may be sent right after this
    /// returns. False if that would be after the deadline.
    pub async fn turn(&self, deadline: Instant) -> bool {
        let taken = async {
            let _first = self.turns.lock().await;
            loop {
                let opening = lock(self.schedule).try_turn(Instant::now(), self.limits);
                match opening {
                    Ok(()) => return true,
                    Err(opening) if opening >= deadline => return false,
                    Err(opening) => sleep_until(opening.into()).await,
                }
            }
        };
        timeout_at(deadline.into(), taken).await.unwrap_or(false)
    }

    /// How long a request that is not the first of its call has to wait.
    pub fn held_back(&self, now: Instant) -> Duration {
        lock(self.schedule).held_back(now)
    }
}
