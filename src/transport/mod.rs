//! One request out, one answer back, over connections that are kept.
//!
//! Whatever goes wrong here is reported by *how far it got* ([`Stage`]): the retries and the
//! status table rest on knowing whether a byte of the request can have left. The [`Gate`] is where
//! that is noted, at the moment before the first byte.
//!
//! reqwest would do most of this, and does it for what only reads ([`reading`]). The deletion has
//! its own exchange because of what a general client does not give: the fact whether a byte left,
//! on both protocols and at every moment, and 10,000 connections in some dozen megabytes.

mod connect;
mod dns;
mod http1;
mod http2;
mod proxy;
mod reading;
mod tls;

use std::collections::hash_map::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use url::Host;

pub use dns::Resolver;
pub use proxy::Proxies;
pub use reading::Page;
pub use tls::Trust;

use crate::answer::Body;
use crate::endpoint::Endpoint;
use crate::retry::{Failure, Stage};
use proxy::{Kind, Proxy, Route};

/// A kept connection that has not been used for so long is closed.
const KEEP: Duration = Duration::from_secs(60);
/// How soon a connection is closed that the server has closed.
const SWEEP: Duration = Duration::from_secs(2);

/// Where the moment is noted from which a request may have been sent.
pub trait Gate: Sync {
    /// The first byte is about to be written. False: the call is over, and nothing may be.
    fn open(&self) -> bool;
    /// Not one byte was written after all.
    fn shut(&self);
    /// Whether the caller cancelled the call.
    fn is_cancelled(&self) -> bool;
}

/// A request, in the forms that the protocols want.
pub struct Request<'a> {
    pub endpoint: &'a Endpoint,
    /// The whole message of HTTP/1.1, with the path in its first line.
    pub http1: &'a [u8],
    /// Prefix, token and all.
    pub path: &'a str,
    pub user_agent: &'a str,
    pub body: &'a [u8],
}

impl Request<'_> {
    fn http2_head(&self) -> Result<http::Request<()>, http::Error> {
        http::Request::post(format!(
            "{}://{}{}",
            self.endpoint.scheme(),
            self.endpoint.authority(),
            self.path
        ))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", self.user_agent)
        .header("content-length", self.body.len())
        .body(())
    }

    /// The message as an HTTP proxy wants it: with the whole URL in its first line.
    fn for_proxy(&self, proxy: &Proxy) -> Vec<u8> {
        let origin = format!("{}://{}", self.endpoint.scheme(), self.endpoint.authority());
        let line_end = self
            .http1
            .windows(2)
            .position(|two| two == b"\r\n")
            .map_or(self.http1.len(), |position| position + 2);
        let (line, rest) = self.http1.split_at(line_end);
        let target = line
            .iter()
            .position(|byte| *byte == b' ')
            .map_or(0, |space| space + 1);
        let (method, target) = line.split_at(target);
        [
            method,
            origin.as_bytes(),
            target,
            connect::authorization(proxy).as_bytes(),
            rest,
        ]
        .concat()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// 0 where the answer was not HTTP.
    pub http_status: u16,
    pub retry_after: Option<String>,
    pub body: Received,
}

/// A body, as far as it could be read.
#[derive(Debug)]
pub enum Received {
    Whole(Vec<u8>),
    Unreadable(&'static str),
}

impl Received {
    const TOO_LARGE: Self = Self::Unreadable("its answer is larger than 64 KiB");

    pub fn body(&self) -> Body<'_> {
        match self {
            Self::Whole(bytes) => Body::Whole(bytes),
            Self::Unreadable(reason) => Body::Unreadable(reason),
        }
    }
}

/// How one request over one connection ended.
enum Ended {
    /// And whether the connection can serve another.
    Answered(Answer, bool),
    /// Not one byte of the request left.
    Unsent(String),
    /// It left, and the server said that it has not looked at it.
    Unprocessed(String),
    /// `silent`: without one byte of an answer.
    Lost { reason: String, silent: bool },
}

