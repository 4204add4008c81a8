//! Questions to the API: GET requests, which delete nothing. They are retried, keep to the client's
//! pace, and go to one instance at most once a second, whichever client asks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::OwnedMutexGuard;
use tokio::time::{sleep, sleep_until, timeout_at};

use crate::answer::BODY_LIMIT;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Purpose, Stage};
use crate::memory;
use crate::options::Options;
use crate::outcome::{name_of_code, Outcome};
use crate::pace::Pace;
use crate::process::PerProcess;
use crate::retry::{self, retry_after};
use crate::secret::Secret;
use crate::session::{
    describe, read_code, read_logout, read_refusal, read_state, Answer, Reply, Said,
};
use crate::status::Status;
use crate::sync::lock;
use crate::transport::{StreamedResponse, Transport};

/// How many bytes are kept of a response, to find the API's reason if it is not a list.
const START: usize = 1024;

/// The API allows the state and logout methods one request per second for each instance.
pub const ASK_INTERVAL: Duration = Duration::from_millis(1_010);

/// Why a question was not answered.
#[derive(Debug)]
pub enum Unanswered {
    Failed(Failure),
    Refused(Refusal),
    /// The response did not come from this API, for this reason.
    Unreadable(&'static str),
    /// The question's turn did not come in time; `held`: because the API had asked for a pause.
    NotStarted {
        held: bool,
    },
}

/// An error response of the API or of a front server.
#[derive(Debug)]
pub struct Refusal {
    /// The API's own `code`, else the HTTP status.
    pub code: u16,
    pub http_status: u16,
    pub retry_after: Option<Duration>,
    /// The body; empty if it did not arrive whole.
    pub body: Vec<u8>,
}

impl Refusal {
    fn of(response: &StreamedResponse, body: Vec<u8>) -> Self {
        Self {
            code: read_code(&body).unwrap_or(response.http_status),
            http_status: response.http_status,
            retry_after: pause_of(response),
            body,
        }
    }

    /// The number that decides what the refusal means. The code in a body counts only where the
    /// HTTP status leaves something to say: a failing server says nothing about the instance.
    fn number(&self) -> u16 {
        match self.http_status {
            300..=399 | 401 | 403 | 408 | 429 | 499.. => self.http_status,
            _ => self.code,
        }
    }

    /// What the refusal of one of an instance's own methods says about the instance, if anything.
    fn reply(&self, secrets: &[&Secret]) -> Option<Reply> {
        let number = self.number();
        let obstacle = read_refusal(number, self.http_status, &self.body, secrets)?;
        let answer = Answer {
            code: self.code,
            http_status: self.http_status,
        };
        Some(Reply::CannotBeAsked(obstacle, answer))
    }
}

/// The earliest time at which each instance may be asked again. All clients of this process share
/// the table, because the API's limit for an instance counts the requests of all clients.
static TURNS: PerProcess<Mutex<Turns>> = PerProcess::new();

#[derive(Default)]
struct Turns {
    /// No hash map, which keeps its entries in one large block.
    known: BTreeMap<Asked, Arc<NextTurn>>,
    /// When the table reaches this length, instances that may be asked at once are removed.
    prune_at: usize,
}

/// An instance, at the address where it is asked.
type Asked = (String, i64);

/// The earliest time at which an instance may be asked again; locked while the instance is asked.
type NextTurn = tokio::sync::Mutex<Instant>;

/// The right to send one request to an instance. The pause before the next one starts when this
/// value is dropped, because the API counts when requests arrive, and this one has arrived by then.
struct Turn(OwnedMutexGuard<Instant>);

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0 = Instant::now() + ASK_INTERVAL;
    }
}

impl Turn {
    /// Waits until the instance may be asked; `None` if that would not be before `until`.
    async fn wait(instance: Asked, until: Instant) -> Option<Self> {
        let next = lock(TURNS.get()).of(instance);
        let next = timeout_at(until.into(), next.lock_owned()).await.ok()?;
        if *next >= until {
            return None;
        }
        sleep_until((*next).into()).await;
        Some(Self(next))
    }
}

impl Turns {
    fn of(&mut self, instance: Asked) -> Arc<NextTurn> {
        let now = Instant::now();
        if self.known.len() >= self.prune_at {
            // Times in the past are no longer needed.
            let says_something = |next: &Arc<NextTurn>| {
                Arc::strong_count(next) > 1 || next.try_lock().is_ok_and(|next| *next > now)
            };
            self.known.retain(|_, next| says_something(next));
            self.prune_at = 1024.max(2 * self.known.len());
        }
        let next = self.known.entry(instance);
        next.or_insert_with(|| Arc::new(NextTurn::new(now))).clone()
    }
}

