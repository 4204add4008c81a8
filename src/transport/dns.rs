//! Names to addresses, by the system's own resolver, so that hosts files and local services work
//! as everywhere else on the machine.
//!
//! `getaddrinfo` blocks without a limit, so it runs on [`Workers`]. Calls that need the same name at
//! once share one look-up, and one that all callers gave up on before it began is left out. A look-up
//! that hangs does not stop names that have resolved before: they go ahead, and after a second their
//! last addresses are used.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use url::Host;

use super::reasons::{describe, shorten};
use super::workers::{Kind, SingleFlight, Workers};
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

    /// The failure of a call that waited `limit` for a connection to `host`, if what it waited for
    /// is the look-up.
    pub fn too_slow(&self, host: &Host, limit: Duration) -> Option<Failure> {
        let Host::Domain(name) = host else {
            return None;
        };
        if !self.shared.under_way.is_under_way(name.as_str())
            || lock(&self.shared.last).contains_key(name)
        {
            return None;
        }
        let (name, limit) = (shorten(name), limit.as_millis());
        let reason = format!("the name {name} could not be looked up within {limit} ms");
        Some(Failure::new(Stage::Connect, reason).advise("Check the name and the name servers"))
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
            let job = move || {
                if shared.under_way.is_wanted(&owned) {
                    shared.land(owned.clone(), resolve(&owned));
                }
            };
            let kind = match last {
                Some(_) => Kind::KnownName,
                None => Kind::NewName,
            };
            if let Err(error) = self.workers.run(kind, job) {
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
        let (stage, found) = match process::is_exhaustion(&error) || lacks_resources() {
            true => (Stage::Resources, "looked up"),
            false => (Stage::Connect, "found"),
        };
        // The text is the system's own (gai_strerror).
        let (name, text) = (shorten(&name), error.to_string());
        let why = text.trim_start_matches("failed to lookup address information: ");
        let reason = format!("the name {name} could not be {found} ({why})");
        Failure::new(stage, reason)
    };
    let addresses: Vec<IpAddr> = (name, 0)
        .to_socket_addrs()
        .map_err(fail)?
        .map(|address| address.ip())
        .collect();
    Ok(addresses)
}

/// Whether this process has no memory or no descriptor left, without which the system's resolver says
/// that the name is unknown: it cannot open the hosts file, or a socket.
fn lacks_resources() -> bool {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None);
    !memory::has_some() || socket.is_err_and(|error| process::is_exhaustion(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::{join, FutureExt};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::{Condvar, MutexGuard};
    use std::time::Instant;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    /// Names that hang while they are in here.
    static HANGING: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    static RELEASED: Condvar = Condvar::new();

    fn hanging() -> MutexGuard<'static, Vec<&'static str>> {
        lock(&HANGING)
    }

    /// The names that were looked up.
    static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn run(body: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(body);
    }

    /// The names that hang while this exists.
    struct Hang(&'static [&'static str]);

    impl Hang {
        fn new(names: &'static [&'static str]) -> Self {
            hanging().extend(names);
            Self(names)
        }
    }

    impl Drop for Hang {
        fn drop(&mut self) {
            hanging().retain(|name| !self.0.contains(name));
            RELEASED.notify_all();
        }
    }

    /// The system's resolver, as one whose servers do not answer for some names.
    fn stubborn(name: &str) -> Reply {
        lock(&ASKED).push(name.to_owned());
        let mut hanging = hanging();
        while hanging.contains(&name) {
            hanging = crate::sync::unpoisoned(RELEASED.wait(hanging));
        }
        Ok(vec![ADDRESS])
    }

    #[test]
    fn names_that_hang_do_not_stop_those_that_resolved_before() {
        run(async {
            let resolver = Resolver::default();
            // One that waits for a name that hangs fails the test instead of hanging it.
            let look_up = |name| {
                let reply = resolver.look_up_by(name, stubborn);
                async { tokio::time::timeout(60 * PATIENCE, reply).await.unwrap() }
            };
            for name in ["good", "turns"] {
                assert_eq!(look_up(name).await.unwrap(), [ADDRESS]);
            }
            let hang = Hang::new(&["hangs", "hangs too", "turns"]);
            let stuck = async { tokio::join!(look_up("hangs"), look_up("hangs too")) };
            let others = async {
                let began = Instant::now();
                assert_eq!(look_up("good").await.unwrap(), [ADDRESS]);
                // Not even a name that has turned bad: its last addresses do.
                assert_eq!(look_up("turns").await.unwrap(), [ADDRESS]);
                assert!(began.elapsed() >= PATIENCE);
                assert_eq!(look_up("turns").await.unwrap(), [ADDRESS]);
                drop(hang);
            };
            let (stuck, ()) = tokio::join!(stuck, others);
            assert!(stuck.0.is_ok() && stuck.1.is_ok());
        });
    }

    #[test]
    fn a_name_that_nobody_waits_for_any_more_is_not_looked_up() {
        run(async {
            let resolver = Resolver::default();
            let look_up = |name| resolver.look_up_by(name, stubborn);
            let hang = Hang::new(&["slow", "slow too"]);
            let mut slow = pin!(join(look_up("slow"), look_up("slow too")));
            assert!(slow.as_mut().now_or_never().is_none());
            for name in ["given up", "given up too", "shared"] {
                assert!(look_up(name).now_or_never().is_none());
            }
            let mut wanted = pin!(join(look_up("shared"), look_up("wanted")));
            assert!(wanted.as_mut().now_or_never().is_none());
            drop(hang);
            let (shared, wanted) = wanted.await;
            assert!(shared.is_ok() && wanted.is_ok());
            let (slow, slow_too) = slow.await;
            assert!(slow.is_ok() && slow_too.is_ok());
            let asked = |name: &str| lock(&ASKED).iter().any(|asked| asked == name);
            assert!(asked("shared") && asked("wanted"));
            assert!(!asked("given up") && !asked("given up too"));
            // A later call looks it up after all.
            assert_eq!(look_up("given up").await.unwrap(), [ADDRESS]);
        });
    }

    #[test]
    fn a_message_blames_the_look_up_if_that_took_the_time() {
        run(async {
            let resolver = Resolver::default();
            let limit = Duration::from_millis(300);
            let host = Host::Domain("unanswered".to_owned());
            let too_slow = || {
                resolver
                    .too_slow(&host, limit)
                    .map(|failure| failure.reason)
            };
            assert_eq!(too_slow(), None);
            let hang = Hang::new(&["unanswered"]);
            let mut waiting = pin!(resolver.look_up_by("unanswered", stubborn));
            assert!(waiting.as_mut().now_or_never().is_none());
            assert_eq!(
                too_slow().unwrap(),
                "the name unanswered could not be looked up within 300 ms"
            );
            drop(hang);
            assert_eq!(waiting.await.unwrap(), [ADDRESS]);
            // Its last addresses are used while it is looked up again.
            let _hang = Hang::new(&["unanswered"]);
            let mut again = pin!(resolver.look_up_by("unanswered", stubborn));
            assert!(again.as_mut().now_or_never().is_none());
            assert_eq!(too_slow(), None);
        });
    }
}
