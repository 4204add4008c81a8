//! The bulk call: many deletions at once, while the calling thread waits for all of them.

use std::mem;
use std::sync::Arc;

use crate::client::Client;
use crate::completions::Record;
use crate::endpoint::check_id;
use crate::engine::engine;
use crate::memory;
use crate::outcome::Outcome;
use crate::process::generation;
use crate::status::{Effect, Status};
use crate::submission::{Results, Submission};

/// How many results are taken at a time.
const BATCH: usize = 256;

/// What the caller is told while a bulk deletion runs.
pub trait Observer {
    /// Called once for each id with its result; `index` is the id's position in the array.
    fn result(&mut self, index: usize, id: i64, outcome: &Outcome);
    /// Called after each result: `done` of `total` ids have one, and `last` is the latest. If it
    /// returns false, the remaining deletions are cancelled and it is not called again.
    fn progress(&mut self, done: usize, total: usize, last: &Record) -> bool;
}

/// Deletes all of `ids` and waits for all results. Returns `Ok` if every instance is gone, else the
/// status of the first id, in their order, whose instance may not be gone.
pub fn delete_all(
    client: &Arc<Client>,
    ids: &[i64],
    observer: &mut impl Observer,
) -> Result<Status, Outcome> {
    if ids.is_empty() {
        return Ok(Status::Ok);
    }
    memory::check()?;
    let engine = engine()?;
    // If the observer forks, the child has to give a result to every id without one.
    let mut has_result = Vec::new();
    has_result.try_reserve_exact(ids.len()).map_err(|_| {
        Outcome::new(
            Status::OutOfResources,
            "Give fewer ids at once: there is no memory for so many, and no request was sent.",
        )
    })?;
    has_result.resize(ids.len(), false);
    let results = Arc::new(Results::new(None));
    let mut accepted = ids.len();
    let mut refusal = None;
    for (tag, id) in (0..).zip(ids) {
        if let Err(outcome) = memory::check() {
            (accepted, refusal) = (tag as usize, Some(outcome));
            break;
        }
        let key = results.open(tag, *id);
        match client.admit(*id) {
            Ok(()) => engine.submit(client.clone(), Submission::queued(results.clone(), key)),
            Err(outcome) => results.finish(key, outcome),
        }
    }
    let mut first_failure: Option<(usize, Status)> = None;
    let mut note = |index: usize, status: Status| {
        let earlier = first_failure.is_some_and(|(first, _)| first < index);
        if status.effect() != Effect::Deleted && !earlier {
            first_failure = Some((index, status));
        }
    };
    let (mut done, mut going) = (0, true);
    let process = generation();
    while generation() == process {
        let batch = results.take(BATCH, None);
        if batch.is_empty() {
            break;
        }
        for record in batch {
            let index = record.tag as usize;
            has_result[index] = true;
            done += 1;
            note(index, record.outcome.status);
            observer.result(index, record.id, &record.outcome);
            if going && !observer.progress(done, ids.len(), &record) {
                going = false;
                if generation() == process {
                    engine.count_cancelled(results.cancel_all().waiting);
                }
            }
            // In the child of a fork inside the observer, the observer is not called again.
            going &= generation() == process;
        }
    }
    if generation() != process {
        // The observer forked, and this is the child. Only the parent has the thread that brings
        // the other results, and that thread may have held a lock of `results` during the fork: the
        // child must not touch these values, not even to drop them.
        mem::forget((engine, results));
        for (index, id) in ids[..accepted]
            .iter()
            .enumerate()
            .filter(|(index, _)| !has_result[*index])
        {
            let outcome = check_id(*id).err().unwrap_or_else(|| {
                Outcome::new(
                    Status::CancelledInFlight,
                    "Call again with the same id, which is safe and shows which: on_progress forked, and this deletion goes on in the parent process, where its result is known.",
                )
                .after(1)
            });
            note(index, outcome.status);
            observer.result(index, *id, &outcome);
        }
    }
    // The ids that were not accepted, for want of memory.
    for (index, id) in ids.iter().enumerate().skip(accepted) {
        let outcome = match (check_id(*id), &refusal) {
            (Err(outcome), _) => outcome,
            (Ok(()), Some(refusal)) => refusal.clone(),
            (Ok(()), None) => Outcome::plain(Status::Internal),
        };
        note(index, outcome.status);
        done += 1;
        observer.result(index, *id, &outcome);
        let last = Record {
            tag: index as u64,
            id: *id,
            outcome,
        };
        going = going && observer.progress(done, ids.len(), &last);
    }
    Ok(first_failure.map_or(Status::Ok, |(_, status)| status))
}
