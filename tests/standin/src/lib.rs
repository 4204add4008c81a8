//! A local server for tests that answers like GREEN-API's partner interface.
//!
//! The stand-in serves the documented answers on real sockets (HTTP/1.1 and HTTP/2, plain and over
//! TLS) and keeps a ledger of the instances that were really deleted. It makes errors on demand: by
//! rules for single requests ([`Rule`], [`Fault`]), by settings for connections ([`Settings`]), and
//! on ports that always fail in the same way ([`Endpoints::traps`]).
//!
//! Rust tests start the stand-in in their own process:
//!
//! ```
//! use greenapi_standin::{Config, Fault, Rule, Standin, Target};
//!
//! let standin = Standin::start(Config::default())?;
//! standin.add_faults([Rule {
//!     method: Target::Delete,
//!     times: Some(1),
//!     fault: Fault { status: Some(502), ..Fault::default() },
//!     ..Rule::default()
//! }]);
//! println!("delete something at {}", standin.endpoints().https);
//! assert!(standin.ledger().is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Tests in other languages start the program of the same name, read one line of JSON from its
//! output ([`Endpoints`]), and use the control interface described in the README.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod api;
mod control;
mod directory;
mod exchange;
mod fault;
mod h1;
mod http2;
mod proxy;
mod relay;
mod tls;
mod traps;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{mpsc, Arc};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

pub use api::Operation;
pub use fault::{Base64, BodyRepeat, Fault, Rule, Stage, Target, Then};
pub use world::{
    Arrival, Connections, Deleted, Instance, ProxyStats, Requests, Settings, Stats, TlsStats,
    Until, FIRST_ID,
};

use directory::Directory;
use exchange::Exchange;
use proxy::Proxy;
use tls::Acceptors;
use traps::url;
use wire::Wire;
use world::Shared;

/// The default partner token, which obviously is not a real one.
pub const DEFAULT_TOKEN: &str = "gac.0123456789abcdef0123456789abcdef0123456789abcdef01";

/// The number of threads that serve connections.
const WORKERS: usize = 2;

/// How long tasks may take to end when the stand-in ends.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// The configuration of a stand-in.
#[derive(Debug, Clone)]
pub struct Config {
    /// The port of plain HTTP; 0 for any.
    pub port: u16,
    /// The port of HTTPS; 0 for any.
    pub https_port: u16,
    /// The partner token.
    pub token: String,
    /// How many instances exist at the start, from [`FIRST_ID`] on; every other one is authorized.
    pub instances: u32,
    /// Where the certificates are written; `None` for a directory that is removed at the end.
    pub directory: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            port: 0,
            https_port: 0,
            token: DEFAULT_TOKEN.to_owned(),
            instances: 10,
            directory: None,
        }
    }
}

/// The addresses of all listeners, and what clients need to use them.
#[derive(Debug, Clone, Serialize)]
pub struct Endpoints {
    /// The API over plain HTTP.
    pub http: String,
    /// The API over TLS, HTTP/2 or HTTP/1.1 as ALPN chooses.
    pub https: String,
    /// The API over TLS, HTTP/1.1 only.
    pub https_h1: String,
    /// The control interface.
    pub control: String,
    /// The CA of the valid certificates, as PEM.
    pub ca_file: PathBuf,
    /// The partner token.
    pub token: String,
    /// An HTTP proxy.
    pub proxy_http: String,
    /// An HTTP proxy behind TLS.
    pub proxy_https: String,
    /// A SOCKS 5 proxy.
    pub proxy_socks5: String,
    /// The URLs of the traps, by name.
    pub traps: BTreeMap<&'static str, String>,
}

/// A running stand-in. Dropping this value ends the stand-in and all its connections.
pub struct Standin {
    shared: Arc<Shared>,
    endpoints: Endpoints,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: Directory,
}

