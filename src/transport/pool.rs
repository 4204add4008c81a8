//! The connections that are kept between requests, one group for each server.

use std::collections::hash_map::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use url::Host;

use super::connect::Connector;
use super::proxy::Route;
use super::{http1, http2, CallState, KEEP};
use crate::endpoint::Endpoint;
use crate::failure::Failure;
use crate::sync::lock;

/// How soon a connection is closed that the server has closed.
const SWEEP: Duration = Duration::from_secs(1);

/// Connections to one server that are kept at rest: as many as calls are under way by default.
const IDLE_LIMIT: usize = 64;

/// More than that may rest for so long: a thousand calls that end at once have a thousand after
/// them that want their connections.
const BETWEEN_CALLS: Duration = Duration::from_millis(500);

/// How long a call waits for another's connection, which it may be able to share.
const PATIENCE: Duration = Duration::from_millis(250);

/// The kept connections of a transport.
#[derive(Default)]
pub struct Pool {
    origins: Mutex<HashMap<(bool, Host, u16), Arc<Origin>>>,
    sweeping: AtomicBool,
}

/// The kept connections to one server.
#[derive(Default)]
pub struct Origin {
    state: Mutex<OriginState>,
    /// A connection was made, or could not be.
    settled: Notify,
}

#[derive(Default)]
struct OriginState {
    idle: Vec<(http1::Connection, Instant)>,
    http2: Option<Arc<http2::Connection>>,
    /// Known to speak HTTP/1.1 only, so that connections need not wait for one another.
    http1: bool,
    /// The server answered HTTP_1_1_REQUIRED: HTTP/2 is not offered to it any more.
    avoid_http2: bool,
    connecting: bool,
}

impl Origin {
    fn lock(&self) -> MutexGuard<'_, OriginState> {
        lock(&self.state)
    }

    pub fn avoid_http2(&self) {
        let mut state = self.lock();
        state.avoid_http2 = true;
        state.http2 = None;
    }
}

/// A connection for one request.
pub enum Lease {
    Http1(http1::Connection),
    Http2(Arc<http2::Connection>),
}

impl Pool {
    pub fn origin(self: &Arc<Self>, endpoint: &Endpoint) -> Arc<Origin> {
        let key = (endpoint.tls, endpoint.host.clone(), endpoint.port);
        // What is in there leaves by sweeping.
        self.start_sweeping();
        lock(&self.origins).entry(key).or_default().clone()
    }

    /// A connection: a kept one if there is one that lives, else a new one. `not_before`: made
    /// since.
    pub async fn lease(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        endpoint: &Endpoint,
        route: &Route,
        connector: &Connector,
        not_before: Option<Instant>,
    ) -> Result<Lease, Failure> {
        let mut connecting = None;
        let mut patient = true;
        let offer_http2 = loop {
            let settled = origin.settled.notified();
            {
                let mut state = origin.lock();
                state.http2 = state.http2.take().filter(|shared| shared.is_usable());
                if let Some(shared) = state
                    .http2
                    .as_ref()
                    .filter(|shared| Some(shared.made) >= not_before)
                {
                    return Ok(Lease::Http2(shared.clone()));
                }
                // The newest first: it is the least likely to have been forgotten on the way.
                while let Some(position) = state.idle.iter().rposition(|(connection, since)| {
                    since.elapsed() < KEEP && Some(connection.made) >= not_before
                }) {
                    let (mut connection, _) = state.idle.remove(position);
                    if connection.is_usable() {
                        return Ok(Lease::Http1(connection));
                    }
                }
                let offer_http2 = !state.avoid_http2;
                if !endpoint.tls || state.http1 || !offer_http2 {
                    break offer_http2;
                }
                if !patient {
                    break true;
                }
                if !state.connecting {
                    // It may turn out to be shared, so the others wait for it.
                    state.connecting = true;
                    connecting = Some(ConnectingGuard(origin));
                    break true;
                }
            }
            patient = tokio::time::timeout(PATIENCE, settled).await.is_ok();
        };
        // In a box of its own: it is large, and a call that finds a kept connection needs none of it.
        let connected = Box::pin(connector.connect(endpoint, route, offer_http2)).await?;
        if connected.http2 {
            let shared = Arc::new(Box::pin(http2::Connection::new(connected.io)).await?);
            origin.lock().http2 = Some(shared.clone());
            drop(connecting);
            return Ok(Lease::Http2(shared));
        }
        origin.lock().http1 = true;
        drop(connecting);
        Ok(Lease::Http1(http1::Connection::new(connected.io)))
    }

    /// Takes back a connection that can serve another request.
    pub fn keep(&self, origin: &Origin, connection: http1::Connection) {
        let mut state = origin.lock();
        // Without memory for one more of very many, the connection is closed.
        if state.idle.try_reserve(1).is_ok() {
            state.idle.push((connection, Instant::now()));
        }
    }

    /// Closes what has not been used for long and forgets the servers of which nothing is left;
    /// how many there are then.
    fn clean(&self) -> usize {
        let mut origins = lock(&self.origins);
        origins.retain(|_, origin| {
            let mut state = origin.lock();
            let mut excess = state.idle.len().saturating_sub(IDLE_LIMIT);
            // The oldest come first.
            state.idle.retain_mut(|(connection, since)| {
                let rests = since.elapsed();
                if excess > 0 && rests > BETWEEN_CALLS {
                    excess -= 1;
                    return false;
                }
                rests < KEEP && connection.is_usable()
            });
            state.http2 = state.http2.take().filter(|shared| shared.is_usable());
            let idle = state.idle.len();
            state.idle.shrink_to(idle);
            let unused = idle == 0 && state.http2.is_none() && !state.connecting;
            !unused || Arc::strong_count(origin) > 1
        });
        let left = origins.len();
        origins.shrink_to(left);
        left
    }

