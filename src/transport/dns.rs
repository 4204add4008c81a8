//! Names to addresses, by the system's own resolver, so that hosts files and local services work
//! as everywhere else on the machine.
//!
//! `getaddrinfo` blocks, so it runs on threads of its own: at most two, started when needed, gone
//! when idle. Calls that want the same name at once share one look-up. (Tokio's blocking pool is
//! not used: it aborts the task when the system refuses it a thread, and its size is not ours.)

use std::collections::hash_map::{Entry, HashMap};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::endpoint::is_localhost;
use crate::failure::{Failure, Stage};
use crate::process;
use crate::sync::{lock, unpoisoned};

const MAX_THREADS: usize = 2;
const IDLE: Duration = Duration::from_secs(10);

type Reply = Result<Vec<IpAddr>, Failure>;

/// The shared resolver.
#[derive(Clone, Default)]
pub struct Resolver(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    names: VecDeque<String>,
    waiting: HashMap<String, Vec<oneshot::Sender<Reply>>>,
    threads: usize,
    idle: usize,
}

impl Resolver {
    pub async fn look_up(&self, name: &str) -> Reply {
        if is_localhost(name) {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let (reply, answer) = oneshot::channel();
        self.ask(name, reply)?;
        answer.await.unwrap_or_else(|_| {
            Err(Failure::new(
                Stage::Connect,
                format!("the look-up of {name} was abandoned"),
            ))
        })
    }

    fn ask(&self, name: &str, reply: oneshot::Sender<Reply>) -> Result<(), Failure> {
        let mut state = self.0.lock();
        match state.waiting.entry(name.to_owned()) {
            Entry::Occupied(mut others) => {
                others.get_mut().push(reply);
                return Ok(());
            }
            Entry::Vacant(first) => first.insert(vec![reply]),
        };
        state.names.push_back(name.to_owned());
        if state.idle < state.names.len() && state.threads < MAX_THREADS {
            let shared = self.0.clone();
            match process::spawn("greenapi-dns", move || {
                crate::panics::keep_quiet();
                shared.work();
            }) {
                Ok(_) => state.threads += 1,
                Err(error) if state.threads == 0 => {
                    state.names.pop_back();
                    state.waiting.remove(name);
                    return Err(Failure::new(
                        Stage::Resources,
                        format!("no thread for looking up {name} ({error})"),
                    ));
                }
                // The thread that there is will come to it.
                Err(_) => {}
            }
        }
        self.0.work.notify_one();
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            let Some(name) = state.names.pop_front() else {
                state.idle += 1;
                let (woken, timeout) = unpoisoned(self.work.wait_timeout(state, IDLE));
                state = woken;
                state.idle -= 1;
                if timeout.timed_out() && state.names.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            drop(state);
            let reply = resolve(&name);
            state = self.lock();
            for waiting in state.waiting.remove(&name).unwrap_or_default() {
                // One that was cancelled does not want it any more.
                let _ = waiting.send(reply.clone());
            }
        }
    }
}

fn resolve(name: &str) -> Reply {
    let fail = |error: io::Error| {
        let stage = match process::is_exhaustion(&error) {
            true => Stage::Resources,
            false => Stage::Connect,
        };
        // The text is the system's own (gai_strerror).
        let text = error.to_string();
        let why = text.trim_start_matches("failed to lookup address information: ");
        Failure::new(stage, format!("the name {name} could not be found ({why})"))
    };
    let addresses: Vec<IpAddr> = (name, 0)
        .to_socket_addrs()
        .map_err(fail)?
        .map(|address| address.ip())
        .collect();
    Ok(addresses)
}