impl Standin {
    /// Starts a stand-in on its own thread. All listeners are open when this returns.
    pub fn start(config: Config) -> io::Result<Self> {
        // A login shell's limit is usually 1,024, and tests hold more connections open than that.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let directory = Directory::open(config.directory)?;
        let shared = Shared::new(config.token, config.instances);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("standin")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();

        let (stop, stopped) = oneshot::channel();
        let (sender, receiver) = mpsc::channel();
        let opening = {
            let shared = Arc::clone(&shared);
            let ca_directory = directory.path().to_owned();
            async move { open(&shared, config.port, config.https_port, ca_directory).await }
        };
        let thread = std::thread::Builder::new()
            .name("standin".to_owned())
            .spawn(move || run(runtime, opening, &sender, stopped))?;
        let endpoints = receiver
            .recv()
            .map_err(|_| io::Error::other("the stand-in's thread ended"))??;
        Ok(Standin {
            shared,
            endpoints,
            runtime: handle,
            stop: Some(stop),
            thread: Some(thread),
            _directory: directory,
        })
    }

    /// The addresses of all listeners.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// The URL of a trap. Panics if there is no trap of that name.
    pub fn trap(&self, name: &str) -> &str {
        match self.endpoints.traps.get(name) {
            Some(url) => url,
            None => panic!("there is no trap {name:?}"),
        }
    }

    /// The instances that were really deleted, in order.
    pub fn ledger(&self) -> Vec<Deleted> {
        self.shared.ledger()
    }

    /// How many deletion requests each id had, and how many were carried out.
    pub fn requests(&self) -> BTreeMap<i64, Requests> {
        self.shared.requests()
    }

    /// When each complete deletion request arrived.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.shared.arrivals()
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The settings.
    pub fn settings(&self) -> Settings {
        self.shared.settings()
    }

    /// Changes settings.
    pub fn set(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.shared.settings();
        change(&mut settings);
        self.shared.set_settings(settings);
    }

    /// Adds instances. An instance with an existing id replaces the existing one.
    pub fn put_instances(&self, instances: impl IntoIterator<Item = Instance>) {
        self.shared.put_instances(instances);
    }

    /// Adds a range of instances. Without a state, every other one is authorized.
    pub fn fill(&self, first: i64, count: u32, state: Option<&str>) {
        self.shared.put_instances(world::fill(first, count, state));
    }

    /// Removes all instances.
    pub fn clear_instances(&self) {
        self.shared.clear_instances();
    }

    /// Appends rules. The first rule that matches a request is applied to it.
    pub fn add_faults(&self, rules: impl IntoIterator<Item = Rule>) {
        self.shared.append_faults(rules);
    }

    /// Removes all rules.
    pub fn clear_faults(&self) {
        self.shared.clear_faults();
    }

    /// Lets the held requests continue. Returns how many there were.
    pub fn release(&self) -> u64 {
        self.shared.release()
    }

    /// Restores the state at the start, including settings and rules. Held requests are dropped.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Waits until a condition holds. Returns `false` if it does not hold in time.
    pub fn wait(&self, until: &Until, timeout: Duration) -> bool {
        let shared = Arc::clone(&self.shared);
        let until = until.clone();
        self.run(async move { shared.wait(&until, timeout).await })
    }

    /// Waits until `n` complete deletion requests were received.
    pub fn wait_received(&self, n: u64, timeout: Duration) -> bool {
        let until = Until {
            received: Some(n),
            ..Until::default()
        };
        self.wait(&until, timeout)
    }

    /// Waits until the API's listeners have accepted `n` connections.
    pub fn wait_connections(&self, n: u64, timeout: Duration) -> bool {
        let until = Until {
            connections: Some(n),
            ..Until::default()
        };
        self.wait(&until, timeout)
    }

    /// Opens a relay to a loopback address that delays bytes in both directions. Returns its
    /// address.
    pub fn relay(&self, target: SocketAddr, delay: Duration) -> io::Result<SocketAddr> {
        let shared = Arc::clone(&self.shared);
        self.run(async move { relay::open(&shared, target, delay) })
    }

