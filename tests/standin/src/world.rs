//! The state behind every listener: instances, ledger, counters, settings, and the gates that
//! tests wait at.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::api::{Answer, Body, Call, Operation};
use crate::fault::{Fault, FaultBook, Rule};

/// The first id of the instances that the stand-in makes by itself.
pub const FIRST_ID: i64 = 1_101_000_001;

/// A client that waits a whole second between two requests may still see them arrive a little
/// closer together; that is the network's doing, not the client's.
const RATE_TOLERANCE: Duration = Duration::from_millis(50);

/// One instance of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// `idInstance`.
    pub id: i64,
    /// `stateInstance`, as free text so that states nobody knows yet can be tried.
    pub state: String,
    /// Whether it is deleted already.
    pub deleted: bool,
    /// The name in the list.
    pub name: String,
    /// `whatsapp`, `telegram` or `v3`.
    pub type_instance: String,
    /// `apiTokenInstance`; `None` for one derived from the id.
    pub api_token: Option<String>,
    /// How long after an accepted logout the state changes.
    pub logout_after_ms: u64,
    /// Whether a logout is answered `{"isLogout":false}` and changes nothing.
    pub refuse_logout: bool,
}

impl Default for Instance {
    fn default() -> Self {
        Instance {
            id: 0,
            state: "notAuthorized".to_owned(),
            deleted: false,
            name: String::new(),
            type_instance: "whatsapp".to_owned(),
            api_token: None,
            logout_after_ms: 0,
            refuse_logout: false,
        }
    }
}

impl Instance {
    /// An instance with this id and state.
    pub fn new(id: i64, state: &str) -> Self {
        Instance {
            id,
            state: state.to_owned(),
            ..Instance::default()
        }
    }

    /// The secret of the instance's own methods.
    pub fn token(&self) -> String {
        self.api_token.clone().unwrap_or_else(|| {
            // Derived rather than stored: a hundred thousand instances stay small.
            let mut digits = fastrand::Rng::with_seed(self.id.unsigned_abs());
            (0..50).map(|_| digits.digit(16)).collect()
        })
    }

    fn listed(&self) -> Listed<'_> {
        Listed {
            id_instance: self.id,
            name: &self.name,
            type_instance: &self.type_instance,
            time_created: "2024-03-06T05:48:17",
            time_deleted: if self.deleted {
                "2024-06-12T15:43:31"
            } else {
                ""
            },
            api_token_instance: self.token(),
            deleted: self.deleted,
            tariff: "PARTNERS",
            is_free: false,
            is_partner: true,
            expiration_date: "2099-01-01T00:00:00",
            is_expired: false,
        }
    }
}

/// One item of the answer to GetInstances.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id_instance: i64,
    name: &'a str,
    type_instance: &'a str,
    time_created: &'static str,
    time_deleted: &'static str,
    api_token_instance: String,
    deleted: bool,
    tariff: &'static str,
    is_free: bool,
    is_partner: bool,
    expiration_date: &'static str,
    is_expired: bool,
}

/// A row of the ledger: an instance that really was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// The instance.
    pub id: i64,
    /// Its state at that moment.
    pub state: String,
    /// The row's number, from 1.
    pub n: u64,
}

/// What happened to the deletion requests for one id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Complete requests received.
    pub received: u64,
    /// Deletions carried out.
    pub carried_out: u64,
}

/// When a complete deletion request arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Arrival {
    /// The instance.
    pub id: i64,
    /// Milliseconds since the stand-in started.
    pub at_ms: u64,
}

/// Connections of one listener.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Accepted so far.
    pub accepted: u64,
    /// Open now.
    pub open: u64,
}

/// What TLS handshakes ended in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsStats {
    /// Handshakes done, by version (`TLSv1_2`, `TLSv1_3`).
    pub versions: BTreeMap<String, u64>,
    /// Handshakes done, by the protocol that ALPN chose (`h2`, `http/1.1`, `none`).
    pub alpn: BTreeMap<String, u64>,
    /// Handshakes that failed.
    pub failed: u64,
}

/// What one proxy was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProxyStats {
    /// Tunnels opened (`CONNECT`, SOCKS).
    pub tunnels: u64,
    /// Requests in absolute form forwarded.
    pub forwarded: u64,
    /// Requests refused for want of the right user and password.
    pub unauthorized: u64,
    /// Requests refused because they lead to another host, or to nobody.
    pub denied: u64,
}

