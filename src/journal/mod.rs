//! The journal: what a client did, told to the processes after it (docs/JOURNAL.md).
//!
//! [`record`] writes and reads lines, [`index`] knows what they say of each instance, both pure;
//! [`mod@file`] is the file; here is what happens between a call and the file. A call takes a
//! [`Claim`] on its instance, notes through it what it is about to do, and waits until that is
//! durable; one thread, [`writer`], takes all notes that have come together, writes them at once
//! and syncs once. So the engine never waits for a disk, and calls share its pauses.

mod file;
mod index;
mod messages;
mod record;
mod registry;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{watch, Notify};
use tokio::task::yield_now;
use tokio::time::timeout_at;

use crate::call::Call;
use crate::outcome::{fit, Outcome};
use crate::status::{Effect, Status};
use crate::sync::lock;
use crate::transport::CallState;
use index::{Deletion, Index, Past};
use record::{now, Event, Record};

pub use registry::Journal;

/// How long past its deadline a call that has ended waits until its end is written.
const GRACE: Duration = Duration::from_secs(1);

/// What the clients of one journal in one process share with its thread.
struct Shared {
    path: String,
    address: String,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
}

struct State {
    index: Index,
    /// The instances with a call under way, and those who wait for its end.
    claimed: HashMap<i64, Option<Arc<Notify>>>,
    queue: Vec<Record>,
    /// What becomes of the queue.
    batch: watch::Sender<Progress>,
    /// No note is trusted any more: the outcome of every call from now on.
    broken: Option<Outcome>,
    /// No client has it any more.
    closing: bool,
}

/// How far the notes of a batch have come.
#[derive(Debug, Clone)]
enum Progress {
    Waiting,
    /// A process that is killed cannot lose them any more.
    Written,
    /// Neither can a machine that loses power.
    Durable,
    Failed(Outcome),
}

impl Shared {
    fn new(path: String, address: String, index: Index) -> Self {
        Self {
            path,
            address,
            state: Mutex::new(State {
                index,
                claimed: HashMap::new(),
                queue: Vec::new(),
                batch: watch::Sender::new(Progress::Waiting),
                broken: None,
                closing: false,
            }),
            work: Condvar::new(),
        }
    }

    /// The outcome of a call with an instance that is gone by what the journal says.
    fn known(&self, id: i64) -> Option<Outcome> {
        let state = lock(&self.state);
        match state.broken.clone() {
            Some(outcome) => Some(outcome),
            None => messages::answer(&state.index.get(id)),
        }
    }

    /// The right to delete an instance: one call at a time has it. An outcome where nothing is to
    /// be sent.
    async fn claim(
        self: &Arc<Self>,
        id: i64,
        call: &Arc<Call>,
        deadline: Instant,
    ) -> Result<Claim, Outcome> {
        loop {
            let other;
            let ended = {
                let mut state = lock(&self.state);
                if let Some(outcome) = state.broken.clone() {
                    return Err(outcome);
                }
                let past = state.index.get(id);
                if let Some(outcome) = messages::answer(&past) {
                    return Err(outcome);
                }
                match state.claimed.get_mut(&id) {
                    Some(waiters) => {
                        other = waiters.get_or_insert_default().clone();
                        other.notified()
                    }
                    None => {
                        state.reserve().map_err(|_| messages::no_memory())?;
                        state.claimed.insert(id, None);
                        return Ok(Claim {
                            shared: self.clone(),
                            call: call.clone(),
                            id,
                            past,
                            batch: None,
                            noted: false,
                        });
                    }
                }
            };
            if timeout_at(deadline.into(), ended).await.is_err() {
                return Err(Outcome::new(
                    Status::NotStarted,
                    "Call again: another call with the same id was still under way when the timeout passed, and this one sent nothing.",
                ));
            }
        }
    }

    /// Puts a note into the queue: what becomes of it, and whether it is the first one there.
    fn note(&self, state: &mut State, id: i64, event: Event) -> (watch::Receiver<Progress>, bool) {
        let first = state.queue.is_empty();
        state.queue.push(Record {
            at: now(),
            id,
            event,
        });
        (state.batch.subscribe(), first)
    }

    /// Wakes the writer for a note, if it is the first of its batch: once the tasks that are ready
    /// have had their turn, so that all that start together share one sync.
    async fn wake_for(&self, first: bool) {
        if first {
            yield_now().await;
            self.work.notify_one();
        }
    }
}

impl State {
    /// Room for all that a new claim may need until its end, so that nothing is lost for want of
    /// memory once a request may have been sent.
    fn reserve(&mut self) -> Result<(), std::collections::TryReserveError> {
        /// A logout, a beginning and an end.
        const NOTES: usize = 3;
        self.claimed.try_reserve(1)?;
        let claims = self.claimed.len() + 1;
        self.index.reserve(claims)?;
        self.queue.try_reserve(NOTES * claims)
    }
}

/// One call's right to delete an instance. Dropped without [`Claim::end`] (a cancellation, a
/// panic), it notes by itself what is known.
pub struct Claim {
    shared: Arc<Shared>,
    call: Arc<Call>,
    id: i64,
    /// What the journal said before.
    past: Past,
    /// What becomes of the latest note.
    batch: Option<watch::Receiver<Progress>>,
    /// Whether anything may be in the file.
    noted: bool,
}

