//! Sends the requests other than deletions (the list, a state, a logout) with reqwest.
//!
//! These requests delete nothing, so whether a byte was sent does not matter, and a general HTTP
//! client is good enough. reqwest is configured to use this library's certificates, DNS look-ups
//! and route, and to follow no redirects, keep no cookies, send no referers and make no retries.
//! Its error texts contain URLs, which contain secrets, so errors are translated and their texts
//! never shown.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use reqwest::dns::{Name, Resolve, Resolving};
use url::Host;

use super::connect::Connector;
use super::dns::Resolver;
use super::proxy::{Kind, Route};
use super::reasons::{describe, shorten};
use super::tls::{explain_tls, Tls};
use super::KEEP;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Stage};
use crate::process::is_exhaustion;
use crate::sync::lock;

/// A response whose body is yet to be read, in pieces.
pub struct StreamedResponse {
    pub http_status: u16,
    pub retry_after: Option<String>,
    response: reqwest::Response,
    /// Names the server in the message when the response breaks off.
    way: Way,
}

/// How a server is reached.
#[derive(Clone)]
struct Way {
    client: reqwest::Client,
    server: Endpoint,
    /// Host and port of the proxy, if there is one.
    proxy: Option<String>,
    dialled: Host,
    resolver: Resolver,
    connect_timeout: Duration,
}

impl StreamedResponse {
    /// The next piece of the body; `None` at its end.
    pub async fn chunk(&mut self) -> Result<Option<bytes::Bytes>, Failure> {
        let chunk = self.response.chunk().await;
        chunk.map_err(|error| translate(&self.way, &error))
    }
}

/// The number of servers whose clients are kept; each client takes 16 KB and its connections.
const SERVERS: usize = 16;

/// The reqwest clients of a transport: one for each server, because the route depends on the
/// server.
#[derive(Default)]
pub struct Reader(Mutex<Vec<Way>>);

/// The client for the server of `endpoint`; the endpoint's path prefix does not matter.
fn find(ways: &[Way], endpoint: &Endpoint) -> Option<Way> {
    let origin = |one: &Endpoint| (one.tls, one.host.clone(), one.port);
    let wanted = origin(endpoint);
    ways.iter()
        .find(|way| origin(&way.server) == wanted)
        .cloned()
}

impl Reader {
    /// Sends a GET for `path` (which contains a secret) to `endpoint`. `way` says how connections
    /// to the endpoint are made.
    pub async fn read<'a>(
        &self,
        endpoint: &Endpoint,
        path: &str,
        user_agent: &str,
        way: impl FnOnce() -> Result<(Route, &'a Connector, Duration), Failure>,
    ) -> Result<StreamedResponse, Failure> {
        let url = format!("{}://{}{path}", endpoint.scheme(), endpoint.authority());
        let way = self.way(endpoint, way).await?;
        let response = way
            .client
            .get(url)
            .header("accept", "application/json")
            .header("user-agent", user_agent)
            .send()
            .await
            .map_err(|error| translate(&way, &error))?;
        Ok(StreamedResponse {
            http_status: response.status().as_u16(),
            retry_after: response
                .headers()
                .get("retry-after")
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
            response,
            way,
        })
    }

    async fn way<'a>(
        &self,
        endpoint: &Endpoint,
        way: impl FnOnce() -> Result<(Route, &'a Connector, Duration), Failure>,
    ) -> Result<Way, Failure> {
        if let Some(way) = find(&lock(&self.0), endpoint) {
            return Ok(way);
        }
        let (route, connector, connect_timeout) = way()?;
        let proxy = match &route {
            Route::Direct => None,
            Route::Proxy(proxy) => Some(format!("{} port {}", shorten(&proxy.host), proxy.port)),
        };
        let way = Way {
            dialled: route.dialled(endpoint).clone(),
            resolver: connector.resolver.clone(),
            connect_timeout,
            client: make_client(endpoint, route, connector, connect_timeout).await?,
            server: endpoint.clone(),
            proxy,
        };
        let mut ways = lock(&self.0);
        // Another call may have made the client meanwhile.
        if let Some(way) = find(&ways, endpoint) {
            return Ok(way);
        }
        if ways.len() == SERVERS {
            ways.remove(0);
        }
        ways.push(way.clone());
        Ok(way)
    }
}