    /// Runs a future on the stand-in's threads and waits for it. The test may itself run inside a
    /// runtime, where `block_on` would panic.
    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.runtime.spawn(async move {
            let _ = sender.send(work.await);
        });
        receiver
            .recv()
            .expect("the runtime lives as long as the stand-in")
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has already ended.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The stand-in's thread: opens the listeners, reports their addresses, and runs until it is
/// stopped.
fn run(
    runtime: Runtime,
    opening: impl Future<Output = io::Result<(Endpoints, traps::Fixtures)>>,
    started: &mpsc::Sender<io::Result<Endpoints>>,
    stopped: oneshot::Receiver<()>,
) {
    match runtime.block_on(opening) {
        Ok((endpoints, fixtures)) => {
            // Both errors mean that the owner of this thread is gone, and are treated as a stop.
            let _ = started.send(Ok(endpoints));
            let _ = runtime.block_on(stopped);
            drop(fixtures);
        }
        Err(error) => {
            let _ = started.send(Err(error));
        }
    }
    runtime.shutdown_timeout(SHUTDOWN);
}

/// Opens every listener.
async fn open(
    shared: &Arc<Shared>,
    port: u16,
    https_port: u16,
    directory: PathBuf,
) -> io::Result<(Endpoints, traps::Fixtures)> {
    let acceptors = Acceptors::make(&directory)?;
    let exchange = Exchange {
        shared: Arc::clone(shared),
        fixed: None,
    };

    let serve_plain = |listener: TcpListener| {
        let exchange = exchange.clone();
        let serve = move |wire| serve_api(wire, None, exchange.clone());
        wire::serve(listener, "http", Arc::clone(shared), serve);
    };
    let serve_tls = |listener: TcpListener, name, acceptor: &TlsAcceptor| {
        let (exchange, acceptor) = (exchange.clone(), acceptor.clone());
        let serve = move |wire| serve_api(wire, Some(acceptor.clone()), exchange.clone());
        wire::serve(listener, name, Arc::clone(shared), serve);
    };
    let listen = |scheme, port| -> io::Result<(String, TcpListener)> {
        let listener = wire::bind(port)?;
        Ok((url(scheme, listener.local_addr()?), listener))
    };

    let (http, listener) = listen("http", port)?;
    serve_plain(listener);
    let (https, listener) = listen("https", https_port)?;
    serve_tls(listener, "https", &acceptors.good);
    let (https_h1, listener) = listen("https", 0)?;
    serve_tls(listener, "https_h1", &acceptors.good_h1);

    let (control, listener) = listen("http", 0)?;
    let controlled = Arc::clone(shared);
    wire::serve(listener, "control", Arc::clone(shared), move |wire| {
        control::serve(wire, Arc::clone(&controlled))
    });

    let proxy = |name| Proxy {
        name,
        shared: Arc::clone(shared),
    };
    let (proxy_http, listener) = listen("http", 0)?;
    let plain = proxy("proxy_http");
    wire::serve(listener, plain.name, Arc::clone(shared), move |wire| {
        let fate = wire.fate();
        plain.clone().serve_http(wire, fate)
    });
    let (proxy_https, listener) = listen("https", 0)?;
    let secure = proxy("proxy_https");
    let acceptor = acceptors.good_h1.clone();
    wire::serve(listener, secure.name, Arc::clone(shared), move |wire| {
        let (secure, acceptor) = (secure.clone(), acceptor.clone());
        async move {
            let fate = wire.fate();
            if let Some(stream) = tls::accept(&acceptor, wire, &secure.shared).await {
                secure.serve_http(stream, fate).await;
            }
        }
    });
    let (proxy_socks5, listener) = listen("socks5h", 0)?;
    let socks = proxy("proxy_socks5");
    wire::serve(listener, socks.name, Arc::clone(shared), move |wire| {
        let fate = wire.fate();
        socks.clone().serve_socks5(wire, fate)
    });

    let (traps, fixtures) = traps::open(shared, &acceptors).await?;
    let endpoints = Endpoints {
        http,
        https,
        https_h1,
        control,
        ca_file: directory.join("ca.pem"),
        token: shared.token.clone(),
        proxy_http,
        proxy_https,
        proxy_socks5,
        traps,
    };
    Ok((endpoints, fixtures))
}

/// Serves the API on a connection, over TLS if there is an acceptor.
async fn serve_api(wire: Wire, acceptor: Option<TlsAcceptor>, exchange: Exchange) {
    let fate = wire.fate();
    let Some(acceptor) = acceptor else {
        return h1::serve(wire, fate, exchange).await;
    };
    let Some(stream) = tls::accept(&acceptor, wire, &exchange.shared).await else {
        return;
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, fate, exchange).await;
    } else {
        h1::serve(stream, fate, exchange).await;
    }
}