impl Claim {
    /// Notes durably that the instance's deletion may be sent from here on.
    pub async fn begin(&mut self, deadline: Instant) -> Result<(), Outcome> {
        self.note(Event::Begin, deadline).await
    }

    /// Notes durably that a logout of the instance may be sent from here on.
    pub async fn log_out(&mut self, deadline: Instant) -> Result<(), Outcome> {
        self.note(Event::LogOut, deadline).await
    }

    async fn note(&mut self, event: Event, deadline: Instant) -> Result<(), Outcome> {
        let (batch, first) = {
            let mut state = lock(&self.shared.state);
            if let Some(outcome) = state.broken.clone() {
                return Err(outcome);
            }
            self.shared.note(&mut state, self.id, event)
        };
        self.batch = Some(batch);
        self.shared.wake_for(first).await;
        let Some(batch) = &mut self.batch else {
            return Err(Outcome::plain(Status::Internal));
        };
        let done =
            batch.wait_for(|progress| matches!(progress, Progress::Durable | Progress::Failed(_)));
        let progress = match timeout_at(deadline.into(), done).await {
            Ok(Ok(progress)) => progress.clone(),
            // The writer has died.
            Ok(Err(_)) => return Err(messages::broken(&self.shared.path, "its thread ended")),
            Err(_) => return Err(messages::late(&self.shared.path)),
        };
        if let Progress::Failed(outcome) = progress {
            self.batch = None;
            return Err(outcome);
        }
        self.noted = true;
        let record = Record {
            at: now(),
            id: self.id,
            event,
        };
        lock(&self.shared.state).index.apply(&record);
        Ok(())
    }

    /// Notes the end of the call, and gives back its outcome in the light of what the journal said
    /// before. It is written before it is reported, so that no process, however it ends, has
    /// reported what the journal does not say.
    pub async fn end(mut self, outcome: Outcome, deadline: Instant) -> Outcome {
        let outcome = self.judge(outcome);
        let Some((mut batch, first)) = self.note_end(&outcome) else {
            return outcome;
        };
        self.shared.wake_for(first).await;
        let until = deadline.max(Instant::now() + GRACE);
        let written = batch.wait_for(|progress| !matches!(progress, Progress::Waiting));
        // If it cannot be written, it is true all the same.
        let _ = timeout_at(until.into(), written).await;
        outcome
    }

    /// Notes the end of a call that was cancelled before it could report its outcome.
    pub fn abandon(mut self, outcome: Outcome) {
        let outcome = self.judge(outcome);
        if self.note_end(&outcome).is_some() {
            self.shared.work.notify_one();
        }
    }

    /// In the light of what the journal said before this call.
    fn judge(&self, mut outcome: Outcome) -> Outcome {
        let in_doubt = self.past.deletion == Deletion::InDoubt;
        if in_doubt && outcome.status == Status::NotFound {
            outcome.status = Status::Gone;
            outcome.message =
                "The instance is gone, most likely by an earlier call: the journal says that its deletion had begun, and this call found it missing.".into();
        } else if in_doubt && outcome.status.effect() == Effect::NotDeleted {
            outcome.message = append(
                outcome.message,
                " But by the journal an earlier call may have deleted it: call again to know.",
            );
        }
        if self.past.logged_out {
            outcome.message = fit(format!(
                "An earlier call may have logged the instance out; now: {}",
                outcome.message
            )
            .into());
        }
        outcome
    }

    /// Puts the end into the queue, unless there is nothing to end: no note was written, or an
    /// earlier doubt goes on.
    fn note_end(&mut self, outcome: &Outcome) -> Option<(watch::Receiver<Progress>, bool)> {
        let mut state = lock(&self.shared.state);
        let pending = self
            .batch
            .take()
            .is_some_and(|batch| !matches!(*batch.borrow(), Progress::Failed(_)));
        let noted = std::mem::take(&mut self.noted) || pending;
        let doubt_goes_on = self.past.deletion == Deletion::InDoubt
            && outcome.status.effect() == Effect::NotDeleted;
        if !noted || doubt_goes_on {
            return None;
        }
        let event = Event::End {
            status: outcome.status as i32,
            code: outcome.code,
        };
        state.index.apply(&Record {
            at: now(),
            id: self.id,
            event,
        });
        Some(self.shared.note(&mut state, self.id, event))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let status = match (self.call.is_cancelled(), self.call.is_in_doubt()) {
            (true, false) => Status::Cancelled,
            (true, true) => Status::CancelledInFlight,
            (false, _) => Status::Internal,
        };
        let noted = self.note_end(&Outcome::plain(status)).is_some();
        let waiters = lock(&self.shared.state).claimed.remove(&self.id).flatten();
        if let Some(waiters) = waiters {
            waiters.notify_waiters();
        }
        if noted {
            self.shared.work.notify_one();
        }
    }
}

/// The message with `more` behind it, if there is room for all of it.
fn append(message: std::borrow::Cow<'static, str>, more: &str) -> std::borrow::Cow<'static, str> {
    match message.len() + more.len() < crate::outcome::MESSAGE_SIZE {
        true => (message.into_owned() + more).into(),
        false => message,
    }
}
