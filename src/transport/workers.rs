//! Threads for blocking calls of the system (look-ups of names, reading the certificate store), so
//! that only the calls that need the result wait.
//!
//! At most three, started when needed, gone when idle. Names that never resolved get two of them at
//! most, because their look-ups may hang. The third is kept for the certificates until they have
//! been read, and from then on for names that have resolved before (which can wait: after a second
//! their last addresses are used). (Tokio's blocking pool is not used: it aborts the task when the
//! system refuses it a thread, and its size is not ours.)

use std::borrow::Borrow;
use std::collections::hash_map::{Entry, HashMap};
use std::collections::VecDeque;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::sync::{lock, unpoisoned};
use crate::threads;

const MAX_THREADS: usize = 3;
/// Threads for look-ups of names that never resolved, and for reading certificates.
const MAX_OF_A_KIND: usize = 2;
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// What a job does; the first kind goes ahead of the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Certificates,
    /// Looks up a name that has resolved before.
    KnownName,
    NewName,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Certificates, Self::KnownName, Self::NewName];
}

/// The threads, shared by all transports of a process.
#[derive(Clone, Default)]
pub struct Workers(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// One for each kind, as `running`.
    queues: [VecDeque<Job>; 3],
    running: [usize; 3],
    threads: usize,
    idle: usize,
    certificates_read: bool,
}

impl State {
    fn next(&mut self) -> Option<(Job, Kind)> {
        Kind::ALL.into_iter().find_map(|kind| {
            let may_run = self.may_run(kind);
            let job = may_run.then(|| self.queues[kind as usize].pop_front())?;
            Some((job?, kind))
        })
    }

    fn may_run(&self, kind: Kind) -> bool {
        let running = |kind: Kind| self.running[kind as usize];
        let names = running(Kind::KnownName) + running(Kind::NewName);
        let for_names = MAX_THREADS - usize::from(!self.certificates_read);
        match kind {
            Kind::Certificates => running(kind) < MAX_OF_A_KIND,
            Kind::KnownName => names < for_names,
            Kind::NewName => names < for_names && running(kind) < MAX_OF_A_KIND,
        }
    }

    fn queued(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }
}

impl Workers {
    /// Runs `job` on a thread. Fails when no thread runs and none can be started.
    pub fn run(&self, kind: Kind, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        let state = &mut *state;
        state.queues[kind as usize].push_back(Box::new(job));
        if state.idle < state.queued() && state.threads < MAX_THREADS {
            let shared = self.0.clone();
            let spawned = threads::start(c"greenapi-dns", move || shared.work());
            match spawned {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.queues[kind as usize].clear();
                    return Err(error);
                }
                // A running thread will take the job.
                Err(_) => {}
            }
        }
        self.0.work.notify_one();
        Ok(())
    }

    /// The certificates need no thread any more.
    pub fn certificates_are_read(&self) {
        lock(&self.0.state).certificates_read = true;
    }
}

impl Shared {
    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            let Some((job, kind)) = state.next() else {
                state.idle += 1;
                let (woken, timeout) = unpoisoned(self.work.wait_timeout(state, IDLE));
                state = woken;
                state.idle -= 1;
                if timeout.timed_out() && state.queued() == 0 {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            state.running[kind as usize] += 1;
            drop(state);
            job();
            state = lock(&self.state);
            state.running[kind as usize] -= 1;
        }
    }
}

/// Work under way, at most once for each key: callers with the same key share the result.
pub struct SingleFlight<K, V>(Mutex<HashMap<K, Flight<V>>>);

