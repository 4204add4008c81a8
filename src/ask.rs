//! Questions to the API: GETs that delete nothing, sent until they have an answer, under the
//! client's pace, and to one instance at most once a second.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{sleep, sleep_until, timeout_at};

use crate::answer::BODY_LIMIT;
use crate::endpoint::Endpoint;
use crate::failure::{Failure, Purpose, Stage};
use crate::options::Options;
use crate::outcome::{sanitize, Outcome};
use crate::pace::Pace;
use crate::retry::{self, retry_after};
use crate::secret::Secret;
use crate::session::{
    read_code, read_description, read_logout, read_refusal, read_state, Answer, Reply,
};
use crate::status::Status;
use crate::sync::lock;
use crate::transport::{StreamedResponse, Transport};

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
    /// The body, or as much of it as was read.
    pub body: Vec<u8>,
}

/// When each instance may be asked next.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<i64, Instant>>);

/// The right to ask an instance something. The pause to the next one counts from its end: what
/// the API counts is when requests arrive, and this one has arrived by then.
pub struct Turn<'a> {
    turns: &'a Turns,
    id: i64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns.0);
        let next = Instant::now() + ASK_INTERVAL;
        let turn = turns.entry(self.id).or_insert(next);
        *turn = (*turn).max(next);
    }
}

impl Turns {
    /// Waits until `id` may be asked; nothing if that is not before `until`.
    pub async fn wait(&self, id: i64, until: Instant) -> Option<Turn<'_>> {
        let turn = {
            let mut turns = lock(&self.0);
            let now = Instant::now();
            let turn = turns.get(&id).map_or(now, |turn| (*turn).max(now));
            if turn >= until {
                return None;
            }
            // Past turns say nothing any more.
            if turns.len() > 1024 {
                turns.retain(|_, turn| *turn > now);
            }
            turns.insert(id, turn + ASK_INTERVAL);
            turn
        };
        let mine = Turn { turns: self, id };
        sleep_until(turn.into()).await;
        Some(mine)
    }
}

/// Sends questions for a client.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    pub endpoint: &'a Endpoint,
    pub token: &'a Secret,
    pub options: &'a Options,
    pub pace: Pace<'a>,
    pub turns: &'a Turns,
    pub transport: &'a Transport,
}

impl Asker<'_> {
    /// Requests the list of instances once, and returns a response with a success status, whose
    /// body is yet to be read. The caller has waited for the pace.
    pub async fn list(&self, until: Instant) -> Result<StreamedResponse, Unanswered> {
        let endpoint = self.endpoint;
        let path = format!(
            "{}/partner/getInstances/{}",
            endpoint.prefix,
            self.token.path_segment()
        );
        self.send(endpoint, &path, until).await
    }

    /// The deadline of a question that starts now.
    pub fn deadline(&self) -> Instant {
        far(Instant::now(), self.options.timeout)
    }

    /// Asks for an instance's state. The caller has waited for the pace.
    pub async fn state(
        &self,
        id: i64,
        token: &Secret,
        until: Instant,
    ) -> Result<Reply, Unanswered> {
        let secrets = [self.token, token];
        let asked = self.instance(id, "getStateInstance", token, until).await;
        read_reply(asked, &secrets, read_state)
    }

    /// Asks an instance to log out. The caller has waited for the pace.
    pub async fn log_out(
        &self,
        id: i64,
        token: &Secret,
        until: Instant,
    ) -> Result<Reply, Unanswered> {
        let secrets = [self.token, token];
        let asked = self.instance(id, "logout", token, until).await;
        read_reply(asked, &secrets, read_logout)
    }

    /// Calls one of an instance's own methods, with retries, and returns the body of a response
    /// that is no error.
    async fn instance(
        &self,
        id: i64,
        method: &str,
        token: &Secret,
        until: Instant,
    ) -> Result<Vec<u8>, Unanswered> {
        let endpoint = &self.instance_endpoint(id)?;
        let path = format!(
            "{}/waInstance{id}/{method}/{}",
            endpoint.prefix,
            token.path_segment()
        );
        let mut tries = 0;
        let mut last = Unanswered::NotStarted { held: false };
        loop {
            // Without another turn in time, what the last one brought is the answer.
            let Some(turn) = self.turns.wait(id, until).await else {
                return Err(last);
            };
            let asked = async {
                let mut response = self.send(endpoint, &path, until).await?;
                let body = self.body(&mut response, until).await?;
                match read_code(&body) {
                    Some(code) if !(200..300).contains(&code) => {
                        Err(Unanswered::Refused(Refusal {
                            code,
                            http_status: response.http_status,
                            retry_after: pause_of(&response),
                            body,
                        }))
                    }
                    _ => Ok(body),
                }
            };
            let why = match asked.await {
                Ok(answer) => return Ok(answer),
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
                        format!("instance_url makes no address for instance {id}"),
                    )
                    .advise("Check instance_url"),
                )
            }),
        }
    }

    /// Waits until the pace allows a question, and counts it.
    pub async fn start(&self, until: Option<Instant>) -> Result<(), Unanswered> {
        match self.pace.wait(until).await {
            true => Ok(()),
            false => Err(Unanswered::NotStarted {
                held: self.pace.is_held(),
            }),
        }
    }

    /// Sends one GET; a response without a success status is an error.
    async fn send(
        &self,
        endpoint: &Endpoint,
        path: &str,
        until: Instant,
    ) -> Result<StreamedResponse, Unanswered> {
        let user_agent = &self.options.user_agent;
        let reading = self.transport.read(endpoint, path, user_agent);
        let mut response = timeout_at(until.into(), reading)
            .await
            .unwrap_or_else(|_| Err(self.timed_out()))
            .map_err(Unanswered::Failed)?;
        if (200..300).contains(&response.http_status) {
            return Ok(response);
        }
        // The refusal counts even if its body breaks off.
        let body = self.body(&mut response, until).await.unwrap_or_default();
        Err(Unanswered::Refused(Refusal {
            code: read_code(&body).unwrap_or(response.http_status),
            http_status: response.http_status,
            retry_after: pause_of(&response),
            body,
        }))
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

    /// The next piece of a body; `None` at its end.
    pub async fn chunk(
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
                "no answer within the timeout of {} ms",
                self.options.timeout.as_millis()
            ),
        )
    }

    /// How long to wait before asking again. `None`: do not ask again, because the question would
    /// be refused again, the retries are used up or the time is too short.
    pub fn pause(&self, tries: u32, why: &Unanswered, until: Instant) -> Option<Duration> {
        let asked_for = match why {
            Unanswered::Failed(failure) => match failure.stage {
                Stage::Proxy
                | Stage::Certificate
                | Stage::ClientCertificate
                | Stage::Resources
                | Stage::TimedOut => return None,
                _ => None,
            },
            Unanswered::Refused(refusal) => match refusal.code {
                429 | 499 | 500 | 502 | 503 | 504 => {
                    if let (429, Some(pause)) = (refusal.code, refusal.retry_after) {
                        self.pace.hold(pause);
                    }
                    refusal.retry_after
                }
                _ => return None,
            },
            Unanswered::Unreadable(_) | Unanswered::NotStarted { .. } => return None,
        };
        let pause = retry::pause(tries, fastrand::f64(), asked_for);
        let left = until.saturating_duration_since(Instant::now());
        (tries < self.options.max_retries && pause < left).then_some(pause)
    }
}

