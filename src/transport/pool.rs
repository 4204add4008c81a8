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
const SWEEP: Duration = Duration::from_secs(2);

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
    pub fn origin(&self, endpoint: &Endpoint) -> Arc<Origin> {
        let key = (endpoint.tls, endpoint.host.clone(), endpoint.port);
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
                if !state.connecting {
                    // It may turn out to be shared, so the others wait for it.
                    state.connecting = true;
                    connecting = Some(ConnectingGuard(origin));
                    break true;
                }
            }
            settled.await;
        };
        // In a box of its own: it is large, and a call that finds a kept connection needs none of it.
        let connected = Box::pin(connector.connect(endpoint, route, offer_http2)).await?;
        if connected.http2 {
            let shared = Arc::new(Box::pin(http2::Connection::new(connected.io)).await?);
            origin.lock().http2 = Some(shared.clone());
            self.start_sweeping();
            drop(connecting);
            return Ok(Lease::Http2(shared));
        }
        origin.lock().http1 = true;
        drop(connecting);
        Ok(Lease::Http1(http1::Connection::new(connected.io)))
    }

    /// Takes back a connection that can serve another request.
    pub fn keep(self: &Arc<Self>, origin: &Origin, connection: http1::Connection) {
        origin.lock().idle.push((connection, Instant::now()));
        self.start_sweeping();
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
        let mut origins = lock(&pool.origins);
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
            pool.sweeping.store(false, Ordering::Relaxed);
            return;
        }
    }
}