struct Flight<V> {
    began: Instant,
    waiting: Vec<oneshot::Sender<V>>,
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V: Clone> SingleFlight<K, V> {
    /// The channel of the result, the start of the work, and whether the caller is the first, who has
    /// to start the work.
    pub fn join(&self, key: K) -> (oneshot::Receiver<V>, Instant, bool) {
        let (sender, receiver) = oneshot::channel();
        match lock(&self.0).entry(key) {
            Entry::Occupied(mut under_way) => {
                let flight = under_way.get_mut();
                // Cancelled waiters would pile up while the work hangs.
                flight.waiting.retain(|waiting| !waiting.is_closed());
                flight.waiting.push(sender);
                (receiver, flight.began, false)
            }
            Entry::Vacant(first) => {
                let began = Instant::now();
                let waiting = vec![sender];
                first.insert(Flight { began, waiting });
                (receiver, began, true)
            }
        }
    }

    /// Whether anybody waits for the work that is about to begin. If not, it is forgotten, and the
    /// next caller starts it anew.
    pub fn is_wanted(&self, key: &K) -> bool {
        let mut flights = lock(&self.0);
        let wanted = flights
            .get(key)
            .is_some_and(|flight| flight.waiting.iter().any(|waiting| !waiting.is_closed()));
        if !wanted {
            flights.remove(key);
        }
        wanted
    }

    pub fn is_under_way<Q: ?Sized + Hash + Eq>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        lock(&self.0).contains_key(key)
    }

    /// Delivers the result, or the failure to start the work.
    pub fn land(&self, key: &K, value: &V) {
        let flight = lock(&self.0).remove(key);
        for waiting in flight.into_iter().flat_map(|flight| flight.waiting) {
            // A cancelled waiter has dropped its receiver.
            let _ = waiting.send(value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use Kind::{Certificates, KnownName, NewName};

    #[test]
    fn who_gets_a_thread_while_what_runs_hangs() {
        const READ: bool = true;
        for (read, hangs, later, runs) in [
            (!READ, [KnownName; 4], Certificates, true),
            (!READ, [NewName; 4], Certificates, true),
            (
                !READ,
                [NewName, KnownName, NewName, NewName],
                Certificates,
                true,
            ),
            (!READ, [Certificates; 4], KnownName, true),
            (!READ, [Certificates; 4], NewName, true),
            (!READ, [NewName; 4], KnownName, false),
            (READ, [NewName; 4], KnownName, true),
            (READ, [NewName; 4], Certificates, true),
            (READ, [KnownName; 4], Certificates, false),
        ] {
            let mut state = State {
                certificates_read: read,
                ..State::default()
            };
            let mut begin = |kinds: &[Kind]| {
                for kind in kinds {
                    state.queues[*kind as usize].push_back(Box::new(|| {}));
                }
                let before = state.running[later as usize];
                while state.running.iter().sum::<usize>() < MAX_THREADS {
                    let Some((_, kind)) = state.next() else { break };
                    state.running[kind as usize] += 1;
                }
                state.running[later as usize] > before
            };
            begin(&hangs);
            assert_eq!(begin(&[later]), runs, "{later:?} after {hangs:?}, {read}");
        }
    }

    #[test]
    fn what_can_wait_goes_last() {
        let mut state = State::default();
        for kind in [NewName, KnownName, Certificates] {
            state.queues[kind as usize].push_back(Box::new(|| {}));
        }
        let order = std::iter::from_fn(|| state.next()).map(|(_, kind)| kind);
        assert!(order.eq([Certificates, KnownName, NewName]));
    }

    #[test]
    fn names_that_hang_leave_a_thread_to_the_others() {
        let workers = Workers::default();
        workers.certificates_are_read();
        let (tell, told) = mpsc::channel();
        let hanging = Arc::new(Mutex::new(()));
        // Released at the end, so that a failure does not hang.
        let _held = lock(&hanging);
        let run = |kind, hangs: bool| {
            let (tell, hanging) = (tell.clone(), hanging.clone());
            let job = move || {
                tell.send(kind).unwrap_or_default();
                drop(hangs.then(|| lock(&hanging)));
            };
            workers.run(kind, job).unwrap();
        };
        // Only a failure takes as long as this.
        let next = || told.recv_timeout(Duration::from_secs(20));
        for _ in 0..4 {
            run(NewName, true);
        }
        assert_eq!([next(), next()], [Ok(NewName); 2]);
        for kind in [KnownName, Certificates] {
            run(kind, false);
            assert_eq!(next(), Ok(kind));
        }
    }
}