async fn make_client(
    endpoint: &Endpoint,
    route: Route,
    connector: &Connector,
    connect_timeout: Duration,
) -> Result<reqwest::Client, Failure> {
    let unusable = |_| Failure::new(Stage::Connect, "the request cannot be prepared");
    let tls =
        match endpoint.tls || matches!(&route, Route::Proxy(proxy) if proxy.kind == Kind::Https) {
            true => connector.tls.config().await?,
            false => Tls::trusting_nobody()?,
        };
    let mut tls = rustls::ClientConfig::clone(&tls);
    // HTTP/1.1 is enough for these rare requests, and reqwest's HTTP/2 would make the library
    // larger.
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(KEEP)
        .dns_resolver(Arc::new(SharedResolver(connector.resolver.clone())))
        .no_proxy();
    if let Route::Proxy(proxy) = route {
        let scheme = match proxy.kind {
            Kind::Http => "http",
            Kind::Https => "https",
            Kind::Socks5 { remote_dns: false } => "socks5",
            Kind::Socks5 { remote_dns: true } => "socks5h",
        };
        let url = format!("{scheme}://{}:{}", proxy.host, proxy.port);
        let mut way = reqwest::Proxy::all(url).map_err(unusable)?;
        if let Some((user, password)) = &proxy.login {
            way = way.basic_auth(user.expose(), password.expose());
        }
        builder = builder.proxy(way);
    }
    builder.build().map_err(unusable)
}

struct SharedResolver(Resolver);

/// Carries the failure of a look-up through reqwest's error type.
#[derive(Debug)]
struct LookUpFailed(Failure);

impl fmt::Display for LookUpFailed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.reason)
    }
}

impl std::error::Error for LookUpFailed {}

impl Resolve for SharedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.0.clone();
        async move {
            let found = resolver.look_up(name.as_str()).await;
            let addresses = found.map_err(LookUpFailed)?;
            let addresses: Vec<_> = addresses
                .into_iter()
                .map(|ip| SocketAddr::new(ip, 0))
                .collect();
            Ok(Box::new(addresses.into_iter()) as reqwest::dns::Addrs)
        }
        .boxed()
    }
}

/// Translates an error by its innermost cause. The texts of reqwest's errors are not used, because
/// they may contain the URL.
fn translate(way: &Way, error: &reqwest::Error) -> Failure {
    let mut cause = error.source();
    let mut deepest_io = None;
    while let Some(current) = cause {
        if let Some(failure) = current.downcast_ref::<LookUpFailed>() {
            return at_the_proxy(way, failure.0.clone());
        }
        if let Some(tls) = current.downcast_ref::<rustls::Error>() {
            return explain_tls(&way.server.host, tls);
        }
        if let Some(failure) = refusal_of_a_proxy(current) {
            return failure;
        }
        let io = current.downcast_ref::<io::Error>();
        deepest_io = io.or(deepest_io);
        // io::Error::source() skips the wrapped error and gives the wrapped error's source.
        cause = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    if let Some(io) = deepest_io.filter(|io| is_exhaustion(io)) {
        return Failure::new(Stage::Resources, describe(io));
    }
    let server = format!("{} port {}", shorten(&way.server.host), way.server.port);
    if !error.is_connect() {
        let why = deepest_io.map_or_else(|| "it broke".into(), describe);
        let stage = Stage::Lost {
            again_at_once: false,
        };
        return Failure::new(stage, format!("{server}: {why}"));
    }
    if error.is_timeout() {
        let too_slow = way.resolver.too_slow(&way.dialled, way.connect_timeout);
        if let Some(failure) = too_slow {
            return at_the_proxy(way, failure);
        }
    }
    let target = way.proxy.as_ref().unwrap_or(&server);
    let reason = match deepest_io {
        Some(io) => format!("{target}: {}", describe(io)),
        None if error.is_timeout() => format!("no connection to {target} in time"),
        None => format!("{target} broke the connection"),
    };
    at_the_proxy(way, Failure::new(Stage::Connect, reason))
}

fn at_the_proxy(way: &Way, failure: Failure) -> Failure {
    match way.proxy {
        None => failure,
        Some(_) => Failure {
            reason: format!("at the proxy: {}", failure.reason),
            ..failure
        },
    }
}

/// Recognises a refusal by a proxy. reqwest does not expose the kinds of these errors, so they are
/// recognised by their texts, which are constants.
fn refusal_of_a_proxy(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    const LOGIN: &str = "the proxy wants a user and password, or refuses those in its URL";
    let text = error.to_string();
    let kinds = [
        ("proxy authorization required", Stage::Proxy, LOGIN),
        ("credentials not accepted", Stage::Proxy, LOGIN),
        (
            "does not support user/pass authentication",
            Stage::Proxy,
            LOGIN,
        ),
        (
            "tunnel error: unsuccessful",
            Stage::Connect,
            "the proxy refused the tunnel",
        ),
    ];
    let (_, stage, reason) = kinds.into_iter().find(|(end, ..)| text.ends_with(end))?;
    Some(Failure::new(stage, reason))
}
