//! The state shared by all listeners: instances, ledger, counters, settings, and held requests.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::api::{Answer, Body, Call, Operation, Wish};
use crate::fault::{Fault, FaultBook, Rule};

/// The first id of the instances that the stand-in makes by itself.
pub const FIRST_ID: i64 = 1_101_000_001;

/// The requests of a client that waits a whole second between them may arrive with a little less
/// time between them, for which the network is responsible.
const RATE_TOLERANCE: Duration = Duration::from_millis(50);

/// How long a deleted instance stays in the list: three months.
const LISTED_AFTER_DELETION: Duration = Duration::from_secs(92 * 86_400);

/// How long after its deletion an instance's own methods answer 401 (GREEN-API's issue 1002).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 86_400);

/// The list's time of deletion for an instance that was not deleted.
const NEVER: &str = "0001-01-01T00:00:00";

/// A time as the API writes it: UTC without a zone.
fn text_of(moment: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        moment.year(),
        u8::from(moment.month()),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second()
    )
}

/// The text of the time `age` ago. Such texts sort by time.
fn text_before_now(age: Duration) -> String {
    text_of(OffsetDateTime::now_utc() - age)
}

/// One instance of the account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// `idInstance`.
    pub id: i64,
    /// `stateInstance`: any text, so that tests can try states that do not exist yet.
    pub state: String,
    /// Whether the instance is already deleted.
    pub deleted: bool,
    /// When the instance was deleted, as the API writes it; `None` for the time when it was added.
    pub time_deleted: Option<String>,
    /// Whether the instance has expired: its own methods then answer 400.
    pub expired: bool,
    /// `isExpired` in the list if it should differ from `expired`: the API lists a new instance as
    /// expired for up to an hour.
    pub is_expired: Option<bool>,
    /// `expirationDate`.
    pub expiration_date: String,
    /// `timeCreated`.
    pub time_created: String,
    /// Whether the instance is being created: its state is `null`, and its other methods fail.
    pub creating: bool,
    /// Whether the instance is starting: its own methods answer 400.
    pub starting: bool,
    /// When creating or starting ends; 0 for never.
    pub ready_after_ms: u64,
    /// The instance's own methods are refused with this reason inside HTTP 200.
    pub refuses: Option<String>,
    /// The name in the list.
    pub name: String,
    /// `whatsapp`, `telegram` or `v3`.
    pub type_instance: String,
    /// `tariff`.
    pub tariff: String,
    /// `isFree`.
    pub is_free: bool,
    /// `isPartner`.
    pub is_partner: bool,
    /// `apiTokenInstance`; `None` for a token that is derived from the id.
    pub api_token: Option<String>,
    /// How long after an accepted logout the state changes.
    pub logout_after_ms: u64,
    /// Whether a logout is answered with `{"isLogout":false}` and has no effect.
    pub refuse_logout: bool,
}

impl Default for Instance {
    fn default() -> Self {
        Instance {
            id: 0,
            state: "notAuthorized".to_owned(),
            deleted: false,
            time_deleted: None,
            expired: false,
            is_expired: None,
            expiration_date: "2099-01-01T00:00:00".to_owned(),
            time_created: "2024-03-06T05:48:17".to_owned(),
            creating: false,
            starting: false,
            ready_after_ms: 0,
            refuses: None,
            name: String::new(),
            type_instance: "whatsapp".to_owned(),
            tariff: "PARTNERS".to_owned(),
            is_free: false,
            is_partner: true,
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

    /// The token of the instance's own methods.
    pub fn token(&self) -> String {
        self.api_token.clone().unwrap_or_else(|| {
            // Derived from the id, so that a hundred thousand instances need little memory.
            let mut digits = fastrand::Rng::with_seed(self.id.unsigned_abs());
            (0..50).map(|_| digits.digit(16)).collect()
        })
    }

    fn listed(&self) -> Listed<'_> {
        Listed {
            id_instance: self.id,
            name: &self.name,
            type_instance: &self.type_instance,
            type_account: "partner",
            partner_user_uiid: "00000000-0000-0000-0000-000000000001",
            time_created: &self.time_created,
            time_deleted: match &self.time_deleted {
                Some(time) if self.deleted => time,
                _ => NEVER,
            },
            api_token_instance: self.token(),
            deleted: self.deleted,
            tariff: &self.tariff,
            is_free: self.is_free,
            is_partner: self.is_partner,
            expiration_date: &self.expiration_date,
            is_expired: self.is_expired.unwrap_or(self.expired),
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
    type_account: &'static str,
    partner_user_uiid: &'static str,
    time_created: &'a str,
    time_deleted: &'a str,
    api_token_instance: String,
    deleted: bool,
    tariff: &'a str,
    is_free: bool,
    is_partner: bool,
    expiration_date: &'a str,
    is_expired: bool,
}

/// A row of the ledger: an instance that was really deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// The instance.
    pub id: i64,
    /// The instance's state when it was deleted.
    pub state: String,
    /// The row's number, from 1.
    pub n: u64,
}

/// The number of deletion requests for one id.
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

/// The outcomes of TLS handshakes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TlsStats {
    /// Handshakes done, by version (`TLSv1_2`, `TLSv1_3`).
    pub versions: BTreeMap<String, u64>,
    /// Handshakes done, by the protocol that ALPN chose (`h2`, `http/1.1`, `none`).
    pub alpn: BTreeMap<String, u64>,
    /// Handshakes that failed.
    pub failed: u64,
}

/// The requests to one proxy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ProxyStats {
    /// Tunnels opened (`CONNECT`, SOCKS).
    pub tunnels: u64,
    /// Requests in absolute form forwarded.
    pub forwarded: u64,
    /// Requests refused because of a missing or wrong login.
    pub unauthorized: u64,
    /// Requests refused because their host is not this machine, or cannot be connected to.
    pub denied: u64,
}