/// The connections of a client, or of all that have nothing to differ in.
pub struct Transport {
    resolver: Resolver,
    tls: tls::Tls,
    proxies: Proxies,
    connect_timeout: Duration,
    origins: Mutex<HashMap<(bool, Host, u16), Arc<Origin>>>,
    sweeping: AtomicBool,
    readers: reading::Readers,
}

/// The kept connections to one server.
#[derive(Default)]
struct Origin {
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
    connecting: bool,
}

impl Origin {
    fn lock(&self) -> MutexGuard<'_, OriginState> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

enum Lease {
    Http1(http1::Connection),
    Http2(Arc<http2::Connection>),
}

impl Transport {
    pub fn new(
        resolver: Resolver,
        trust: Trust,
        proxies: Proxies,
        connect_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            resolver,
            tls: tls::Tls::new(trust),
            proxies,
            connect_timeout,
            origins: Mutex::default(),
            sweeping: AtomicBool::new(false),
            readers: reading::Readers::default(),
        })
    }

    /// Sends `request` and reads its answer. `not_before`: over a connection that was made since,
    /// because one has been found dead and its like may be too.
    pub async fn exchange(
        self: &Arc<Self>,
        request: &Request<'_>,
        gate: &impl Gate,
        mut not_before: Option<Instant>,
    ) -> Result<Answer, Failure> {
        let origin = self.origin(request.endpoint);
        let route = self.route(request.endpoint)?;
        let mut repeated = false;
        loop {
            let lease = tokio::time::timeout(
                self.connect_timeout,
                self.lease(&origin, request.endpoint, &route, not_before),
            )
            .await
            .unwrap_or_else(|_| {
                Err(Failure {
                    stage: Stage::Connect,
                    reason: format!(
                        "no connection to {} within {} ms",
                        request.endpoint.host_and_port(),
                        self.connect_timeout.as_millis()
                    ),
                })
            })?;
            let (ended, kept) = match lease {
                Lease::Http1(mut connection) => {
                    let kept = connection.kept;
                    let ended = match &route {
                        Route::Proxy(
                            proxy @ Proxy {
                                kind: Kind::Http | Kind::Https,
                                ..
                            },
                        ) if !request.endpoint.tls => {
                            connection.exchange(&request.for_proxy(proxy), gate).await
                        }
                        _ => connection.exchange(request.http1, gate).await,
                    };
                    if let Ended::Answered(_, true) = ended {
                        self.keep(&origin, connection);
                    }
                    (ended, kept)
                }
                Lease::Http2(connection) => {
                    let kept = connection.was_kept();
                    let mut guard = RetireUnlessDone {
                        origin: &origin,
                        connection: &connection,
                        gate,
                        done: false,
                    };
                    let ended = Box::pin(connection.exchange(request, gate)).await;
                    guard.done = matches!(ended, Ended::Answered(..));
                    (ended, kept)
                }
            };
            return match ended {
                Ended::Answered(answer, _) => Ok(answer),
                Ended::Unsent(_) if kept && !repeated && !gate.is_cancelled() => {
                    repeated = true;
                    not_before = Some(Instant::now());
                    continue;
                }
                Ended::Unsent(reason) => Err(Failure {
                    stage: Stage::Connect,
                    reason,
                }),
                Ended::Unprocessed(reason) => Err(Failure {
                    stage: Stage::Unprocessed,
                    reason,
                }),
                Ended::Lost { reason, silent } => Err(Failure {
                    stage: Stage::Lost {
                        kept: kept && silent,
                    },
                    reason,
                }),
            };
        }
    }

    fn route(&self, endpoint: &Endpoint) -> Result<Route, Failure> {
        self.proxies.route(endpoint).map_err(|problem| Failure {
            stage: Stage::Connect,
            reason: problem.into(),
        })
    }

    fn origin(&self, endpoint: &Endpoint) -> Arc<Origin> {
        let mut origins = self.origins.lock().unwrap_or_else(|e| e.into_inner());
        let key = (endpoint.tls, endpoint.host.clone(), endpoint.port);
        origins.entry(key).or_default().clone()
    }

    /// A connection: a kept one if there is one that lives, else a new one.
    async fn lease(
        self: &Arc<Self>,
        origin: &Arc<Origin>,
        endpoint: &Endpoint,
        route: &Route,
        not_before: Option<Instant>,
    ) -> Result<Lease, Failure> {
        let mut settle = None;
        loop {
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
                if !endpoint.tls || state.http1 {
                    break;
                }
                if !state.connecting {
                    // It may turn out to be shared, so the others wait for it.
                    state.connecting = true;
                    settle = Some(Settle(origin));
                    break;
                }
            }
            settled.await;
        }
        // In a box of its own: it is large, and a call that finds a kept connection needs none of it.
        let connect = connect::connect(endpoint, route, &self.resolver, &self.tls);
        let connected = Box::pin(connect).await?;
        if connected.http2 {
            let shared = Arc::new(Box::pin(http2::Connection::new(connected.io)).await?);
            origin.lock().http2 = Some(shared.clone());
            self.start_sweeping();
            drop(settle);
            return Ok(Lease::Http2(shared));
        }
        origin.lock().http1 = true;
        drop(settle);
        Ok(Lease::Http1(http1::Connection::new(connected.io)))
    }

    fn keep(self: &Arc<Self>, origin: &Origin, connection: http1::Connection) {
        origin.lock().idle.push((connection, Instant::now()));
        self.start_sweeping();
    }

    fn start_sweeping(self: &Arc<Self>) {
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }
}

