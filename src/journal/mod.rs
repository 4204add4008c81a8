//! The journal: records each deletion in a file, so that later processes know it (docs/JOURNAL.md).
//!
//! [`record`] formats and parses lines, [`index`] holds the state of each instance, both without
//! access to a file; [`mod@file`] is the file. This module stands between a call and the file: a
//! call takes a [`Claim`] on its instance, queues a record of what it is about to do, and waits
//! until the record is durable. One thread, [`writer`], writes all queued records at once and syncs
//! once for all of them. So the engine never waits for a disk, and calls that start together share
//! one sync.

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
use crate::secret::Secret;
use crate::status::{Effect, Status};
use crate::sync::lock;
use crate::transport::CallState;
use index::{Deletion, Index, Past};
use record::{now, Event, Record};

pub use registry::Journal;

/// How long a call that has ended may wait, past its deadline, until its end record is written.
const GRACE: Duration = Duration::from_secs(1);

/// The state that all clients of one journal in one process share with the journal's thread.
struct Shared {
    address: String,
    state: Mutex<State>,
    /// Wakes the writer.
    work: Condvar,
}

struct State {
    /// The path as messages show it, without the tokens of all clients.
    path: String,
    index: Index,
    /// The instances with a call under way, and how to wake the calls that wait for its end.
    claimed: HashMap<i64, Option<Arc<Notify>>>,
    queue: Vec<Record>,
    /// Reports the progress of the records in the queue.
    batch: watch::Sender<Progress>,
    /// Set once the journal can no longer be trusted: the outcome of every later call.
    broken: Option<Outcome>,
    /// No client uses the journal any more.
    closing: bool,
}

/// How far the records of a batch have been written.
#[derive(Debug, Clone)]
enum Progress {
    Waiting,
    /// The records survive the end of the process.
    Written,
    /// The records also survive a power failure.
    Durable,
    Failed(Outcome),
}

