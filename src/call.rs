//! The state of a running call, shared with whoever may cancel the call.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::task::AbortHandle;

use crate::completions::Running;
use crate::sync::lock;
use crate::transport::CallState;

/// A request may have been sent, and its effect is not known. While this bit is clear, the call has
/// not deleted the instance, and cancelling guarantees that it never will.
const IN_DOUBT: u32 = 1;
/// The call has ended or was cancelled: nothing more may be sent.
const OVER: u32 = 2;

/// A logout request may have been sent.
const LOGGED_OUT: u32 = 4;

/// The bits of the deletion's state. The number of attempts is counted in the bits from `ATTEMPT`
/// up.
const STATE: u32 = IN_DOUBT | OVER;
const ATTEMPT: u32 = 8;

/// A call, shared by the task that carries it out and the threads that may cancel it. Sending and
/// cancelling change the same atomic word, so only one of them can come first: "cancelled before
/// the request was sent" is certain.
#[derive(Default)]
pub struct Call {
    word: AtomicU32,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Whether the effect of an earlier attempt is unknown. A later attempt cannot settle that.
    in_doubt_for_good: bool,
    task: Option<AbortHandle>,
}

impl Call {
    /// The number of deletion requests that may have been sent.
    pub fn attempts(&self) -> u32 {
        self.word.load(Ordering::Relaxed) / ATTEMPT
    }

    /// Whether a request may have been sent whose effect is not known.
    pub fn is_in_doubt(&self) -> bool {
        self.word.load(Ordering::Relaxed) & IN_DOUBT != 0
    }

    /// Notes that a logout request is about to be sent.
    pub fn logs_out(&self) {
        self.word.fetch_or(LOGGED_OUT, Ordering::Relaxed);
    }

    /// Stores the handle with which a cancellation stops the call's task; stops the task at once if
    /// the call was cancelled already.
    pub fn runs_as(&self, task: AbortHandle) {
        let mut rest = self.rest();
        if self.is_cancelled() {
            task.abort();
        }
        rest.task = Some(task);
    }

    /// Marks the call as ended with an outcome; false if the call was cancelled before.
    pub fn end(&self) -> bool {
        self.word.fetch_or(OVER, Ordering::Relaxed) & OVER == 0
    }

    /// Notes the end of an attempt. `maybe_deleted` is false only if the attempt certainly deleted
    /// nothing. (It is true for a confirmed deletion too: until [`Call::end`], a cancellation must
    /// still report that a request was sent.)
    pub fn settle(&self, maybe_deleted: bool) {
        let mut rest = self.rest();
        rest.in_doubt_for_good |= maybe_deleted;
        if !rest.in_doubt_for_good {
            self.change(|word| Some(word & !IN_DOUBT));
        }
    }

    /// Changes the word unless the call is over; returns whether it was changed.
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

        // A call that has an outcome can no longer be cancelled.
        let call = Call::default();
        assert!(call.begin_send());
        assert!(call.end());
        assert_eq!(call.stop(), None);

        // The server refused the request (429), or it was not sent after all: the effect is known.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(call.stop(), Some((false, 1)));
        let call = Call::default();
        assert!(call.begin_send());
        call.retract();
        assert_eq!(call.stop(), Some((false, 0)));

        // After one attempt in doubt, later attempts do not settle the doubt.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(true);
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(call.stop(), Some((true, 2)));
    }
}
