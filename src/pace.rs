//! The schedule of a client as its calls use it: waiting for the pace, and passing a 429 on.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::schedule::{Limits, Schedule};
use crate::submission::Submission;
use crate::sync::lock;

/// What one request, of whichever method, has to keep to.
#[derive(Clone, Copy)]
pub struct Pace<'a> {
    pub schedule: &'a Mutex<Schedule<Submission>>,
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
    pub async fn wait(&self, deadline: Option<Instant>) -> bool {
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
            tokio::time::sleep_until(opening.into()).await;
        }
    }

    /// How long a request that is not the first of its call has to wait.
    pub fn held_back(&self, now: Instant) -> Duration {
        lock(self.schedule).held_back(now)
    }
}