fn read_reply(
    asked: Result<Vec<u8>, Unanswered>,
    secrets: &[&Secret],
    read: impl FnOnce(&[u8], &[&Secret]) -> Option<Reply>,
) -> Result<Reply, Unanswered> {
    match asked {
        Ok(body) => read(&body, secrets).ok_or(Unanswered::Unreadable(
            "its answer did not come from this API",
        )),
        Err(Unanswered::Refused(refusal)) => {
            let obstacle = read_refusal(refusal.code, refusal.http_status, &refusal.body, secrets);
            match obstacle {
                Some(obstacle) => Ok(Reply::CannotBeAsked(
                    obstacle,
                    Answer {
                        code: refusal.code,
                        http_status: refusal.http_status,
                    },
                )),
                None => Err(Unanswered::Refused(refusal)),
            }
        }
        Err(why) => Err(why),
    }
}

/// `now` plus `ahead`; or plus a day, if the clock's type cannot hold that.
fn far(now: Instant, ahead: Duration) -> Instant {
    now.checked_add(ahead)
        .unwrap_or(now + Duration::from_secs(86_400))
}

fn pause_of(response: &StreamedResponse) -> Option<Duration> {
    response
        .retry_after
        .as_deref()
        .and_then(|header| retry_after(header, SystemTime::now()))
}

impl Unanswered {
    /// The error in what should be a list: one that the API reports inside HTTP 200, or nonsense.
    /// `start` is how it begins.
    pub fn no_list(http_status: u16, start: &[u8]) -> Self {
        match read_code(start) {
            Some(code) if !(200..300).contains(&code) => Self::Refused(Refusal {
                code,
                http_status,
                retry_after: None,
                body: start.to_owned(),
            }),
            _ => Self::Unreadable("its answer is not a list of instances"),
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
                let (status, advice) = match (refusal.code, refusal.http_status) {
                    (401, _) => (Status::Unauthorized, "Check the token"),
                    (403, _) => (Status::Forbidden, "Check what this token is allowed to do"),
                    (429, _) => (
                        Status::RateLimited,
                        "Call again later, or set requests_per_second",
                    ),
                    (499..=599, _) => (Status::ServerError, "Call again"),
                    (404, 404) | (300..=399, _) => (Status::Rejected, "Check the URL"),
                    _ => (Status::Rejected, "Check the URL and the account"),
                };
                let said = sanitize(&read_description(&refusal.body), secrets);
                let said = match said.is_empty() {
                    true => String::new(),
                    false => format!(" The API said: \"{said}\"."),
                };
                let mut outcome = Outcome::new(
                    status,
                    format!(
                        "{advice}: the server refused {what} with {}, {consequence}.{said}",
                        refusal.code
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
                format!("Raise the timeout or requests_per_second: the turn to ask for {what} did not come in time, {consequence}."),
            ),
        }
    }
}