/// A response that should be the list of instances.
pub struct ListResponse {
    response: StreamedResponse,
    /// The beginning of its body.
    start: Vec<u8>,
}

impl ListResponse {
    pub fn http_status(&self) -> u16 {
        self.response.http_status
    }

    /// The error if the body is not a list: an error of the API inside HTTP 200, or something
    /// unreadable.
    pub fn no_list(&self) -> Unanswered {
        match read_code(&self.start) {
            Some(code) if !(200..300).contains(&code) => Unanswered::Refused(Refusal {
                code,
                http_status: self.http_status(),
                retry_after: None,
                body: self.start.clone(),
            }),
            _ => Unanswered::Unreadable("its answer is not a list of instances"),
        }
    }
}

/// Sends questions for a client.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub endpoint: &'a Endpoint,
    pub token: &'a Secret,
    pub options: &'a Options,
    pub pace: Pace<'a>,
    pub transport: &'a Transport,
}

impl Asker<'_> {
    /// Requests the list of instances once, and returns a response with a success status, whose
    /// body is yet to be read. The caller has waited for the pace.
    pub async fn list(&self, until: Instant) -> Result<ListResponse, Unanswered> {
        let endpoint = self.endpoint;
        let path = format!(
            "{}/partner/getInstances/{}",
            endpoint.prefix,
            self.token.path_segment()
        );
        let mut response = self.send(endpoint, &path, until).await?;
        if is_success(&response) {
            return Ok(ListResponse {
                response,
                start: Vec::new(),
            });
        }
        // The refusal counts even if its body breaks off, because it permits no deletion.
        let body = self.body(&mut response, until).await.unwrap_or_default();
        Err(Unanswered::Refused(Refusal::of(&response, body)))
    }

    /// The deadline of a question that starts now.
    pub fn deadline(&self) -> Instant {
        self.options.deadline(Instant::now())
    }

    /// Asks for an instance's state. Of its `tokens` the last one is valid; no message shows any.
    /// The caller has waited for the pace.
    pub async fn state(
        &self,
        id: i64,
        tokens: &[Secret],
        until: Instant,
    ) -> Result<Reply, Unanswered> {
        // An attempt to ask has no effect that could be in doubt.
        let in_doubt = &mut false;
        let method = "getStateInstance";
        self.instance(id, method, tokens, until, in_doubt, read_state)
            .await
    }

    /// Asks an instance to log out; `tokens` as in [`Asker::state`]. The caller has waited for the
    /// pace. Sets `in_doubt` while an attempt is under way, and for good if an attempt that may have
    /// been carried out got no clear answer.
    pub async fn log_out(
        &self,
        id: i64,
        tokens: &[Secret],
        until: Instant,
        in_doubt: &mut bool,
    ) -> Result<Reply, Unanswered> {
        self.instance(id, "logout", tokens, until, in_doubt, read_logout)
            .await
    }

    /// What no message may show: the partner token, the instance's tokens and the proxy's login.
    pub fn secrets<'s>(&'s self, instance: &'s [Secret]) -> Vec<&'s Secret> {
        let own = std::iter::once(self.token).chain(instance);
        own.chain(self.transport.secrets()).collect()
    }

    /// Calls one of an instance's own methods, with retries, and returns what `read` makes of its
    /// answer. `in_doubt` as in [`Asker::log_out`].
    async fn instance(
        &self,
        id: i64,
        method: &str,
        tokens: &[Secret],
        until: Instant,
        in_doubt: &mut bool,
        read: fn(&[u8], &[&Secret]) -> Option<Said>,
    ) -> Result<Reply, Unanswered> {
        let endpoint = &self.instance_endpoint(id)?;
        let secrets = &self.secrets(tokens);
        let token = tokens.last().map(Secret::path_segment);
        let path = format!(
            "{}/waInstance{id}/{method}/{}",
            endpoint.prefix,
            token.unwrap_or_default()
        );
        let address = endpoint.address();
        let mut tries = 0;
        let mut last = Unanswered::NotStarted { held: false };
        loop {
            // If there is no time for another attempt, the error of the last one is reported.
            let Some(turn) = Turn::wait((address.clone(), id), until).await else {
                return Err(last);
            };
            let asked = async {
                let mut response = self.send(endpoint, &path, until).await?;
                let body = self.body(&mut response, until).await;
                let body = match response.http_status {
                    // A failing or overloaded server says nothing about the instance, whatever its
                    // body says. Any other answer without its whole body is a lost one.
                    429 | 499.. => body.unwrap_or_default(),
                    _ => body?,
                };
                if !is_success(&response) {
                    return Err(Unanswered::Refused(Refusal::of(&response, body)));
                }
                match read(&body, secrets) {
                    Some(Said::Reply(reply)) => Ok(reply),
                    Some(Said::Error(code)) => Err(Unanswered::Refused(Refusal {
                        code,
                        http_status: response.http_status,
                        retry_after: pause_of(&response),
                        body,
                    })),
                    None => Err(Unanswered::Unreadable(
                        "its answer did not come from this API",
                    )),
                }
            };
            let before = std::mem::replace(in_doubt, true);
            let asked = asked.await;
            *in_doubt = before
                || asked
                    .as_ref()
                    .is_err_and(Unanswered::may_have_been_carried_out);
            let why = match asked {
                Ok(reply) => return Ok(reply),
                Err(Unanswered::NotStarted { .. }) if tries > 0 => return Err(last),
                Err(Unanswered::Refused(refusal)) => match refusal.reply(secrets) {
                    Some(reply) => return Ok(reply),
                    None => Unanswered::Refused(refusal),
                },
                Err(why) => why,
            };
            drop(turn);
            match self.pause(tries, &why, until) {
                Some(pause) => sleep(pause).await,
                None => return Err(why),
            }
            if self.start(Some(until)).await.is_err() {
                return Err(why);
            }
            last = why;
            tries += 1;
        }
    }

    /// The address of an instance's own methods. The instance's token is sent only there.
    fn instance_endpoint(&self, id: i64) -> Result<Cow<'_, Endpoint>, Unanswered> {
        match &self.options.instance_url {
            None => Ok(Cow::Borrowed(self.endpoint)),
            Some(url) => url.endpoint(id).map(Cow::Owned).map_err(|_| {
                // This happens only if the pool's digits make a port number too large.
                Unanswered::Failed(
                    Failure::new(
                        Stage::Connect,
                        format!("the instance URL gives no valid address for instance {id}"),
                    )
                    .advise("Check the instance URL"),
                )
            }),
        }
    }

    /// Waits until the pace allows a question, and counts it.
    pub async fn start(&self, until: Option<Instant>) -> Result<(), Unanswered> {
        match self.pace.start(until).await {
            true => Ok(()),
            false => Err(self.not_started()),
        }
    }

    fn not_started(&self) -> Unanswered {
        Unanswered::NotStarted {
            held: self.pace.is_held(),
        }
    }

    /// Sends one GET; the response may have any status, and its body is yet to be read.
    async fn send(
        &self,
        endpoint: &Endpoint,
        path: &str,
        until: Instant,
    ) -> Result<StreamedResponse, Unanswered> {
        if !self.pace.turn(until).await {
            return Err(self.not_started());
        }
        let user_agent = &self.options.user_agent;
        let reading = self.transport.read(endpoint, path, user_agent);
        timeout_at(until.into(), reading)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
            .map_err(Unanswered::Failed)
    }

    async fn body(
        &self,
        response: &mut StreamedResponse,
        until: Instant,
    ) -> Result<Vec<u8>, Unanswered> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk(response, until).await? {
            body.extend_from_slice(&chunk);
            if body.len() > BODY_LIMIT {
                return Err(Unanswered::Unreadable("its answer is larger than 64 KiB"));
            }
        }
        Ok(body)
    }

    /// The next piece of a list; `None` at its end. Fails for a response that is only a part of the
    /// list, and while memory is short, because a list may need more than the reserve has.
    pub async fn list_chunk(
        &self,
        list: &mut ListResponse,
        until: Instant,
    ) -> Result<Option<bytes::Bytes>, Unanswered> {
        if list.http_status() == 206 {
            return Err(Unanswered::Unreadable(
                "its answer is only a part of the list (HTTP 206)",
            ));
        }
        let chunk = self.chunk(&mut list.response, until).await?;
        if let Some(chunk) = &chunk {
            memory::check_request().map_err(Unanswered::Failed)?;
            let missing = START.saturating_sub(list.start.len());
            list.start.extend(chunk.iter().take(missing));
        }
        Ok(chunk)
    }

    /// The next piece of a body; `None` at its end.
    async fn chunk(
        &self,
        response: &mut StreamedResponse,
        until: Instant,
    ) -> Result<Option<bytes::Bytes>, Unanswered> {
        timeout_at(until.into(), response.chunk())
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
            .map_err(Unanswered::Failed)
    }

    fn timed_out(&self) -> Failure {
        Failure::new(
            Stage::TimedOut,
            format!(
                "no answer in time (the whole timeout is {} ms)",
                self.options.timeout.as_millis()
            ),
        )
    }

    /// How long to wait before asking again. `None`: do not ask again, because the question would
    /// be refused again, the retries are used up or the time is too short.
    pub fn pause(&self, tries: u32, why: &Unanswered, until: Instant) -> Option<Duration> {
        let left = until.saturating_duration_since(Instant::now());
        self.retry(tries, why).filter(|pause| *pause < left)
    }

    /// The pause before asking again, as [`Asker::pause`] but even if too little time is left.
    pub fn retry(&self, tries: u32, why: &Unanswered) -> Option<Duration> {
        let asked_for = match why {
            Unanswered::Failed(failure) => match failure.stage {
                Stage::Proxy
                | Stage::Certificate
                | Stage::ClientCertificate
                | Stage::Resources
                | Stage::TimedOut => return None,
                _ => None,
            },
            Unanswered::Refused(refusal) => match refusal.number() {
                429 | 499 | 500 | 502 | 503 | 504 => {
                    if let (429, Some(pause)) = (refusal.number(), refusal.retry_after) {
                        self.pace.hold(pause);
                    }
                    refusal.retry_after
                }
                _ => return None,
            },
            Unanswered::Unreadable(_) | Unanswered::NotStarted { .. } => return None,
        };
        (tries < self.options.max_retries).then(|| retry::pause(tries, fastrand::f64(), asked_for))
    }
}

