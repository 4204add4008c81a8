//! Many deletions at once, waited for by the thread that asked for them.

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

/// Results taken between two looks at the engine.
const BATCH: usize = 256;

/// What the caller wants to hear of a bulk deletion.
pub trait Observer {
    /// The result of `id`, which stands at `index`: once for each of them.
    fn result(&mut self, index: usize, id: i64, outcome: &Outcome);
    /// `done` of `total` ids have their result, `last` just now. False cancels what is left, and
    /// it is not asked again.
    fn progress(&mut self, done: usize, total: usize, last: &Record) -> bool;
}

/// Deletes all of `ids` and waits for the end of it: `Ok` when every id is gone, else the status of
/// the first one, in their order, that is not.
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
    // Who has a result: a fork inside the observer leaves the child to answer for the rest.
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
            // In the child of a fork inside the observer, it is not asked again.
            going &= generation() == process;
        }
    }
    if generation() != process {
        // The observer forked, and this is the child: the thread that would bring the rest is the
        // parent's, and so is the lock under which it would.
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
    // Those for which there was no memory.
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
