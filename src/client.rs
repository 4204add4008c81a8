//! A client: one account at one address, its limits, and the life of one deletion.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;

use crate::account::{after_logout, Account};
use crate::answer::judge;
use crate::call::Call;
use crate::endpoint::{check_id, parse_token, Endpoint};
use crate::engine::{engine, Engine, Finish, Results, Ticket};
use crate::failure::{Failure, Stage};
use crate::options::{Options, Session};
use crate::outcome::Outcome;
use crate::process::PerProcess;
use crate::retry::{retry_after, Attempt, History, Limits, Step};
use crate::secret::Secret;
use crate::status::Status;
use crate::sync::lock;
use crate::transport::{RequestTemplate, Transport};

/// A server that asks for more is not believed: a header must not stop a client for days.
const LONGEST_HOLD: Duration = Duration::from_secs(300);

/// The ids that make a test build panic: on the caller's thread, and on the library's.
#[cfg(feature = "inject-panics")]
pub(crate) const PANIC_AT_THE_EDGE: i64 = 9_999_999_998;
#[cfg(feature = "inject-panics")]
const PANIC_IN_A_CALL: i64 = 9_999_999_999;

/// How far the pace may catch up after a late timer: timers are good to a millisecond.
const CATCH_UP: Duration = Duration::from_millis(5);

pub struct Client {
    endpoint: Endpoint,
    token: Secret,
    options: Options,
    request: RequestTemplate,
    local: PerProcess<Local>,
}

/// What a client has in one process; a fork leaves it behind.
#[derive(Default)]
struct Local {
    schedule: Mutex<Schedule>,
    /// With the engine that it works on.
    transport: Mutex<Option<(Arc<Engine>, Arc<Transport>)>>,
    account: Account,
}

/// Which calls may start when.
#[derive(Default)]
struct Schedule {
    waiting: VecDeque<Ticket>,
    in_flight: u32,
    /// The pace: no request starts before.
    next_start: Option<Instant>,
    /// A 429: no request starts before.
    held_until: Option<Instant>,
    /// Until when somebody waits to come back and start more.
    watched_until: Option<Instant>,
}

impl Schedule {
    /// When the next request may start.
    fn gate(&self) -> Option<Instant> {
        self.next_start.max(self.held_until)
    }

    /// A request starts now.
    fn count_start(&mut self, now: Instant, interval: Duration) {
        if interval.is_zero() {
            return;
        }
        let due = self.next_start.unwrap_or(now);
        let due = due.max(now.checked_sub(CATCH_UP).unwrap_or(now));
        self.next_start = due.checked_add(interval);
    }
}

impl Client {
    pub fn new(url: &str, token: &str, options: Options) -> Result<Arc<Self>, Outcome> {
        let endpoint = Endpoint::parse(url, options.allow_http)?;
        let token = parse_token(token)?;
        let path = format!(
            "{}/partner/deleteInstanceAccount/{}",
            endpoint.prefix,
            token.path_segment()
        );
        let request = RequestTemplate::new(&endpoint, path, &options.user_agent);
        Ok(Arc::new(Self {
            endpoint,
            token,
            options,
            request,
            local: PerProcess::new(),
        }))
    }