/// Lets the next one connect, also when this one is cancelled.
struct Settle<'a>(&'a Origin);

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.0.lock().connecting = false;
        self.0.settled.notify_waiters();
    }
}

/// A shared connection on which a request got no answer in time, or was lost, gets no new ones: it
/// may be one that swallows everything. Those that it still serves go on.
struct RetireUnlessDone<'a, G: Gate> {
    origin: &'a Origin,
    connection: &'a Arc<http2::Connection>,
    gate: &'a G,
    done: bool,
}

impl<G: Gate> Drop for RetireUnlessDone<'_, G> {
    fn drop(&mut self) {
        if self.done || self.gate.is_cancelled() {
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
async fn sweep(transport: Weak<Transport>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(transport) = transport.upgrade() else {
            return;
        };
        let mut origins = transport.origins.lock().unwrap_or_else(|e| e.into_inner());
        let mut kept = 0;
        for origin in origins.values() {
            let mut state = origin.lock();
            state
                .idle
                .retain_mut(|(connection, since)| since.elapsed() < KEEP && connection.is_usable());
            state.http2 = state.http2.take().filter(|shared| shared.is_usable());
            kept += state.idle.len() + usize::from(state.http2.is_some());
        }
        origins.retain(|_, origin| {
            let state = origin.lock();
            let unused = state.idle.is_empty() && state.http2.is_none() && !state.connecting;
            !unused || Arc::strong_count(origin) > 1
        });
        if kept == 0 {
            transport.sweeping.store(false, Ordering::Relaxed);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A gate for requests that nobody cancels.
    pub struct OpenGate;

    impl Gate for OpenGate {
        fn open(&self) -> bool {
            true
        }
        fn shut(&self) {}
        fn is_cancelled(&self) -> bool {
            false
        }
    }

    #[test]
    fn an_http_proxy_gets_the_whole_url() {
        let endpoint = Endpoint::parse("http://localhost:8/x", false).unwrap();
        let request = Request {
            endpoint: &endpoint,
            http1: b"POST /x/partner HTTP/1.1\r\nHost: localhost:8\r\n\r\n{}",
            path: "/x/partner",
            user_agent: "",
            body: b"{}",
        };
        let proxies = Proxies::from_option("http://me:pass@proxy:1").unwrap();
        let Ok(Route::Proxy(proxy)) = proxies.route(&endpoint) else {
            panic!("no proxy")
        };
        assert_eq!(
            String::from_utf8(request.for_proxy(&proxy)).unwrap(),
            "POST http://localhost:8/x/partner HTTP/1.1\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\nHost: localhost:8\r\n\r\n{}"
        );
    }
}
