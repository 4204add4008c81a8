//! Makes sure that every accepted submission produces exactly one result.
//!
//! A [`Submission`] waits for its turn; starting it turns it into a [`Completer`], which takes the
//! outcome. If either is dropped without an outcome (after a panic, or when the runtime ends), the
//! drop delivers `INTERNAL` as the result.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use crate::call::Call;
use crate::completions::{Completions, Key};
use crate::outcome::{Outcome, PERHAPS_LOGGED_OUT};
use crate::pieces::Pieces;
use crate::process::Notifier;
use crate::status::Status;
use crate::waiter::Waiter;

/// The results of a queue or of a bulk call.
pub type Results = Completions<Call, Notifier>;

/// Where the result of a submission is delivered.
enum Destination {
    Queue(Arc<Results>, Key),
    /// `None` once the result was delivered.
    Waiter(Option<Arc<Waiter>>),
}

impl Destination {
    fn take(&mut self) -> Self {
        mem::replace(self, Self::Waiter(None))
    }

    fn finish(self, outcome: Outcome) {
        match self {
            Self::Queue(results, key) => results.finish(key, outcome),
            Self::Waiter(Some(waiter)) => waiter.finish(outcome),
            Self::Waiter(None) => {}
        }
    }
}

/// An accepted submission that has not been started.
pub struct Submission(Destination);

// A queue may hold a million submissions, so their size counts.
const _: () = assert!(size_of::<Submission>() <= 24);

impl Submission {
    pub fn queued(results: Arc<Results>, key: Key) -> Self {
        Self(Destination::Queue(results, key))
    }

    pub fn blocking(waiter: Arc<Waiter>) -> Self {
        Self(Destination::Waiter(Some(waiter)))
    }

    /// When the submission was accepted; `None` once the result was delivered.
    pub fn accepted(&self) -> Option<Instant> {
        match &self.0 {
            Destination::Queue(results, key) => Some(results.accepted(*key)),
            Destination::Waiter(waiter) => waiter.as_ref().map(|waiter| waiter.accepted),
        }
    }

    /// When a blocking call has to end.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.0 {
            Destination::Waiter(Some(waiter)) => waiter.deadline,
            _ => None,
        }
    }

    /// Whether the submission should still be started: it was not cancelled, and its caller still
    /// waits.
    pub fn is_wanted(&self) -> bool {
        match &self.0 {
            Destination::Queue(results, key) => results.is_open(*key),
            Destination::Waiter(waiter) => waiter.as_ref().is_some_and(|waiter| waiter.is_open()),
        }
    }

    /// Starts `call`. Returns the completer that takes the outcome, and the instance's id; `None`
    /// if the submission was cancelled.
    pub fn start(mut self, call: &Arc<Call>) -> Option<(Completer, i64)> {
        let destination = self.0.take();
        let id = match &destination {
            Destination::Queue(results, key) => results.start(*key, call)?,
            Destination::Waiter(waiter) => waiter.as_ref()?.start()?,
        };
        let completer = Completer {
            destination,
            call: call.clone(),
        };
        Some((completer, id))
    }

    /// Ends the submission with `outcome` without starting it.
    pub fn refuse(mut self, outcome: Outcome) {
        self.0.take().finish(outcome);
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        self.0.take().finish(Outcome::plain(Status::Internal));
    }
}

/// Takes the outcome of a running call.
pub struct Completer {
    destination: Destination,
    call: Arc<Call>,
}

impl Completer {
    /// Delivers the result: to a waiting thread at once, to a queue in one batch with the other
    /// calls that end at about the same time.
    pub fn complete(mut self, outcome: Outcome) {
        let destination = self.destination.take();
        let Destination::Queue(results, key) = destination else {
            return destination.finish(outcome);
        };
        let left = ENDED.with_borrow_mut(|batch| match batch {
            Some(batch) => {
                batch.ended.push_back((results, key, outcome));
                batch.due.notify_one();
                None
            }
            None => Some((results, key, outcome)),
        });
        if let Some((results, key, outcome)) = left {
            results.finish(key, outcome);
        }
    }
}

impl Drop for Completer {
    fn drop(&mut self) {
        let mut outcome = Outcome::plain(Status::Internal).after(self.call.attempts());
        if self.call.may_have_logged_out() {
            outcome = outcome.preceded_by(PERHAPS_LOGGED_OUT);
        }
        self.destination.take().finish(outcome);
    }
}

thread_local! {
    /// On the engine's thread, the results that are yet to be delivered to queues. Locking and
    /// waking for each result would cost more than the rest of a call, so they are delivered in
    /// batches, after the tasks that are ready have run.
    static ENDED: RefCell<Option<Batch>> = const { RefCell::new(None) };
}

struct Batch {
    ended: Pieces<(Arc<Results>, Key, Outcome)>,
    due: Arc<Notify>,
}

impl Drop for Batch {
    fn drop(&mut self) {
        while let Some((results, key, outcome)) = self.ended.pop_front() {
            results.finish(key, outcome);
        }
    }
}

/// Collects the results of [`Completer::complete`] on the current thread; the returned future,
/// which never ends, delivers them.
pub fn deliver() -> impl Future<Output = ()> {
    let due = Arc::new(Notify::new());
    ENDED.set(Some(Batch {
        ended: Pieces::default(),
        due: due.clone(),
    }));
    hand_over(due)
}

async fn hand_over(due: Arc<Notify>) {
    let mut ended = Pieces::default();
    loop {
        due.notified().await;
        // Swapping the two reuses their memory.
        ENDED.with_borrow_mut(|batch| {
            if let Some(batch) = batch {
                mem::swap(&mut batch.ended, &mut ended);
            }
        });
        let mut ended = std::iter::from_fn(|| ended.pop_front()).peekable();
        while let Some((results, key, outcome)) = ended.next() {
            let rest = std::iter::from_fn(|| {
                let (_, key, outcome) = ended.next_if(|(next, ..)| Arc::ptr_eq(next, &results))?;
                Some((key, outcome))
            });
            results.finish_all(std::iter::once((key, outcome)).chain(rest));
        }
    }
}
