//! From a request to its response: a connection, the exchange over it, and what its end means.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect::Connector;
use super::dns::Resolver;
use super::pool::{Lease, Pool, RetireGuard};
use super::proxy::{Kind, Proxies, Proxy, Route};
use super::reading::{Reader, StreamedResponse};
use super::reasons::shorten;
use super::request::Request;
use super::tls::{Tls, Trust};
use super::{CallState, Ended, Response};
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Stage};
use crate::memory;
use crate::secret::Secret;

/// The connections of a client, or of all clients whose options do not affect connections.
pub struct Transport {
    connector: Connector,
    /// The logins of proxies.
    secrets: Vec<Secret>,
    proxies: Proxies,
    connect_timeout: Duration,
    pool: Arc<Pool>,
    reader: Reader,
}

impl Transport {
    pub fn new(
        resolver: Resolver,
        trust: Trust,
        proxies: Proxies,
        connect_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            connector: Connector {
                tls: Tls::new(trust, resolver.workers().clone()),
                resolver,
            },
            secrets: proxies.secrets(),
            proxies,
            connect_timeout,
            pool: Arc::default(),
            reader: Reader::default(),
        })
    }

    /// Whether a transport with these would make the same connections.
    pub fn is_alike(&self, trust: &Trust, proxies: &Proxies) -> bool {
        self.connector.tls.trust() == trust && self.proxies == *proxies
    }

    /// The secrets that no message may show, beside those of the request.
    pub fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Sends `request` and reads its response. `not_before`: over a connection made since then,
    /// because an older one was dead and others as old may be too.
    pub async fn exchange(
        &self,
        request: &Request<'_>,
        call: &impl CallState,
        mut not_before: Option<Instant>,
    ) -> Result<Response, Failure> {
        let endpoint = request.endpoint();
        let origin = self.pool.origin(endpoint);
        let route = self.proxies.route(endpoint)?;
        let mut repeated = false;
        loop {
            memory::check_request()?;
            let lease = tokio::time::timeout(
                self.connect_timeout,
                self.pool
                    .lease(&origin, endpoint, &route, &self.connector, not_before),
            )
            .await
            .unwrap_or_else(|_| {
                let slow_look_up = self.slow_look_up(endpoint, self.connect_timeout);
                Err(slow_look_up.unwrap_or_else(|| {
                    Failure::new(
                        Stage::Connect,
                        format!(
                            "no connection to {} port {} within {} ms",
                            shorten(&endpoint.host),
                            endpoint.port,
                            self.connect_timeout.as_millis()
                        ),
                    )
                }))
            })?;
            memory::check_request()?;
            let (ended, kept) = match lease {
                Lease::Http1(mut connection) => {
                    let kept = connection.kept;
                    let message = match &route {
                        Route::Proxy(
                            proxy @ Proxy {
                                kind: Kind::Http | Kind::Https,
                                ..
                            },
                        ) if !endpoint.tls => request.for_proxy(proxy),
                        _ => request.http1(),
                    };
                    let ended = connection.exchange(&message, call).await;
                    if let Ended::Answered(_, true) = ended {
                        self.pool.keep(&origin, connection);
                    }
                    (ended, kept)
                }
                Lease::Http2(connection) => {
                    let kept = connection.was_kept();
                    let mut guard = RetireGuard {
                        origin: &origin,
                        connection: &connection,
                        call,
                        done: false,
                    };
                    let ended = Box::pin(connection.exchange(request, call)).await;
                    // A server that refuses a stream goes on with the others.
                    guard.done = matches!(ended, Ended::Answered(_, true) | Ended::Unprocessed(_));
                    if connection.wants_http1() {
                        origin.avoid_http2();
                    }
                    (ended, kept)
                }
            };
            return match ended {
                Ended::Answered(response, _) => Ok(Response { kept, ..response }),
                Ended::Unsent(_) if kept && !repeated && !call.is_cancelled() => {
                    repeated = true;
                    not_before = Some(Instant::now());
                    continue;
                }
                Ended::Unsent(reason) => Err(Failure::new(Stage::Connect, reason)),
                Ended::Unprocessed(reason) => Err(Failure::new(Stage::Unprocessed, reason)),
                Ended::ClientRefused(reason) => Err(Failure::new(Stage::ClientCertificate, reason)),
                Ended::Lost {
                    reason,
                    again_at_once,
                } => Err(Failure::new(Stage::Lost { again_at_once }, reason)),
            };
        }
    }

    /// The failure of a call that got no connection within `limit`, if it is the look-up of a name
    /// that takes so long.
    pub fn slow_look_up(&self, endpoint: &Endpoint, limit: Duration) -> Option<Failure> {
        let route = self.proxies.route(endpoint).ok()?;
        let resolver = &self.connector.resolver;
        resolver.too_slow(route.dialled(endpoint), limit)
    }

    /// Sends a GET for `path` (which holds a secret) to `endpoint`.
    pub async fn read(
        &self,
        endpoint: &Endpoint,
        path: &str,
        user_agent: &str,
    ) -> Result<StreamedResponse, Failure> {
        memory::check_request()?;
        let way = || {
            Ok((
                self.proxies.route(endpoint)?,
                &self.connector,
                self.connect_timeout,
            ))
        };
        self.reader.read(endpoint, path, user_agent, way).await
    }
}
