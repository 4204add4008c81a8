//! One call under way: what others may see of it, and stop.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::task::AbortHandle;

use crate::completions::Running;
use crate::sync::lock;
use crate::transport::CallState;

/// A request may have been sent, and how it ended is not known. Without this bit nothing can have
/// been carried out: cancelled now, the instance is untouched.
const IN_DOUBT: u32 = 1;
/// Ended or cancelled: nothing may be sent any more.
const OVER: u32 = 2;

/// A logout may have been sent.
const LOGGED_OUT: u32 = 4;

/// The state of the deletion is in the lowest bits, the number of attempts in the highest.
const STATE: u32 = IN_DOUBT | OVER;
const ATTEMPT: u32 = 8;

/// A call, shared by the task that works on it and those who may cancel it. The one atomic makes
/// "cancelled before the request was sent" a fact: to send and to cancel exclude each other.
#[derive(Default)]
pub struct Call {
    word: AtomicU32,
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
        self.word.load(Ordering::Relaxed) / ATTEMPT
    }

    /// Whether a request may have been sent whose end is not known.
    pub fn is_in_doubt(&self) -> bool {
        self.word.load(Ordering::Relaxed) & IN_DOUBT != 0
    }

    /// A logout is about to be sent.
    pub fn logs_out(&self) {
        self.word.fetch_or(LOGGED_OUT, Ordering::Relaxed);
    }

    /// How to stop the task that works on it, told once it runs.
    pub fn runs_as(&self, task: AbortHandle) {
        let mut rest = self.rest();
        if self.is_cancelled() {
            task.abort();
        }
        rest.task = Some(task);
    }

    /// It has an outcome; false if it was cancelled before.
    pub fn end(&self) -> bool {
        self.word.fetch_or(OVER, Ordering::Relaxed) & OVER == 0
    }

    /// The attempt has ended; `maybe_deleted` unless it is certain that it deleted nothing. (After
    /// a deletion too: until [`Call::end`] a cancellation has to say that a request was sent.)
    pub fn settle(&self, maybe_deleted: bool) {
        let mut rest = self.rest();
        rest.in_doubt_for_good |= maybe_deleted;
        if !rest.in_doubt_for_good {
            self.change(|word| Some(word & !IN_DOUBT));
        }
    }

    /// Changes the word while the call is not over.
    fn change(&self, new: impl Fn(u32) -> Option<u32>) -> bool {
        self.word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
                match word & OVER {
                    0 => new(word),
                    _ => None,
                }
            })
            .is_ok()
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        lock(&self.rest)
    }
}

impl CallState for Call {
    fn begin_send(&self) -> bool {
        self.change(|word| Some((word | IN_DOUBT) + ATTEMPT))
    }

    fn retract(&self) {
        let for_good = self.rest().in_doubt_for_good;
        self.change(|word| match for_good {
            true => Some(word - ATTEMPT),
            false => Some((word & !IN_DOUBT) - ATTEMPT),
        });
    }

    fn is_cancelled(&self) -> bool {
        self.word.load(Ordering::Relaxed) & OVER != 0
    }
}

impl Running for Call {
    fn stop(&self) -> Option<(bool, u32)> {
        let before = self.word.fetch_or(OVER, Ordering::Relaxed);
        if before & OVER != 0 {
            return None;
        }
        if let Some(task) = &self.rest().task {
            task.abort();
        }
        Some((before & STATE == IN_DOUBT, before / ATTEMPT))
    }

    fn may_have_logged_out(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOGGED_OUT != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_call_sends_nothing_and_a_sent_one_says_so() {
        let call = Call::default();
        assert_eq!(call.stop(), Some((false, 0)));
        assert!(!call.begin_send());
        assert_eq!(call.attempts(), 0);

        let call = Call::default();
        assert!(call.begin_send());
        assert_eq!(call.stop(), Some((true, 1)));
        assert!(!call.end());

        // Whose outcome is on the way is not cancelled any more.
        let call = Call::default();
        assert!(call.begin_send());
        assert!(call.end());
        assert_eq!(call.stop(), None);

        // Refused for certain (429), or found not to have left: nothing is in doubt.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(call.stop(), Some((false, 1)));
        let call = Call::default();
        assert!(call.begin_send());
        call.retract();
        assert_eq!(call.stop(), Some((false, 0)));

        // Once in doubt, always in doubt.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(true);
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(call.stop(), Some((true, 2)));
    }
}