    fn start_sweeping(self: &Arc<Self>) {
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Lets the next call connect, also when this one is cancelled.
struct ConnectingGuard<'a>(&'a Origin);

impl Drop for ConnectingGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().connecting = false;
        self.0.settled.notify_waiters();
    }
}

/// A shared connection on which a request got no answer in time, or was lost, gets no new ones: it
/// may be one that swallows everything. Those that it still serves go on.
pub struct RetireGuard<'a, C: CallState> {
    pub origin: &'a Origin,
    pub connection: &'a Arc<http2::Connection>,
    pub call: &'a C,
    pub done: bool,
}

impl<C: CallState> Drop for RetireGuard<'_, C> {
    fn drop(&mut self) {
        if self.done || self.call.is_cancelled() {
            return;
        }
        let mut state = self.origin.lock();
        if state
            .http2
            .as_ref()
            .is_some_and(|shared| Arc::ptr_eq(shared, self.connection))
        {
            state.http2 = None;
        }
    }
}

/// Closes what has not been used for long, until there is nothing left to close.
async fn sweep(pool: Weak<Pool>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        if pool.clean() == 0 {
            pool.sweeping.store(false, Ordering::Relaxed);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dns::Resolver;
    use super::super::tests::NeverCancelled;
    use super::super::tls::tests::{identity, server, LATER};
    use super::super::tls::{Tls, Trust};
    use super::super::workers::Workers;
    use super::super::{Ended, RequestTemplate};
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    fn run<T>(body: impl std::future::Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(body)
    }

    fn connector(trust: Trust) -> Connector {
        Connector {
            resolver: Resolver::default(),
            tls: Tls::new(trust, Workers::default()),
        }
    }

    async fn listen(scheme: &str) -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://localhost:{port}");
        (listener, Endpoint::parse(&url, false).unwrap())
    }

    #[test]
    fn a_handshake_that_hangs_holds_nobody_else_back() {
        run(async {
            let made = identity("localhost", &["localhost"], LATER, None);
            let connector = connector(Trust::from_pem(&made.pem).unwrap());
            let (listener, endpoint) = listen("https").await;
            let acceptor = server(&made, false, "h2");
            tokio::spawn(async move {
                // The first gets no answer; the others do.
                let _silent = listener.accept().await.unwrap();
                while let Ok((tcp, _)) = listener.accept().await {
                    let acceptor = acceptor.clone();
                    tokio::spawn(async move {
                        let mut stream = acceptor.accept(tcp).await.unwrap();
                        while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                    });
                }
            });
            let pool = Arc::new(Pool::default());
            let origin = pool.origin(&endpoint);
            let lease = || pool.lease(&origin, &endpoint, &Route::Direct, &connector, None);
            let first = async { tokio::time::timeout(Duration::from_secs(5), lease()).await };
            let followers = futures_util::future::join_all((0..10).map(|_| lease()));
            let followers = async {
                let leases = followers.await;
                assert!(leases
                    .iter()
                    .all(|lease| matches!(lease, Ok(Lease::Http2(_)))));
            };
            tokio::select! {
                biased;
                _ = first => panic!("the followers wait as long as the first"),
                () = followers => {}
            }
        });
    }

    #[test]
    fn no_more_connections_are_kept_than_the_limit() {
        run(async {
            let (listener, endpoint) = listen("http").await;
            let open = Arc::new((std::sync::atomic::AtomicUsize::new(0), Notify::new()));
            let counted = open.clone();
            tokio::spawn(async move {
                while let Ok((mut tcp, _)) = listener.accept().await {
                    let open = counted.clone();
                    open.0.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(async move {
                        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                        while tcp.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {
                            tcp.write_all(ANSWER).await.unwrap();
                        }
                        open.0.fetch_sub(1, Ordering::Relaxed);
                        open.1.notify_one();
                    });
                }
            });
            let pool = Arc::new(Pool::default());
            let connector = connector(Trust::default());
            let template = RequestTemplate::new(&endpoint, "/".into(), "me");
            let call = || async {
                let origin = pool.origin(&endpoint);
                let lease = pool.lease(&origin, &endpoint, &Route::Direct, &connector, None);
                let Ok(Lease::Http1(connection)) = lease.await else {
                    panic!("no connection")
                };
                (connection, origin, template.request(b"{}").http1())
            };
            let leases = futures_util::future::join_all((0..100).map(|_| call())).await;
            for (mut connection, origin, message) in leases {
                let ended = connection.exchange(&message, &NeverCancelled).await;
                assert!(matches!(ended, Ended::Answered(_, true)));
                pool.keep(&origin, connection);
            }
            // A burst that follows at once finds them all.
            assert_eq!(pool.clean(), 1);
            let resting = || pool.origin(&endpoint).lock().idle.len();
            assert_eq!(resting(), 100);
            while open.0.load(Ordering::Relaxed) > IDLE_LIMIT {
                open.1.notified().await;
            }
            assert_eq!(resting(), IDLE_LIMIT);
        });
    }
    #[test]
    fn a_server_that_was_never_reached_is_forgotten() {
        run(async {
            let (_listener, endpoint) = listen("http").await;
            let pool = Arc::new(Pool::default());
            let origin = pool.origin(&endpoint);
            assert_eq!(pool.clean(), 1);
            drop(origin);
            assert_eq!(pool.clean(), 0);
        });
    }
}