/// The counters of `GET /stats`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Connections of the three listeners of the API together.
    pub connections: Connections,
    /// Connections of each listener, traps and proxies included.
    pub listeners: BTreeMap<&'static str, Connections>,
    /// Request heads read, by operation.
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
    /// The last request's head as received; an HTTP/2 head in the form of HTTP/1.1.
    pub last_head: String,
}

/// What can be changed while the stand-in runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether the partner token may not list: GetInstances answers HTTP 403.
    pub list_forbidden: bool,
    /// The limit of simultaneous HTTP/2 streams, for connections accepted from now on.
    pub max_concurrent_streams: u32,
    /// The seed of the random generator of the rules' chances.
    pub seed: u64,
    /// Closes a connection unannounced right after this number of answers.
    pub close_after_answers: Option<u64>,
    /// Resets a connection right after this number of answers.
    pub reset_after_answers: Option<u64>,
    /// The minimum time between two requests of the same instance method for one instance.
    pub rate_interval_ms: u64,
    /// The user name that the proxies require; `None` for no login.
    pub proxy_user: Option<String>,
    /// The password of `proxy_user`.
    pub proxy_password: Option<String>,
    /// The path before `/partner/…`; every other path is answered with a 404 page.
    pub prefix: String,
    /// The path before `/waInstance…`, where `{pool}` is the id's first four digits; `None` means
    /// `prefix`. An instance exists only in its own pool.
    pub instance_prefix: Option<String>,
    /// How long CreateInstance takes to create an instance.
    pub creating_ms: u64,
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
            prefix: String::new(),
            instance_prefix: None,
            creating_ms: 0,
        }
    }
}

