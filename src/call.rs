//! One call under way: what others may see of it, and stop.

use std::sync::atomic::{AtomicU32, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::task::AbortHandle;

use crate::completions::Running;
use crate::transport::Gate;

/// Nothing may have been carried out: cancelled now, the instance is untouched.
const CLEAN: u8 = 0;
/// A request may have been sent, and how it ended is not known.
const IN_DOUBT: u8 = 1;
/// Cancelled: nothing may be sent any more.
const OVER: u8 = 2;

/// A call, shared by the task that works on it and those who may cancel it. The one atomic makes
/// "cancelled before the request was sent" a fact: to send and to cancel exclude each other.
#[derive(Default)]
pub struct Call {
    state: AtomicU8,
    attempts: AtomicU32,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Whether an earlier attempt is in doubt, which no later one can mend.
    in_doubt_for_good: bool,
    task: Option<AbortHandle>,
}

impl Call {
    /// Deletion requests that may have been sent.
    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    /// How to stop the task that works on it, told once it runs.
    pub fn runs_as(&self, task: AbortHandle) {
        let mut rest = self.rest();
        if self.is_cancelled() {
            task.abort();
        }
        rest.task = Some(task);
    }

    /// The attempt has ended; `in_doubt` if it may have been carried out.
    pub fn settle(&self, in_doubt: bool) {
        let mut rest = self.rest();
        rest.in_doubt_for_good |= in_doubt;
        if !rest.in_doubt_for_good {
            // A cancelled call stays cancelled.
            let _ = self.state.compare_exchange(
                IN_DOUBT,
                CLEAN,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.rest.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Gate for Call {
    fn open(&self) -> bool {
        let before = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                (state != OVER).then_some(IN_DOUBT)
            });
        if before.is_ok() {
            self.attempts.fetch_add(1, Ordering::Relaxed);
        }
        before.is_ok()
    }

    fn shut(&self) {
        self.attempts.fetch_sub(1, Ordering::Relaxed);
        self.settle(false);
    }

    fn is_cancelled(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OVER
    }
}

impl Running for Call {
    fn stop(&self) -> (bool, u32) {
        let before = self.state.swap(OVER, Ordering::Relaxed);
        if let Some(task) = &self.rest().task {
            task.abort();
        }
        (before == IN_DOUBT, self.attempts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_call_sends_nothing_and_a_sent_one_says_so() {
        let call = Call::default();
        assert_eq!(call.stop(), (false, 0));
        assert!(!call.open());
        assert_eq!(call.attempts(), 0);

        let call = Call::default();
        assert!(call.open());
        assert_eq!(call.stop(), (true, 1));

        // Refused for certain (429), or found not to have left: nothing is in doubt.
        let call = Call::default();
        assert!(call.open());
        call.settle(false);
        assert_eq!(call.stop(), (false, 1));
        let call = Call::default();
        assert!(call.open());
        call.shut();
        assert_eq!(call.stop(), (false, 0));

        // Once in doubt, always in doubt.
        let call = Call::default();
        assert!(call.open());
        call.settle(true);
        assert!(call.open());
        call.settle(false);
        assert_eq!(call.stop(), (true, 2));
    }
}