fn is_success(response: &StreamedResponse) -> bool {
    (200..300).contains(&response.http_status)
}

fn pause_of(response: &StreamedResponse) -> Option<Duration> {
    response
        .retry_after
        .as_deref()
        .and_then(|header| retry_after(header, SystemTime::now()))
}

impl Unanswered {
    /// Whether the server may have done what the question asked for.
    fn may_have_been_carried_out(&self) -> bool {
        match self {
            Self::Failed(failure) => {
                matches!(failure.stage, Stage::Lost { .. } | Stage::TimedOut)
            }
            Self::Refused(refusal) => !matches!(refusal.number(), 400..=407 | 409..=498),
            Self::Unreadable(_) => true,
            Self::NotStarted { .. } => false,
        }
    }

    /// Whether a call with more time might have received an answer.
    pub fn is_for_want_of_time(&self) -> bool {
        match self {
            Self::NotStarted { .. } => true,
            Self::Failed(failure) => failure.stage == Stage::TimedOut,
            Self::Refused(_) | Self::Unreadable(_) => false,
        }
    }

    /// The outcome of a call that needed the answer: `what` was asked for, and `consequence` says,
    /// as a clause, what follows without it.
    pub fn explain(
        &self,
        what: &'static str,
        consequence: &'static str,
        secrets: &[&Secret],
    ) -> Outcome {
        match self {
            Self::Failed(failure) => failure.explain(
                Purpose::Question { what, consequence },
                secrets.iter().copied(),
            ),
            Self::Refused(refusal) => {
                let number = refusal.number();
                let (status, advice) = match (number, refusal.http_status) {
                    (401, _) => (Status::Unauthorized, "Check the token"),
                    (403, _) => (Status::Forbidden, "Check what this token is allowed to do"),
                    (429, _) => (
                        Status::RateLimited,
                        "Call again later, or at a slower pace",
                    ),
                    (499.., _) => (Status::ServerError, "Call again"),
                    (404, 404) | (300..=399, _) => (Status::Rejected, "Check the URL"),
                    _ => (Status::Rejected, "Check the URL and the account"),
                };
                let said = describe(&refusal.body, secrets);
                let said = match said.is_empty() {
                    true => String::new(),
                    false => format!(" The API said: \"{said}\"."),
                };
                let mut outcome = Outcome::new(
                    status,
                    format!(
                        "{advice}: the server refused {what} with {}, {consequence}.{said}",
                        name_of_code(number.into())
                    ),
                );
                outcome.code = i32::from(refusal.code);
                outcome.http_status = i32::from(refusal.http_status);
                outcome
            }
            Self::Unreadable(reason) => Outcome::new(
                Status::BadResponse,
                format!("Check the URL and call again: the server was asked for {what}, and {reason}, {consequence}."),
            ),
            Self::NotStarted { held: true } => Outcome::new(
                Status::RateLimited,
                format!("Call again later: the API asked this client for a pause (429) that does not fit into the timeout, so {what} was not asked for, {consequence}."),
            ),
            Self::NotStarted { held: false } => Outcome::new(
                Status::NotStarted,
                format!("Raise the timeout or the pace: the turn to ask for {what} did not come in time, {consequence}."),
            ),
        }
    }
}