/// The counters of `GET /stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Connections of the three listeners of the API together.
    pub connections: Connections,
    /// Connections of each listener, traps and proxies included.
    pub listeners: BTreeMap<&'static str, Connections>,
    /// Request heads read, by what they ask for.
    pub requests: BTreeMap<Operation, u64>,
    /// Request heads read, by version of HTTP.
    pub http_versions: BTreeMap<&'static str, u64>,
    /// Complete deletion requests received.
    pub received: u64,
    /// Requests held now.
    pub held: u64,
    /// Requests under way now.
    pub in_flight: u64,
    /// The most requests that were under way at once.
    pub in_flight_peak: u64,
    /// Requests that a rule was applied to.
    pub faults: u64,
    /// State and logout requests that came too fast.
    pub rate_violations: u64,
    /// TLS handshakes.
    pub tls: TlsStats,
    /// Each proxy's requests.
    pub proxies: BTreeMap<&'static str, ProxyStats>,
    /// The last request's path before `/partner/…` or `/waInstance…`.
    pub last_prefix: String,
    /// The last request's head as received; for HTTP/2 its fields in the form of HTTP/1.1.
    pub last_head: String,
}

/// What can be changed while the stand-in runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether the partner token may not list: GetInstances answers HTTP 403.
    pub list_forbidden: bool,
    /// HTTP/2 streams at once, for connections accepted from now on.
    pub max_concurrent_streams: u32,
    /// The seed behind the rules' chances.
    pub seed: u64,
    /// Closes a connection without announcing it right after so many answers on it.
    pub close_after_answers: Option<u64>,
    /// Resets a connection right after so many answers on it.
    pub reset_after_answers: Option<u64>,
    /// The time between two requests of the same instance method for one instance.
    pub rate_interval_ms: u64,
    /// The user that the proxies ask for; `None` for nobody.
    pub proxy_user: Option<String>,
    /// The password that goes with it.
    pub proxy_password: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            list_forbidden: false,
            max_concurrent_streams: 128,
            seed: 1,
            close_after_answers: None,
            reset_after_answers: None,
            rate_interval_ms: 1000,
            proxy_user: None,
            proxy_password: None,
        }
    }
}

/// Something to wait for: every number that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Until {
    /// At least so many complete deletion requests received.
    pub received: Option<u64>,
    /// At least so many connections accepted.
    pub connections: Option<u64>,
    /// At most so many connections open.
    pub open: Option<u64>,
    /// At least so many requests held.
    pub held: Option<u64>,
    /// Whose connections: one listener's, instead of the API's three together.
    pub listener: Option<String>,
}

/// The listeners whose connections count as the API's.
const API_LISTENERS: [&str; 3] = ["http", "https", "https_h1"];

struct World {
    instances: BTreeMap<i64, Instance>,
    ledger: Vec<Deleted>,
    requests: BTreeMap<i64, Requests>,
    arrivals: Vec<Arrival>,
    faults: FaultBook,
    settings: Settings,
    stats: Stats,
    /// When each instance method was last let through, for the limit on its rate.
    last_calls: HashMap<(i64, Operation), Instant>,
    /// When accepted logouts take effect.
    logouts_due: HashMap<i64, Instant>,
}

impl World {
    fn new(instances: u32) -> Self {
        let settings = Settings::default();
        World {
            instances: fill(FIRST_ID, instances, None)
                .map(|instance| (instance.id, instance))
                .collect(),
            ledger: Vec::new(),
            requests: BTreeMap::new(),
            arrivals: Vec::new(),
            faults: FaultBook::new(settings.seed),
            settings,
            stats: Stats::default(),
            last_calls: HashMap::new(),
            logouts_due: HashMap::new(),
        }
    }

    fn connections(&self, listener: Option<&str>) -> Connections {
        let names: &[&str] = match &listener {
            Some(name) => std::slice::from_ref(name),
            None => &API_LISTENERS,
        };
        let mut sum = Connections::default();
        for found in names
            .iter()
            .filter_map(|name| self.stats.listeners.get(name))
        {
            sum.accepted += found.accepted;
            sum.open += found.open;
        }
        sum
    }