    /// The client of the one call, which has every option by default. The last one is kept, because
    /// most programs have one account.
    pub fn of_the_one_call(url: &str, token: &str) -> Result<Arc<Self>, Outcome> {
        type Last = Option<(String, Arc<Client>)>;
        static LAST: PerProcess<Mutex<Last>> = PerProcess::new();
        let last = || lock(LAST.get());
        if let Some((its, client)) = &*last() {
            if its == url && client.token.expose() == token {
                return Ok(client.clone());
            }
        }
        let options = Options {
            separate: true,
            ..Options::default()
        };
        let client = Self::new(url, token, options)?;
        *last() = Some((url.to_owned(), client.clone()));
        Ok(client)
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub fn token(&self) -> &Secret {
        &self.token
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    pub fn account(&self) -> &Account {
        &self.local.get().account
    }

    /// Deletes one instance and waits for the end of it.
    pub fn delete(self: &Arc<Self>, id: i64) -> Outcome {
        if let Err(outcome) = check_id(id) {
            return outcome;
        }
        let engine = match engine() {
            Ok(engine) => engine,
            Err(outcome) => return outcome,
        };
        let deadline = Instant::now().checked_add(self.options.timeout);
        let results = Arc::new(Results::until(deadline));
        let key = results.open(0, id);
        engine.submit(self.clone(), results.clone(), key);
        let mut taken = results.take(1, deadline);
        if taken.is_empty() {
            // It is still waiting for its turn, or just about to report by itself.
            results.expire(key, self.never_started());
            taken = results.take(1, None);
        }
        match taken.pop() {
            Some(record) => record.outcome,
            None => Outcome::plain(Status::Internal),
        }
    }

    /// Why a blocking call ended while it still waited for its turn.
    fn never_started(&self) -> Outcome {
        let held = self.schedule().held_until;
        match held.is_some_and(|until| until > Instant::now()) {
            true => Outcome::new(
                Status::RateLimited,
                "The API asked this client for a pause (429) that does not fit into the timeout. No request was sent: call again later.",
            ),
            false => History::default().conclude(0),
        }
    }

    /// Puts an accepted submission behind those that wait.
    pub fn enqueue(&self, ticket: Ticket) {
        let mut schedule = self.schedule();
        if ticket
            .deadline()
            .is_some_and(|deadline| schedule.held_until.is_some_and(|until| until > deadline))
        {
            drop(schedule);
            ticket.refuse(self.never_started());
            return;
        }
        schedule.waiting.push_back(ticket);
    }

    /// Starts what may start now. Only ever called on the engine's thread, or about to be.
    pub fn pump(self: &Arc<Self>) {
        let Ok(engine) = engine() else {
            return;
        };
        loop {
            let ticket = {
                let mut schedule = self.schedule();
                let full = schedule.in_flight >= self.options.max_in_flight;
                if schedule.waiting.is_empty() || (full && !self.options.separate) {
                    return;
                }
                let now = Instant::now();
                if let Some(gate) = schedule.gate().filter(|gate| *gate > now) {
                    if schedule.watched_until < Some(gate) {
                        schedule.watched_until = Some(gate);
                        engine.runtime().spawn(self.clone().come_back(gate));
                    }
                    return;
                }
                let Some(ticket) = schedule.waiting.pop_front() else {
                    return;
                };
                schedule.in_flight += 1;
                ticket
            };
            self.start(&engine, ticket);
        }
    }

    async fn come_back(self: Arc<Self>, gate: Instant) {
        tokio::time::sleep_until(gate.into()).await;
        self.pump();
    }

    fn start(self: &Arc<Self>, engine: &Arc<Engine>, ticket: Ticket) {
        let mut place = Place {
            client: self.clone(),
            pump: true,
        };
        let call = Arc::new(Call::default());
        let now = Instant::now();
        let deadline = ticket
            .deadline()
            .unwrap_or_else(|| far(now, self.options.timeout));
        let Some((finish, id)) = ticket.start(&call) else {
            // Cancelled while it waited; who called this goes on with the next one anyway.
            place.pump = false;
            return;
        };
        self.schedule().count_start(now, self.options.interval);
        let transport = self.transport(engine);
        let run = self
            .clone()
            .run(transport, id, call.clone(), deadline, finish, place);
        let task = engine.runtime().spawn(run);
        call.runs_as(task.abort_handle());
    }

    fn transport(&self, engine: &Arc<Engine>) -> Arc<Transport> {
        let slot = &self.local.get().transport;
        let mut slot = lock(slot);
        match &*slot {
            Some((its, transport)) if Arc::ptr_eq(its, engine) => transport.clone(),
            _ => {
                let transport = engine.transport(&self.options);
                *slot = Some((engine.clone(), transport.clone()));
                transport
            }
        }
    }

    async fn run(
        self: Arc<Self>,
        transport: Arc<Transport>,
        id: i64,
        call: Arc<Call>,
        deadline: Instant,
        finish: Finish,
        place: Place,
    ) {
        // A panic drops `finish`, which then says `INTERNAL` by itself.
        let life = std::panic::AssertUnwindSafe(self.live(&transport, id, &call, deadline));
        if let Ok(outcome) = life.catch_unwind().await {
            if call.end() {
                finish.with(outcome);
            }
            drop(place);
        }
    }

    /// One deletion under the session policy.
    async fn live(
        &self,
        transport: &Arc<Transport>,
        id: i64,
        call: &Call,
        deadline: Instant,
    ) -> Outcome {
        if self.options.session == Session::Ignore {
            return self.attempt(transport, id, call, deadline).await;
        }
        // In a box: most calls have no use for so much of it.
        match Box::pin(self.check_session(transport, id, deadline)).await {
            Err(outcome) => outcome,
            Ok(logged_out) => {
                let outcome = self.attempt(transport, id, call, deadline).await;
                match logged_out {
                    true => after_logout(outcome),
                    false => outcome,
                }
            }
        }
    }

    /// The deletion itself, from its first attempt to its outcome.
    async fn attempt(
        &self,
        transport: &Arc<Transport>,
        id: i64,
        call: &Call,
        deadline: Instant,
    ) -> Outcome {
        #[cfg(feature = "inject-panics")]
        assert_ne!(id, PANIC_IN_A_CALL);
        let body = format!("{{\"idInstance\":{id}}}");
        let request = self.request.request(body.as_bytes());
        let mut history = History::default();
        let mut not_before = None;
        loop {
            let before = call.attempts();
            let exchange = transport.exchange(&request, call, not_before);
            let attempt = match tokio::time::timeout_at(deadline.into(), exchange).await {
                Ok(Ok(answer)) => {
                    let pause = answer
                        .retry_after
                        .as_deref()
                        .and_then(|header| retry_after(header, SystemTime::now()));
                    Attempt::Answered {
                        http_status: answer.http_status,
                        verdict: judge(answer.http_status, answer.body.body()),
                        retry_after: pause,
                    }
                }
                Ok(Err(failure)) => Attempt::Failed(failure),
                Err(_) => Attempt::Failed(self.out_of_time(call.attempts() > before)),
            };
            let now = Instant::now();
            if matches!(&attempt, Attempt::Failed(failure) if matches!(failure.stage, Stage::Lost { .. }))
            {
                // Its like may be dead as well.
                not_before = Some(now);
            }
            if let Attempt::Answered {
                verdict,
                retry_after: Some(pause),
                ..
            } = &attempt
            {
                if verdict.status == Status::RateLimited {
                    self.hold(*pause);
                }
            }
            call.settle(!attempt.deleted_nothing());
            let limits = Limits {
                max_retries: self.options.max_retries,
                left: deadline.saturating_duration_since(now),
                held_back: self.held_back(now),
                jitter: fastrand::f64(),
            };
            match history.next(attempt, call.attempts(), limits, &[&self.token]) {
                Step::Finish(outcome) => return outcome,
                Step::Retry(pause) => {
                    if !pause.is_zero() {
                        tokio::time::sleep(pause).await;
                    }
                    if !self.wait_for_pace(Some(deadline)).await {
                        return history.conclude(call.attempts());
                    }
                }
            }
        }
    }

    fn out_of_time(&self, sent: bool) -> Failure {
        let timeout = self.options.timeout.as_millis();
        match sent {
            true => Failure {
                stage: Stage::TimedOut,
                reason: format!("the timeout is {timeout} ms"),
            },
            false => Failure {
                stage: Stage::Connect,
                reason: format!(
                    "the timeout of {timeout} ms passed before {} could be reached",
                    self.endpoint.host_and_port()
                ),
            },
        }
    }

    /// One 429 slows the whole client, as long as the API asks for.
    pub fn hold(&self, pause: Duration) {
        if self.options.separate {
            return;
        }
        let until = far(Instant::now(), pause.min(LONGEST_HOLD));
        let mut schedule = self.schedule();
        schedule.held_until = schedule.held_until.max(Some(until));
    }

    /// Waits until the pace and a 429 allow a request that is not the first of its call, and
    /// counts it; false if that is not before the deadline.
    pub async fn wait_for_pace(&self, deadline: Option<Instant>) -> bool {
        loop {
            let gate = {
                let mut schedule = self.schedule();
                let now = Instant::now();
                match schedule.gate().filter(|gate| *gate > now) {
                    None => {
                        schedule.count_start(now, self.options.interval);
                        return true;
                    }
                    Some(gate) => gate,
                }
            };
            if deadline.is_some_and(|deadline| gate >= deadline) {
                return false;
            }
            // Others may be waiting for the same moment, of whom one gets it.
            tokio::time::sleep_until(gate.into()).await;
        }
    }

    /// How long a request that is not the first of its call has to wait for its turn.
    fn held_back(&self, now: Instant) -> Duration {
        self.schedule()
            .gate()
            .map_or(Duration::ZERO, |gate| gate.saturating_duration_since(now))
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        lock(&self.local.get().schedule)
    }
}

/// One of the places that `max_in_flight` gives out.
struct Place {
    client: Arc<Client>,
    /// Whether who leaves it lets the next one in.
    pump: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.client.schedule().in_flight -= 1;
        // A second panic while the first unwinds would end the process.
        if self.pump && !std::thread::panicking() {
            self.client.pump();
        }
    }
}

/// An instant so far ahead, or as far as the clock goes.
fn far(now: Instant, ahead: Duration) -> Instant {
    now.checked_add(ahead)
        .unwrap_or(now + Duration::from_secs(86_400))
}
