//! The bulk call: many deletions at once, while the calling thread waits for all of them.

use std::mem;
use std::sync::Arc;

use crate::client::Client;
use crate::completions::Record;
use crate::endpoint::check_id;
use crate::engine::{engine, Engine};
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
    let mut run = Run::new(ids, observer)?;
    let results = Arc::new(Results::new(None));
    let refused = submit(client, ids, &engine, &results).err();
    let accepted = refused.as_ref().map_or(ids.len(), |(first, _)| *first);
    run.collect(&engine, &results);
    if run.is_in_child() {
        // Only the parent has the thread that brings the other results, and that thread may have
        // held a lock of `results` during the fork: the child must not touch these values, not even
        // to drop them.
        mem::forget((engine, results));
        run.report_what_the_parent_awaits(accepted);
    }
    if let Some((_, refusal)) = refused {
        run.refuse_from(accepted, &refusal);
    }
    Ok(run.status())
}

/// Submits all ids. If memory gets short, the error has the position of the first id that was not
/// submitted, and the outcome of the rest.
fn submit(
    client: &Arc<Client>,
    ids: &[i64],
    engine: &Engine,
    results: &Arc<Results>,
) -> Result<(), (usize, Outcome)> {
    for (tag, id) in (0..).zip(ids) {
        memory::check().map_err(|outcome| (tag as usize, outcome))?;
        match client.admit(*id) {
            Ok(()) => {
                let key = results.open(tag, *id);
                engine.submit(client.clone(), Submission::queued(results.clone(), key));
            }
            Err(outcome) => results.refuse(tag, *id, outcome),
        }
    }
    Ok(())
}

/// What the caller has been told so far.
struct Run<'a, O> {
    ids: &'a [i64],
    observer: &'a mut O,
    /// If the observer forks, the child has to give a result to every id without one.
    has_result: Vec<bool>,
    done: usize,
    /// Whether the observer wants to be told of progress.
    going: bool,
    /// The first id, in their order, whose instance may not be gone.
    first_failure: Option<(usize, Status)>,
    process: u32,
}

impl<'a, O: Observer> Run<'a, O> {
    fn new(ids: &'a [i64], observer: &'a mut O) -> Result<Self, Outcome> {
        let mut has_result = Vec::new();
        has_result.try_reserve_exact(ids.len()).map_err(|_| {
            Outcome::new(
                Status::OutOfResources,
                "Give fewer ids at once: there is no memory for so many, and no request was sent.",
            )
        })?;
        has_result.resize(ids.len(), false);
        Ok(Self {
            ids,
            observer,
            has_result,
            done: 0,
            going: true,
            first_failure: None,
            process: generation(),
        })
    }

    /// Whether the observer forked, and this is the child.
    fn is_in_child(&self) -> bool {
        generation() != self.process
    }

    fn report(&mut self, index: usize, id: i64, outcome: &Outcome) {
        let earlier = self.first_failure.is_some_and(|(first, _)| first < index);
        if outcome.status.effect() != Effect::Deleted && !earlier {
            self.first_failure = Some((index, outcome.status));
        }
        self.observer.result(index, id, outcome);
    }

    /// Waits for the results of all that was submitted, and hands them on.
    fn collect(&mut self, engine: &Engine, results: &Results) {
        while !self.is_in_child() {
            let batch = results.take(BATCH, None);
            if batch.is_empty() {
                break;
            }
            for record in batch {
                let index = record.tag as usize;
                self.has_result[index] = true;
                self.done += 1;
                self.report(index, record.id, &record.outcome);
                if self.going && !self.observer.progress(self.done, self.ids.len(), &record) {
                    self.going = false;
                    if !self.is_in_child() {
                        engine.count_cancelled(results.cancel_all().waiting);
                    }
                }
                // In the child of a fork inside the observer, the observer is not called again.
                self.going &= !self.is_in_child();
            }
        }
    }

    /// Reports, in the child of a fork, the `accepted` first ids whose results the parent gets.
    fn report_what_the_parent_awaits(&mut self, accepted: usize) {
        for index in 0..accepted {
            if self.has_result[index] {
                continue;
            }
            let id = self.ids[index];
            let outcome = check_id(id).err().unwrap_or_else(|| {
                Outcome::new(
                    Status::CancelledInFlight,
                    "Call again with the same id, which is safe and shows which: on_progress forked, and this deletion goes on in the parent process, where its result is known.",
                )
                .after(1)
            });
            self.report(index, id, &outcome);
        }
    }

    /// Reports the ids from `first` on, which were not submitted.
    fn refuse_from(&mut self, first: usize, refusal: &Outcome) {
        let ids = self.ids;
        for (index, id) in ids.iter().copied().enumerate().skip(first) {
            let outcome = check_id(id).err().unwrap_or_else(|| refusal.clone());
            self.done += 1;
            self.report(index, id, &outcome);
            let last = Record {
                tag: index as u64,
                id,
                outcome,
            };
            self.going = self.going && self.observer.progress(self.done, ids.len(), &last);
        }
    }

    fn status(&self) -> Status {
        self.first_failure.map_or(Status::Ok, |(_, status)| status)
    }
}