    fn reached(&self, until: &Until) -> bool {
        let connections = self.connections(until.listener.as_deref());
        until.received.is_none_or(|n| self.stats.received >= n)
            && until.connections.is_none_or(|n| connections.accepted >= n)
            && until.open.is_none_or(|n| connections.open <= n)
            && until.held.is_none_or(|n| self.stats.held >= n)
    }

    /// Whether this instance method may be called now; a call that may is noted.
    fn within_rate(&mut self, id: i64, operation: Operation) -> bool {
        let now = Instant::now();
        let interval = Duration::from_millis(self.settings.rate_interval_ms);
        if let Some(last) = self.last_calls.get(&(id, operation)) {
            if now.duration_since(*last) + RATE_TOLERANCE < interval {
                self.stats.rate_violations += 1;
                return false;
            }
        }
        self.last_calls.insert((id, operation), now);
        true
    }

    /// Brings an instance's state up to date: an accepted logout may have become due.
    fn settle(&mut self, id: i64) {
        if self
            .logouts_due
            .get(&id)
            .is_some_and(|due| *due <= Instant::now())
        {
            self.logouts_due.remove(&id);
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.state = "notAuthorized".to_owned();
            }
        }
    }

    fn delete(&mut self, id: i64, act: bool) -> Answer {
        self.settle(id);
        let Some(instance) = self
            .instances
            .get_mut(&id)
            .filter(|instance| !instance.deleted)
        else {
            return Answer::json(200, r#"{"code":404,"description":"Not found"}"#);
        };
        if act {
            instance.deleted = true;
            self.ledger.push(Deleted {
                id,
                state: instance.state.clone(),
                n: self.ledger.len() as u64 + 1,
            });
            self.requests.entry(id).or_default().carried_out += 1;
        }
        Answer::json(200, r#"{"deleteInstanceAccount":true}"#)
    }

    /// The checks that both instance methods begin with: the instance, or the refusal.
    fn instance_method(
        &mut self,
        id: i64,
        token: &[u8],
        operation: Operation,
    ) -> Result<&Instance, Answer> {
        self.settle(id);
        let right = self
            .instances
            .get(&id)
            .map(|instance| instance.token().as_bytes() == token);
        match right {
            None => Err(Answer::error(403, "Wrong idInstance")),
            Some(false) => Err(Answer::error(401, "Unauthorized")),
            Some(true) if !self.within_rate(id, operation) => {
                Err(Answer::error(429, "Too many requests"))
            }
            Some(true) => Ok(&self.instances[&id]),
        }
    }

    fn state(&mut self, id: i64, token: &[u8]) -> Answer {
        match self.instance_method(id, token, Operation::State) {
            Err(refusal) => refusal,
            // What users reported: a deleted instance answers as if it were starting.
            Ok(instance) if instance.deleted => {
                Answer::json(200, r#"{"stateInstance":"starting"}"#)
            }
            Ok(instance) => Answer::json(
                200,
                serde_json::json!({ "stateInstance": instance.state }).to_string(),
            ),
        }
    }

    fn logout(&mut self, id: i64, token: &[u8], act: bool) -> Answer {
        match self.instance_method(id, token, Operation::Logout) {
            Err(refusal) => refusal,
            Ok(instance) if instance.deleted => Answer::error(400, "Instance is deleted"),
            Ok(instance) if instance.refuse_logout => Answer::json(200, r#"{"isLogout":false}"#),
            Ok(instance) => {
                if act {
                    let due = Instant::now() + Duration::from_millis(instance.logout_after_ms);
                    self.logouts_due.insert(id, due);
                }
                Answer::json(200, r#"{"isLogout":true}"#)
            }
        }
    }
}

/// So many instances from an id on; without a state, every other one is authorized.
pub(crate) fn fill(
    first: i64,
    count: u32,
    state: Option<&str>,
) -> impl Iterator<Item = Instance> + '_ {
    (0..i64::from(count)).map(move |n| {
        let alternating = if n % 2 == 0 {
            "authorized"
        } else {
            "notAuthorized"
        };
        Instance::new(first + n, state.unwrap_or(alternating))
    })
}

/// What held requests watch. Counters, so that no change can be missed between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Gate {
    releases: u64,
    resets: u64,
}

/// The state shared by all listeners and the control interface.
pub(crate) struct Shared {
    pub(crate) token: String,
    initial_instances: u32,
    world: Mutex<World>,
    /// Sent at every event that somebody may wait for.
    tick: watch::Sender<()>,
    gate: watch::Sender<Gate>,
    started: Instant,
}

impl Shared {
    pub(crate) fn new(token: String, instances: u32) -> Arc<Self> {
        Arc::new(Shared {
            token,
            initial_instances: instances,
            world: Mutex::new(World::new(instances)),
            tick: watch::Sender::new(()),
            gate: watch::Sender::new(Gate::default()),
            started: Instant::now(),
        })
    }

    fn world(&self) -> MutexGuard<'_, World> {
        // A handler that panicked leaves counters behind, nothing that could be half-written.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- for the control interface ---

    pub(crate) fn ledger(&self) -> Vec<Deleted> {
        self.world().ledger.clone()
    }

    pub(crate) fn requests(&self) -> BTreeMap<i64, Requests> {
        self.world().requests.clone()
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.world().arrivals.clone()
    }

    pub(crate) fn stats(&self) -> Stats {
        let world = self.world();
        let mut stats = world.stats.clone();
        stats.connections = world.connections(None);
        stats
    }

    pub(crate) fn settings(&self) -> Settings {
        self.world().settings.clone()
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        let mut world = self.world();
        if settings.seed != world.settings.seed {
            world.faults.reseed(settings.seed);
        }
        world.settings = settings;
    }

    pub(crate) fn put_instances(&self, instances: impl IntoIterator<Item = Instance>) {
        let mut world = self.world();
        for instance in instances {
            // What was under way was under way for the one that is replaced.
            world.logouts_due.remove(&instance.id);
            world.instances.insert(instance.id, instance);
        }
    }

    pub(crate) fn clear_instances(&self) {
        self.world().instances.clear();
    }

    pub(crate) fn append_faults(&self, rules: impl IntoIterator<Item = Rule>) {
        self.world().faults.append(rules);
    }

    pub(crate) fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// Lets every held request go on; returns how many there were.
    pub(crate) fn release(&self) -> u64 {
        let held = self.world().stats.held;
        self.gate.send_modify(|gate| gate.releases += 1);
        held
    }

    /// Back to how it was at the start. Held requests are dropped unanswered, because carrying
    /// them out would change the world that was just put right.
    pub(crate) fn reset(&self) {
        let mut world = self.world();
        let before = std::mem::replace(&mut *world, World::new(self.initial_instances));
        // What is there now stays there: open connections, and requests under way.
        world.stats.held = before.stats.held;
        world.stats.in_flight = before.stats.in_flight;
        for (name, connections) in before.stats.listeners {
            let open = connections.open;
            let kept = Connections { accepted: 0, open };
            world.stats.listeners.insert(name, kept);
        }
        drop(world);
        self.gate.send_modify(|gate| gate.resets += 1);
        self.tick.send_replace(());
    }

    /// Waits for a condition, and tells whether it came to hold in time.
    pub(crate) async fn wait(&self, until: &Until, timeout: Duration) -> bool {
        let mut ticks = self.tick.subscribe();
        let reached = async {
            // The sender lives in `self`, so `changed` cannot fail while this waits.
            while !self.world().reached(until) && ticks.changed().await.is_ok() {}
        };
        tokio::time::timeout(timeout, reached).await.is_ok()
    }

    // --- for the listeners ---

    pub(crate) fn connection_accepted(self: &Arc<Self>, listener: &'static str) -> OpenConnection {
        {
            let mut world = self.world();
            let connections = world.stats.listeners.entry(listener).or_default();
            connections.accepted += 1;
            connections.open += 1;
        }
        self.tick.send_replace(());
        OpenConnection {
            shared: Arc::clone(self),
            listener,
        }
    }

    /// Adds to the counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.world().stats);
    }

    /// Notes a request whose head is read; it is in flight until the guard goes.
    pub(crate) fn request_begun(
        self: &Arc<Self>,
        operation: Operation,
        version: &'static str,
        prefix: &str,
        head: &[u8],
    ) -> InFlight {
        let mut world = self.world();
        let stats = &mut world.stats;
        *stats.requests.entry(operation).or_default() += 1;
        *stats.http_versions.entry(version).or_default() += 1;
        prefix.clone_into(&mut stats.last_prefix);
        stats.last_head = String::from_utf8_lossy(head).into_owned();
        stats.in_flight += 1;
        stats.in_flight_peak = stats.in_flight_peak.max(stats.in_flight);
        drop(world);
        InFlight(Arc::clone(self))
    }

    /// Whether the choice of a fault must wait for the request's body.
    pub(crate) fn fault_depends_on_id(&self, operation: Operation) -> bool {
        self.world().faults.depends_on_id(operation)
    }

    pub(crate) fn pick_fault(&self, operation: Operation, id: Option<i64>) -> Option<Arc<Fault>> {
        let mut world = self.world();
        let fault = world.faults.pick(operation, id);
        world.stats.faults += u64::from(fault.is_some());
        fault
    }

    /// Counts a complete deletion request.
    pub(crate) fn deletion_received(&self, id: i64) {
        let at_ms = self.started.elapsed().as_millis() as u64;
        let mut world = self.world();
        world.requests.entry(id).or_default().received += 1;
        world.arrivals.push(Arrival { id, at_ms });
        world.stats.received += 1;
        drop(world);
        self.tick.send_replace(());
    }

    /// The documented answer to a call; with `act` the call also takes effect.
    pub(crate) fn answer(&self, call: &Call, act: bool) -> Answer {
        let mut world = self.world();
        match call {
            Call::Unknown => Answer::not_found_page(),
            Call::Delete { id: None, .. } => {
                Answer::error(400, "Validation failed: idInstance must be an integer")
            }
            Call::Delete { token, .. } if *token != self.token.as_bytes() => {
                Answer::json(200, r#"{"code":401,"description":"Unauthorized"}"#)
            }
            Call::Delete { id: Some(id), .. } => world.delete(*id, act),
            Call::List { token } if *token != self.token.as_bytes() => {
                Answer::error(401, "Unauthorized")
            }
            Call::List { .. } if world.settings.list_forbidden => Answer::error(403, "Forbidden"),
            Call::List { .. } => Answer::of(200, Body::instances()),
            Call::State { id, token } => world.state(*id, token),
            Call::Logout { id, token } => world.logout(*id, token, act),
        }
    }

    /// The next instances of the list after an id, as JSON items joined by commas, and the last
    /// id among them; `None` after the end.
    pub(crate) fn list_after(&self, id: Option<i64>, count: usize) -> Option<(Vec<u8>, i64)> {
        let world = self.world();
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let mut text = Vec::new();
        let mut last = None;
        for instance in world
            .instances
            .range((from, Bound::Unbounded))
            .map(|(_, instance)| instance)
            .take(count)
        {
            if last.is_some() {
                text.push(b',');
            }
            serde_json::to_writer(&mut text, &instance.listed())
                .expect("strings, numbers and booleans are always JSON");
            last = Some(instance.id);
        }
        Some((text, last?))
    }

    /// Prepares to be held. It must come before the request is counted as received: a test
    /// that waits for the count and then releases must not overtake the request on its way
    /// into the hold.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        let gate = self.gate.subscribe();
        let entered = *gate.borrow();
        Hold {
            shared: Arc::clone(self),
            gate,
            entered,
        }
    }
}

/// An accepted connection, counted as open until this goes.
pub(crate) struct OpenConnection {
    shared: Arc<Shared>,
    listener: &'static str,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.count(|stats| {
            let connections = stats.listeners.entry(self.listener).or_default();
            connections.open = connections.open.saturating_sub(1);
        });
        self.shared.tick.send_replace(());
    }
}

/// A request under way, counted as such until this goes.
pub(crate) struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.count(|stats| stats.in_flight -= 1);
    }
}

/// A place in front of the gate.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    gate: watch::Receiver<Gate>,
    entered: Gate,
}

/// A request counted as held until this goes.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.count(|stats| stats.held -= 1);
    }
}

impl Hold {
    /// Waits for the release; `false` when a reset ended the wait instead.
    pub(crate) async fn released(mut self) -> bool {
        self.shared.count(|stats| stats.held += 1);
        let _held = Held(&self.shared);
        self.shared.tick.send_replace(());
        let entered = self.entered;
        match self.gate.wait_for(|gate| *gate != entered).await {
            Ok(gate) => gate.resets == entered.resets,
            Err(_) => false,
        }
    }
}
