//! Names to addresses, by the system's own resolver, so that hosts files and local services work
//! as everywhere else on the machine.
//!
//! `getaddrinfo` blocks without a limit, so it runs on [`Workers`]. Calls that need the same name at
//! once share one look-up. A look-up that hangs does not stop names that have resolved before: a
//! thread is kept for them, and after a second their last addresses are used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::reasons::{describe, shorten};
use super::workers::{SingleFlight, Workers};
use crate::endpoint::is_localhost;
use crate::failure::{Failure, Stage};
use crate::memory;
use crate::process;
use crate::sync::lock;

/// How long a look-up may take before the last addresses are used.
const PATIENCE: Duration = Duration::from_secs(1);
/// Names whose last addresses are remembered.
const NAMES: usize = 256;

type Reply = Result<Vec<IpAddr>, Failure>;

/// The shared resolver.
#[derive(Clone, Default)]
pub struct Resolver {
    workers: Workers,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    under_way: SingleFlight<String, Reply>,
    last: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl Resolver {
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    pub async fn look_up(&self, name: &str) -> Reply {
        self.look_up_by(name, resolve).await
    }

    async fn look_up_by(&self, name: &str, resolve: fn(&str) -> Reply) -> Reply {
        if is_localhost(name) {
            return Ok(vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]);
        }
        let last = lock(&self.shared.last).get(name).cloned();
        let (reply, began, first) = self.shared.under_way.join(name.to_owned());
        if first {
            let (shared, owned) = (self.shared.clone(), name.to_owned());
            let job = move || shared.land(owned.clone(), resolve(&owned));
            if let Err(error) = self.workers.run(last.is_some(), job) {
                let why = describe(&error);
                let reason = format!("no thread for looking up {name} ({why})");
                let failure = Failure::new(Stage::Resources, reason);
                let under_way = &self.shared.under_way;
                under_way.land(&name.to_owned(), &Err(failure.clone()));
                return Err(failure);
            }
        }
        let abandoned = |_| {
            let reason = format!("the look-up of {name} was abandoned");
            Err(Failure::new(Stage::Connect, reason))
        };
        match last {
            None => reply.await.unwrap_or_else(abandoned),
            Some(addresses) => {
                match tokio::time::timeout_at((began + PATIENCE).into(), reply).await {
                    Ok(reply) => reply.unwrap_or_else(abandoned),
                    Err(_) => Ok(addresses),
                }
            }
        }
    }
}

impl Shared {
    fn land(&self, name: String, reply: Reply) {
        if let Ok(addresses) = &reply {
            let mut last = lock(&self.last);
            if last.len() >= NAMES && !last.contains_key(&name) {
                last.clear();
            }
            last.insert(name.clone(), addresses.clone());
        }
        self.under_way.land(&name, &reply);
    }
}

fn resolve(name: &str) -> Reply {
    if !memory::has_some() {
        // glibc ends the process when it has no memory for its own tables.
        return Err(Failure::new(
            Stage::Resources,
            format!("the system has no memory for looking up {name}"),
        ));
    }
    let fail = |error: io::Error| {
        let stage = match process::is_exhaustion(&error) {
            true => Stage::Resources,
            false => Stage::Connect,
        };
        // The text is the system's own (gai_strerror).
        let (name, text) = (shorten(&name), error.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, MutexGuard};
    use std::time::Instant;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// Names that hang while they are in here.
    static HANGING: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    static RELEASED: Condvar = Condvar::new();

    fn hanging() -> MutexGuard<'static, Vec<&'static str>> {
        lock(&HANGING)
    }

    /// The system's resolver, as one whose servers do not answer for some names.
    fn stubborn(name: &str) -> Reply {
        let mut hanging = hanging();
        while hanging.contains(&name) {
            hanging = crate::sync::unpoisoned(RELEASED.wait(hanging));
        }
        Ok(vec![ADDRESS])
    }

    #[test]
    fn names_that_hang_do_not_stop_those_that_resolved_before() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let resolver = Resolver::default();
            // One that waits for a name that hangs fails the test instead of hanging it.
            let look_up = |name| {
                let reply = resolver.look_up_by(name, stubborn);
                async { tokio::time::timeout(60 * PATIENCE, reply).await.unwrap() }
            };
            for name in ["good", "turns"] {
                assert_eq!(look_up(name).await.unwrap(), [ADDRESS]);
            }
            hanging().extend(["hangs", "hangs too", "turns"]);
            let stuck = async { tokio::join!(look_up("hangs"), look_up("hangs too")) };
            let others = async {
                let began = Instant::now();
                assert_eq!(look_up("good").await.unwrap(), [ADDRESS]);
                // Not even a name that has turned bad: its last addresses do.
                assert_eq!(look_up("turns").await.unwrap(), [ADDRESS]);
                assert!(began.elapsed() >= PATIENCE);
                assert_eq!(look_up("turns").await.unwrap(), [ADDRESS]);
                hanging().clear();
                RELEASED.notify_all();
            };
            let (stuck, ()) = tokio::join!(stuck, others);
            assert!(stuck.0.is_ok() && stuck.1.is_ok());
        });
    }
}