impl Shared {
    fn new(path: String, address: String, index: Index) -> Self {
        Self {
            address,
            state: Mutex::new(State {
                path,
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

    fn path(&self) -> String {
        lock(&self.state).path.clone()
    }

    /// The outcome of a call for an instance that is gone according to the journal, or of any call
    /// once the journal is broken.
    fn known(&self, id: i64) -> Option<Outcome> {
        let state = lock(&self.state);
        match state.broken.clone() {
            Some(outcome) => Some(outcome),
            None => messages::answer(&state.index.get(id)),
        }
    }

    /// Claims an instance for a call, after waiting for an earlier call with the same id to end.
    /// Returns an outcome instead if nothing is to be sent.
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

    /// Puts a record into the queue. Returns a receiver for its progress, and whether the queue was
    /// empty before.
    fn note(&self, state: &mut State, id: i64, event: Event) -> (watch::Receiver<Progress>, bool) {
        let first = state.queue.is_empty();
        state.queue.push(Record {
            at: now(),
            id,
            event,
        });
        (state.batch.subscribe(), first)
    }

    /// Wakes the writer for the first record of a batch. It first lets the other ready tasks run,
    /// so that calls that start together share one sync.
    async fn wake_for(&self, first: bool) {
        /// Wakes when it is dropped, because this future is dropped if its call is cancelled.
        struct Wakes<'a>(&'a Condvar);
        impl Drop for Wakes<'_> {
            fn drop(&mut self) {
                self.0.notify_one();
            }
        }
        if first {
            let _wakes = Wakes(&self.work);
            yield_now().await;
        }
    }
}

impl State {
    /// Hides the token of one more client in what messages show.
    fn hide(&mut self, token: &Secret) {
        let path = token.redact(&self.path);
        if path != self.path {
            self.path = path;
            if let Some(broken) = &mut self.broken {
                broken.message = token.redact(&broken.message).into();
            }
        }
    }

    /// Allocates all memory that a new claim may need until its end, so that a lack of memory
    /// cannot lose a record once a request may have been sent.
    fn reserve(&mut self) -> Result<(), std::collections::TryReserveError> {
        /// A logout, a beginning and an end.
        const NOTES: usize = 3;
        self.claimed.try_reserve(1)?;
        let claims = self.claimed.len() + 1;
        self.index.reserve(claims)?;
        self.queue.try_reserve(NOTES * claims)
    }
}

/// The exclusive right of one call to delete an instance. If a claim is dropped without
/// [`Claim::end`] (after a cancellation or a panic), the drop records what is known.
pub struct Claim {
    shared: Arc<Shared>,
    call: Arc<Call>,
    id: i64,
    /// What the journal said before this call.
    past: Past,
    /// The progress of this call's latest record.
    batch: Option<watch::Receiver<Progress>>,
    /// Whether a record of this call may be in the file.
    noted: bool,
}

impl Claim {
    /// Records durably that the instance's deletion may be sent from here on.
    pub async fn begin(&mut self, deadline: Instant) -> Result<(), Outcome> {
        self.note(Event::Begin, deadline).await
    }

    /// Records durably that a logout of the instance may be sent from here on.
    pub async fn log_out(&mut self, deadline: Instant) -> Result<(), Outcome> {
        self.note(Event::LogOut, deadline).await
    }

    async fn note(&mut self, event: Event, deadline: Instant) -> Result<(), Outcome> {
        let (batch, first) = {
            let mut state = lock(&self.shared.state);
            if let Some(outcome) = state.broken.clone() {
                return Err(outcome);
            }
            if !self.call.records() {
                return Err(self.call.cancelled());
            }
            self.shared.note(&mut state, self.id, event)
        };
        self.batch = Some(batch);
        self.shared.wake_for(first).await;
        let Some(batch) = &mut self.batch else {
            return Err(Outcome::plain(Status::Internal));
        };
        let done = |progress: &_| matches!(progress, Progress::Durable | Progress::Failed(_));
        match wait_until(batch, done, deadline).await {
            Some(Progress::Durable) => {}
            Some(Progress::Failed(outcome)) => {
                self.batch = None;
                return Err(outcome);
            }
            // The writer's thread has ended.
            Some(_) => return Err(messages::broken(&self.shared.path(), "its thread ended")),
            None => return Err(messages::late(&self.shared.path())),
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

    /// Records the end of the call, and returns its result: its outcome, corrected by what the journal
    /// said before, or `cancelled` if the call was cancelled before it could report the outcome. The
    /// record is written before this returns, so that even a process that is killed has reported no
    /// result that is missing in the journal.
    pub async fn end(
        mut self,
        outcome: Outcome,
        cancelled: Option<Outcome>,
        deadline: Instant,
    ) -> Outcome {
        let outcome = self.judge(outcome);
        let noted = self.note_end(&outcome);
        let result = match cancelled {
            Some(cancelled) => self.judge(cancelled),
            None => outcome,
        };
        if let Some((mut batch, first)) = noted {
            self.shared.wake_for(first).await;
            let until = deadline.max(Instant::now() + GRACE);
            // The result is right even if the record could not be written.
            wait_until(&mut batch, |one| !matches!(one, Progress::Waiting), until).await;
        }
        result
    }

    /// Corrects an outcome by what the journal said before this call.
    fn judge(&self, mut outcome: Outcome) -> Outcome {
        let in_doubt = self.past.deletion == Deletion::InDoubt;
        if in_doubt && outcome.status == Status::NotFound {
            outcome.status = Status::Gone;
            outcome.message =
                "The instance is gone, most likely deleted by an earlier call: according to the journal a deletion had begun, and this call found no such instance.".into();
        } else if in_doubt && outcome.status.effect() == Effect::NotDeleted {
            outcome.message = preface(
                "Call again: an earlier call may have deleted it, says the journal; now",
                &outcome.message,
            );
        }
        if self.past.logged_out {
            outcome.message = preface(
                "An earlier call may have logged the instance out; now",
                &outcome.message,
            );
        }
        outcome
    }

    /// Queues the end record, unless none is needed: this call wrote no record and settles no
    /// earlier doubt, or an earlier call's deletion stays in doubt.
    fn note_end(&mut self, outcome: &Outcome) -> Option<(watch::Receiver<Progress>, bool)> {
        let mut state = lock(&self.shared.state);
        let pending = self
            .batch
            .take()
            .is_some_and(|batch| !matches!(*batch.borrow(), Progress::Failed(_)));
        let noted = std::mem::take(&mut self.noted) || pending;
        let in_doubt = self.past.deletion == Deletion::InDoubt;
        let needed = match outcome.status.effect() {
            Effect::NotDeleted => noted && !in_doubt,
            // The account's list can settle the doubt without a deletion by this call.
            Effect::Deleted => noted || in_doubt,
            _ => noted,
        };
        if !needed {
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

/// Waits until a batch has come as far as `done` says, or its writer has ended; returns its progress,
/// or `None` if the time is over.
async fn wait_until(
    batch: &mut watch::Receiver<Progress>,
    done: fn(&Progress) -> bool,
    until: Instant,
) -> Option<Progress> {
    timeout_at(until.into(), async {
        while !done(&batch.borrow_and_update()) && batch.changed().await.is_ok() {}
    })
    .await
    .ok()?;
    Some(batch.borrow().clone())
}

/// Puts what the journal knows before what this call learned: if both do not fit, it is the end of
/// the latter that is cut.
fn preface(known: &str, message: &str) -> std::borrow::Cow<'static, str> {
    fit(format!("{known}: {message}").into())
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::completions::{Running, Stopped};

    const ID: i64 = 1_101_000_001;

    /// A call whose begin record waits for the writer, which this test plays, and its claim.
    async fn begun(shared: &Arc<Shared>) -> (Arc<Call>, Claim) {
        let call = Arc::new(Call::default());
        let deadline = Instant::now() + Duration::from_secs(600);
        let claim = shared.claim(ID, &call, deadline).await;
        let mut claim = claim.expect("nobody else has it");
        {
            let begin = pin!(claim.begin(deadline));
            let mut begin = pin!(call.unless_cancelled(begin));
            assert!(begin.as_mut().now_or_never().is_none());
            // The result of a call that may have a record waits for the record of its end.
            assert!(matches!(call.stop(), Stopped::Later));
            assert!(begin.await.is_none());
        }
        (call, claim)
    }

    #[tokio::test]
    async fn a_cancelled_result_waits_until_its_record_is_written() {
        let shared = Arc::new(Shared::new("j".into(), "a".into(), Index::default()));
        let (call, claim) = begun(&shared).await;
        let mut end = pin!(claim.end(call.cancelled(), Some(call.cancelled()), Instant::now()));
        for _ in 0..3 {
            assert!(end.as_mut().now_or_never().is_none());
        }
        let events = |state: &State| {
            let notes = state.queue.iter();
            notes.map(|note| note.event).collect::<Vec<_>>()
        };
        let cancelled = Event::End {
            status: Status::Cancelled as i32,
            code: 0,
        };
        {
            let state = lock(&shared.state);
            assert_eq!(events(&state), [Event::Begin, cancelled]);
            state.batch.send_replace(Progress::Written);
        }
        assert!(end.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_cancelled_result_does_not_wait_for_a_disk_that_hangs() {
        let shared = Arc::new(Shared::new("j".into(), "a".into(), Index::default()));
        let (call, claim) = begun(&shared).await;
        let before = Instant::now();
        let outcome = claim
            .end(call.cancelled(), Some(call.cancelled()), Instant::now())
            .await;
        assert_eq!(outcome.status, Status::Cancelled);
        assert!(before.elapsed() >= GRACE);
    }

    /// The call that would wake the writer is cancelled before it does.
    #[tokio::test]
    async fn a_call_that_is_cancelled_as_it_begins_wakes_the_writer() {
        let name = format!("greenapi-journal-{}-woken", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = std::fs::remove_file(&path);
        let mut file = file::JournalFile::open(&path).expect("a new file");
        let index = file.load("https://a").expect("an empty journal");
        let shared = Arc::new(Shared::new("j".into(), "https://a".into(), index));
        let mut writer = writer::Writer::new(shared.clone(), file);
        let thread = std::thread::spawn(move || writer.run());
        // In most rounds but the first the writer waits for work.
        for _ in 0..5 {
            let (call, claim) = begun(&shared).await;
            let mut batch = claim.batch.clone().expect("it has a record");
            claim
                .end(call.cancelled(), Some(call.cancelled()), Instant::now())
                .await;
            let durable = batch.wait_for(|progress| matches!(progress, Progress::Durable));
            // The disk may be slow.
            let durable = tokio::time::timeout(Duration::from_secs(20), durable).await;
            drop(durable.expect("the writer was woken"));
        }
        lock(&shared.state).closing = true;
        shared.work.notify_one();
        thread.join().expect("the writer ends");
        let _ = std::fs::remove_file(&path);
    }
}