/// A condition to wait for: all given numbers must be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Until {
    /// At least this number of complete deletion requests was received.
    pub received: Option<u64>,
    /// At least this number of connections was accepted.
    pub connections: Option<u64>,
    /// At most this number of connections is open.
    pub open: Option<u64>,
    /// At least this number of requests is held.
    pub held: Option<u64>,
    /// The listener whose connections count; `None` for the API's three together.
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
    /// When each instance method was last allowed, for its rate limit.
    last_calls: HashMap<(i64, Operation), Instant>,
    /// When accepted logouts take effect.
    logouts_due: HashMap<i64, Instant>,
    /// When creating or starting an instance ends.
    ready_due: HashMap<i64, Instant>,
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
            ready_due: HashMap::new(),
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

    /// Whether the rate limit allows this instance method now. An allowed call is recorded.
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

    fn put(&mut self, mut instance: Instance) {
        let id = instance.id;
        // These are deadlines of the instance that is replaced.
        self.logouts_due.remove(&id);
        self.ready_due.remove(&id);
        if instance.ready_after_ms > 0 {
            let ready = Duration::from_millis(instance.ready_after_ms);
            self.ready_due.insert(id, Instant::now() + ready);
        }
        if instance.deleted && instance.time_deleted.is_none() {
            instance.time_deleted = Some(text_before_now(Duration::ZERO));
        }
        self.instances.insert(id, instance);
    }

    /// Whether an instance's own methods are served under this prefix.
    fn serves_instance(&self, id: i64, prefix: &str) -> bool {
        let own = match &self.settings.instance_prefix {
            Some(template) => {
                let digits = id.to_string();
                template.replace("{pool}", &digits[..digits.len().min(4)])
            }
            None => self.settings.prefix.clone(),
        };
        // The methods of MAX instances accept an optional `/v3`.
        let is_max = |instance: &Instance| instance.type_instance == "v3";
        match prefix.strip_prefix(own.as_str()) {
            Some("") => true,
            Some("/v3") => self.instances.get(&id).is_some_and(is_max),
            _ => false,
        }
    }

    fn create(&mut self, wish: Option<Wish>, act: bool) -> Answer {
        let Some(wish) = wish else {
            return Answer::error(400, "Validation failed");
        };
        let kind = wish.type_instance.as_deref().unwrap_or("whatsapp");
        if !["whatsapp", "telegram", "v3"].contains(&kind) {
            return Answer::error(400, "Validation failed: typeInstance");
        }
        let id = self
            .instances
            .last_key_value()
            .map_or(FIRST_ID, |(last, _)| last + 1);
        let instance = Instance {
            name: wish.name,
            type_instance: kind.to_owned(),
            time_created: text_before_now(Duration::ZERO),
            // GREEN-API's issues 997 and 197.
            is_expired: Some(true),
            creating: self.settings.creating_ms > 0,
            ready_after_ms: self.settings.creating_ms,
            ..Instance::new(id, "notAuthorized")
        };
        let body = serde_json::json!({
            "idInstance": id, "apiTokenInstance": instance.token(), "typeInstance": kind,
        });
        if act {
            self.put(instance);
        }
        Answer::json(200, body.to_string())
    }

    /// Updates an instance's state if the deadline of a logout, of creating or of starting has
    /// passed.
    fn settle(&mut self, id: i64) {
        if self
            .ready_due
            .get(&id)
            .is_some_and(|due| *due <= Instant::now())
        {
            self.ready_due.remove(&id);
            if let Some(instance) = self.instances.get_mut(&id) {
                instance.creating = false;
                instance.starting = false;
            }
        }
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
            instance.time_deleted = Some(text_before_now(Duration::ZERO));
            self.ledger.push(Deleted {
                id,
                state: instance.state.clone(),
                n: self.ledger.len() as u64 + 1,
            });
            self.requests.entry(id).or_default().carried_out += 1;
        }
        Answer::json(200, r#"{"deleteInstanceAccount":true}"#)
    }

    /// The checks with which both instance methods begin. Returns the instance or the refusal.
    fn instance_method(
        &mut self,
        id: i64,
        token: &[u8],
        operation: Operation,
    ) -> Result<&Instance, Answer> {
        self.settle(id);
        match self.instances.get(&id) {
            None => return Err(Answer::error(403, "Wrong idInstance")),
            Some(instance) if instance.token().as_bytes() != token => {
                return Err(Answer::error(401, "Unauthorized"))
            }
            Some(_) => {}
        }
        if !self.within_rate(id, operation) {
            return Err(Answer::error(429, "Too many requests"));
        }
        let instance = &self.instances[&id];
        if instance.deleted {
            let forgotten = text_before_now(FORGOTTEN_AFTER);
            return Err(match &instance.time_deleted {
                Some(time) if *time < forgotten => Answer::error(401, "Unauthorized"),
                // Users reported that a deleted instance answers as if it were starting.
                _ if operation == Operation::State => {
                    Answer::json(200, r#"{"stateInstance":"starting"}"#)
                }
                _ => Answer::text(400, "Instance is deleted"),
            });
        }
        if instance.expired {
            return Err(Answer::text(
                400,
                "Instance account is expired. Renew your instance from personal area",
            ));
        }
        if instance.creating {
            return Err(match operation {
                Operation::State => Answer::json(200, "null"),
                _ => Answer::text(400, "instance in starting process try later"),
            });
        }
        if instance.starting {
            return Err(Answer::text(
                400,
                match operation {
                    Operation::State => "instance in starting process try later",
                    _ => "instance is starting or not authorized",
                },
            ));
        }
        if let Some(reason) = &instance.refuses {
            let refusal = serde_json::json!({ "status": false, "reason": reason });
            return Err(Answer::json(200, refusal.to_string()));
        }
        Ok(instance)
    }

    fn state(&mut self, id: i64, token: &[u8]) -> Answer {
        match self.instance_method(id, token, Operation::State) {
            Err(refusal) => refusal,
            Ok(instance) => Answer::json(
                200,
                serde_json::json!({ "stateInstance": instance.state }).to_string(),
            ),
        }
    }

    fn logout(&mut self, id: i64, token: &[u8], act: bool) -> Answer {
        match self.instance_method(id, token, Operation::Logout) {
            Err(refusal) => refusal,
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

/// `count` instances from the id `first` on. Without a state, every other one is authorized.
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

/// What held requests watch: counters, so that no change between two reads is missed.
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
    /// Notified at every event that `wait` may wait for.
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
        // The state stays usable after a panic: no handler leaves it half changed.
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
            world.put(instance);
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

    /// Restores the state at the start. Held requests are dropped without an answer, because
    /// carrying them out would change the restored state.
    pub(crate) fn reset(&self) {
        let mut world = self.world();
        let before = std::mem::replace(&mut *world, World::new(self.initial_instances));
        // Open connections and requests under way continue to exist, and so do their counts.
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

    /// Waits until a condition holds. Returns whether it held in time.
    pub(crate) async fn wait(&self, until: &Until, timeout: Duration) -> bool {
        let mut ticks = self.tick.subscribe();
        let reached = async {
            // The sender lives in `self`, so `changed` cannot fail while this waits.
            while !self.world().reached(until) && ticks.changed().await.is_ok() {}
        };
        tokio::time::timeout(timeout, reached).await.is_ok()
    }

    // --- for the listeners ---

    /// Reads the method and the target of a request. Returns the call and the prefix of the API's
    /// path. A prefix that is not in the settings gives `Call::Unknown`.
    pub(crate) fn read_target<'a>(&self, method: &str, target: &'a str) -> (Call, &'a str) {
        let (call, prefix) = Call::parse(method, target);
        let world = self.world();
        let served = match &call {
            Call::State { id, .. } | Call::Logout { id, .. } => world.serves_instance(*id, prefix),
            _ => prefix == world.settings.prefix,
        };
        (if served { call } else { Call::Unknown }, prefix)
    }

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

    /// Changes the counters.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.world().stats);
    }

    /// Counts a request whose head was read. The request is in flight until the guard is dropped.
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

    /// Whether the fault can be chosen only after the request's body was read.
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

    /// The documented answer to a call. With `act` the call is also carried out.
    pub(crate) fn answer(&self, call: &Call, act: bool) -> Answer {
        let mut world = self.world();
        match call {
            Call::Unknown => Answer::not_found_page(),
            Call::Create { token, .. } | Call::Delete { token, .. }
                if *token != self.token.as_bytes() =>
            {
                Answer::json(200, r#"{"code":401,"description":"Unauthorized"}"#)
            }
            Call::Create { wish, .. } => world.create(wish.clone(), act),
            Call::Delete { id: None, .. } => {
                Answer::error(400, "Validation failed: idInstance must be an integer")
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

    /// The next instances of the list after an id, as JSON items joined by commas, and the last of
    /// their ids; `None` at the end.
    pub(crate) fn list_after(&self, id: Option<i64>, count: usize) -> Option<(Vec<u8>, i64)> {
        let world = self.world();
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let oldest = text_before_now(LISTED_AFTER_DELETION);
        let is_listed = |instance: &&Instance| {
            let time = instance.time_deleted.as_ref();
            !(instance.deleted && time.is_some_and(|time| *time < oldest))
        };
        let mut text = Vec::new();
        let mut last = None;
        for instance in world
            .instances
            .range((from, Bound::Unbounded))
            .map(|(_, instance)| instance)
            .filter(is_listed)
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

    /// Prepares to hold a request. This must happen before the request is counted as received:
    /// otherwise a test that waits for the count could release before the request waits.
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

/// An accepted connection, counted as open until this is dropped.
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

/// A request under way, counted as in flight until this is dropped.
pub(crate) struct InFlight(Arc<Shared>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.count(|stats| stats.in_flight -= 1);
    }
}

/// A request that waits for a release.
pub(crate) struct Hold {
    shared: Arc<Shared>,
    gate: watch::Receiver<Gate>,
    entered: Gate,
}

/// A request counted as held until this is dropped.
struct Held<'a>(&'a Shared);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.count(|stats| stats.held -= 1);
    }
}

impl Hold {
    /// Waits for the release. Returns `false` if a reset ended the wait.
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
