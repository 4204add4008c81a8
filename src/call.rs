//! The state of a running call, shared with whoever may cancel the call.

use std::future::{poll_fn, Future};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::Poll;

use futures_util::task::AtomicWaker;

use crate::completions::{Running, Stopped};
use crate::outcome::{Outcome, PERHAPS_LOGGED_OUT};
use crate::status::Status;
use crate::sync::lock;
use crate::transport::CallState;

/// A request may have been sent, and its effect is not known. While this bit is clear, the call has
/// not deleted the instance, and cancelling guarantees that it never will.
const IN_DOUBT: u32 = 1;
/// The call has ended or was cancelled: nothing more may be sent.
const OVER: u32 = 2;

/// A logout request may have been sent.
const LOGGED_OUT: u32 = 4;

/// A record of the call may be in the journal.
const RECORDED: u32 = 8;

/// The number of attempts is counted in the bits from here up.
const ATTEMPT: u32 = 16;

/// A call, shared by the task that carries it out and the threads that may cancel it. Sending and
/// cancelling change the same atomic word, so only one of them can come first: "cancelled before
/// the request was sent" is certain.
#[derive(Default)]
pub struct Call {
    word: AtomicU32,
    /// Whether the effect of an earlier attempt is unknown. A later attempt cannot settle that.
    in_doubt_for_good: Mutex<bool>,
    /// Wakes the call's task.
    task: AtomicWaker,
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

    /// Notes that a record of the call is about to be written into the journal; false if the call
    /// was cancelled before. From here on it is the call's task that delivers a cancelled result.
    pub fn records(&self) -> bool {
        self.change(|word| Some(word | RECORDED))
    }

    /// Waits for `work`, the call's own, but only until the call is cancelled; then returns `None`.
    /// `work` is pinned by the caller, because the future would hold a moved one twice.
    pub async fn unless_cancelled<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        poll_fn(|context| {
            self.task.register(context.waker());
            match self.is_cancelled() {
                true => Poll::Ready(None),
                false => work.as_mut().poll(context).map(Some),
            }
        })
        .await
    }

    /// The result of the call once it has been cancelled.
    pub fn cancelled(&self) -> Outcome {
        let (sent, attempts) = (self.is_in_doubt(), self.attempts());
        let status = match sent {
            true => Status::CancelledInFlight,
            false => Status::Cancelled,
        };
        let mut outcome = Outcome::plain(status).after(attempts);
        if !sent && attempts > 0 {
            outcome.message =
                "Cancelled before the request was sent again: nothing was deleted.".into();
        }
        match self.may_have_logged_out() {
            true => outcome.preceded_by(PERHAPS_LOGGED_OUT),
            false => outcome,
        }
    }

    /// Whether the call may have logged the instance out, which its message must say.
    pub fn may_have_logged_out(&self) -> bool {
        self.word.load(Ordering::Relaxed) & LOGGED_OUT != 0
    }

    /// Marks the call as ended with an outcome; false if the call was cancelled before.
    pub fn end(&self) -> bool {
        self.word.fetch_or(OVER, Ordering::Relaxed) & OVER == 0
    }

    /// Notes the end of an attempt. `maybe_deleted` is false only if the attempt certainly deleted
    /// nothing. (It is true for a confirmed deletion too: until [`Call::end`], a cancellation must
    /// still report that a request was sent.)
    pub fn settle(&self, maybe_deleted: bool) {
        let mut for_good = self.in_doubt_for_good();
        *for_good |= maybe_deleted;
        if !*for_good {
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

    fn in_doubt_for_good(&self) -> MutexGuard<'_, bool> {
        lock(&self.in_doubt_for_good)
    }
}

impl CallState for Call {
    fn begin_send(&self) -> bool {
        self.change(|word| Some((word | IN_DOUBT) + ATTEMPT))
    }

    fn retract(&self) {
        let for_good = *self.in_doubt_for_good();
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
    fn stop(&self) -> Stopped {
        let before = self.word.fetch_or(OVER, Ordering::Relaxed);
        if before & OVER != 0 {
            return Stopped::Ended;
        }
        self.task.wake();
        match before & RECORDED {
            0 => Stopped::Now(self.cancelled()),
            _ => Stopped::Later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a request is in doubt, and how many were sent, according to a cancelled result.
    fn stop(call: &Call) -> Option<(bool, u32)> {
        match call.stop() {
            Stopped::Now(outcome) => Some((
                outcome.status == Status::CancelledInFlight,
                outcome.attempts,
            )),
            Stopped::Later => panic!("the result comes at once"),
            Stopped::Ended => None,
        }
    }

    #[test]
    fn a_cancelled_call_sends_nothing_and_a_sent_one_says_so() {
        let call = Call::default();
        assert_eq!(stop(&call), Some((false, 0)));
        assert!(!call.begin_send());
        assert_eq!(call.attempts(), 0);

        let call = Call::default();
        assert!(call.begin_send());
        assert_eq!(stop(&call), Some((true, 1)));
        assert!(!call.end());

        // A call that has an outcome can no longer be cancelled.
        let call = Call::default();
        assert!(call.begin_send());
        assert!(call.end());
        assert_eq!(stop(&call), None);

        // The server refused the request (429), or it was not sent after all: the effect is known.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(stop(&call), Some((false, 1)));
        let call = Call::default();
        assert!(call.begin_send());
        call.retract();
        assert_eq!(stop(&call), Some((false, 0)));

        // After one attempt in doubt, later attempts do not settle the doubt.
        let call = Call::default();
        assert!(call.begin_send());
        call.settle(true);
        assert!(call.begin_send());
        call.settle(false);
        assert_eq!(stop(&call), Some((true, 2)));
    }

    #[test]
    fn a_call_that_records_delivers_its_result_itself() {
        let call = Call::default();
        assert!(call.records());
        assert!(matches!(call.stop(), Stopped::Later));
        assert!(matches!(call.stop(), Stopped::Ended));
        assert_eq!(call.cancelled().status, Status::Cancelled);

        let call = Call::default();
        assert_eq!(stop(&call), Some((false, 0)));
        assert!(!call.records());
    }
}
