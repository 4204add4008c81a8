//! What a client learns about the account before it deletes under a session policy: the list of
//! instances, an instance's state, and its logout. The decisions are in [`crate::session`].
//!
//! Nothing here deletes anything, so whatever goes wrong here leaves "nothing was deleted".

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use tokio::time::{sleep, sleep_until, timeout_at};

use crate::answer::BODY_LIMIT;
use crate::client::Client;
use crate::failure::{Failure, Purpose, Stage};
use crate::outcome::Outcome;
use crate::retry::{self, retry_after};
use crate::secret::Secret;
use crate::session::{
    next, read_code, read_logout, read_state, Instance, ListReader, Logout, Next,
};
use crate::status::Status;
use crate::sync::lock;
use crate::transport::{StreamedResponse, Transport};

/// The API allows the state and logout methods one request per second for each instance.
const ASK_INTERVAL: Duration = Duration::from_millis(1_010);

/// The time kept back for the deletion itself.
const RESERVE: Duration = Duration::from_secs(2);

/// 100,000 instances take some 40 MB; this is for servers that never stop.
const LIST_LIMIT: usize = 1 << 30;

/// What is known of the account in this process, shared by all calls of a client.
#[derive(Default)]
pub struct Account {
    known: Mutex<Known>,
    /// Held while the list is read, so that calls that need it at once share it.
    reading: tokio::sync::Mutex<()>,
    /// When an instance may be asked next.
    turns: Mutex<HashMap<i64, Instant>>,
}

#[derive(Default)]
struct Known {
    /// When the list was asked for that these are from.
    asked_at: Option<Instant>,
    instances: HashMap<i64, Instance>,
}

/// The right to ask an instance something. The pause to the next one counts from its end: what
/// the API counts is when requests arrive, and this one has arrived by then.
struct Turn<'a> {
    account: &'a Account,
    id: i64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut turns = lock(&self.account.turns);
        let next = Instant::now() + ASK_INTERVAL;
        let turn = turns.entry(self.id).or_insert(next);
        *turn = (*turn).max(next);
    }
}

/// Why a question has no answer.
enum Trouble {
    Failed(Failure),
    Refused {
        number: u16,
        retry_after: Option<Duration>,
    },
    Unreadable,
}

impl Client {
    /// Sees to it that the session policy allows the deletion of `id`: whether the instance was
    /// logged out for that, or the outcome of the call if it is not to be deleted.
    pub async fn check_session(
        &self,
        transport: &Transport,
        id: i64,
        deadline: Instant,
    ) -> Result<bool, Outcome> {
        let reserve = RESERVE.min(self.options().timeout / 4);
        let until = deadline.checked_sub(reserve).unwrap_or(deadline);
        let mut logout = None;
        let checked = self.walk(transport, id, until, &mut logout);
        match timeout_at(until.into(), checked).await {
            Ok(checked) => checked?,
            Err(_) => return Err(match logout {
                None => Outcome::new(
                    Status::SessionUnknown,
                    "The session's state could not be learned in time, so no deletion was sent: raise timeout_ms or call again.",
                ),
                Some(_) => Outcome::new(
                    Status::SessionActive,
                    "The logout could not be confirmed in time, so the instance was not deleted: call again.",
                ),
            }),
        }
        Ok(logout.is_some())
    }

    async fn walk(
        &self,
        transport: &Transport,
        id: i64,
        until: Instant,
        logout: &mut Option<Logout>,
    ) -> Result<(), Outcome> {
        let mut token = self.instance_token(transport, id, None).await?;
        let mut renewed = false;
        loop {
            let state = self.ask_instance(transport, id, "getStateInstance", &token);
            let state = match state.await {
                Ok((_, body)) => read_state(&body).ok_or(Trouble::Unreadable),
                Err(trouble) => Err(trouble),
            };
            let state = match state {
                Ok(state) => state,
                // An instance that was deleted long ago may answer 401 (GREEN-API's issue 1002),
                // and its token may have been renewed: only a new list tells.
                Err(Trouble::Refused { number: 401, .. }) if !renewed => {
                    renewed = true;
                    token = self
                        .instance_token(transport, id, Some(Instant::now()))
                        .await?;
                    continue;
                }
                Err(trouble) => return Err(self.explain("the session's state", trouble)),
            };
            let time = until.saturating_duration_since(Instant::now()) > ASK_INTERVAL;
            match next(self.options().session, &state, logout.as_ref(), time) {
                Next::Delete => return Ok(()),
                Next::Ask => {}
                Next::Refuse(why) => return Err(Outcome::new(Status::SessionActive, why)),
                Next::LogOut => {
                    // From here on the instance may be logged out, whatever comes.
                    *logout = Some(Logout::Unclear);
                    let answer = self.ask_instance(transport, id, "logout", &token).await;
                    *logout = Some(match answer {
                        Ok((http_status, body)) => read_logout(http_status, &body),
                        Err(Trouble::Refused {
                            number: 400..=498, ..
                        }) => Logout::Refused,
                        Err(_) => Logout::Unclear,
                    });
                }
            }
        }
    }

    /// The instance's own token, by the list. One that does not show the instance, or was asked
    /// for before `not_before`, is read anew.
    async fn instance_token(
        &self,
        transport: &Transport,
        id: i64,
        not_before: Option<Instant>,
    ) -> Result<Secret, Outcome> {
        let called = Instant::now();
        let settled = |known: &Known| match known.instances.get(&id) {
            Some(_) => known.asked_at >= not_before,
            None => known.asked_at >= Some(called),
        };
        if !settled(&self.known()) {
            let _reading = self.account().reading.lock().await;
            if !settled(&self.known()) {
                self.read_list(transport).await?;
            }
        }
        token_of(&self.known(), id)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.account().known)
    }

    async fn read_list(&self, transport: &Transport) -> Result<(), Outcome> {
        let path = format!(
            "{}/partner/getInstances/{}",
            self.endpoint().prefix,
            self.token().path_segment()
        );
        let asked_at = Instant::now();
        let instances = self
            .ask(transport, &path, async |mut page: StreamedResponse| {
                let mut reader = ListReader::default();
                let mut start = Vec::new();
                let mut total = 0;
                while let Some(chunk) = page.chunk().await.map_err(Trouble::Failed)? {
                    total += chunk.len();
                    start.extend_from_slice(
                        &chunk[..chunk.len().min(1024usize.saturating_sub(start.len()))],
                    );
                    if total > LIST_LIMIT || reader.feed(&chunk).is_err() {
                        return Err(refusal_in(&start));
                    }
                }
                reader.finish().map_err(|_| refusal_in(&start))
            })
            .await
            .map_err(|trouble| self.explain("the list of instances", trouble))?;
        *self.known() = Known {
            asked_at: Some(asked_at),
            instances,
        };
        Ok(())
    }

    /// Asks one of the instance's own methods, never faster than allowed.
    async fn ask_instance(
        &self,
        transport: &Transport,
        id: i64,
        method: &str,
        token: &Secret,
    ) -> Result<(u16, Vec<u8>), Trouble> {
        let path = format!(
            "{}/waInstance{id}/{method}/{}",
            self.endpoint().prefix,
            token.path_segment()
        );
        self.ask_in_turn(
            transport,
            &path,
            Some(id),
            async |mut page: StreamedResponse| {
                let mut body = Vec::new();
                while let Some(chunk) = page.chunk().await.map_err(Trouble::Failed)? {
                    body.extend_from_slice(&chunk);
                    if body.len() > BODY_LIMIT {
                        return Err(Trouble::Unreadable);
                    }
                }
                match read_code(&body) {
                    Some(number) if number != 200 => Err(Trouble::Refused {
                        number,
                        retry_after: None,
                    }),
                    _ => Ok((page.http_status, body)),
                }
            },
        )
        .await
    }

    async fn ask<T>(
        &self,
        transport: &Transport,
        path: &str,
        read: impl AsyncFnMut(StreamedResponse) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        self.ask_in_turn(transport, path, None, read).await
    }

    /// Sends a GET until it has an answer or the retries are used up.
    async fn ask_in_turn<T>(
        &self,
        transport: &Transport,
        path: &str,
        instance: Option<i64>,
        mut read: impl AsyncFnMut(StreamedResponse) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut tries = 0;
        loop {
            let turn = match instance {
                Some(id) => Some(self.wait_for_turn(id).await),
                None => None,
            };
            self.pace().wait(None).await;
            let page = transport
                .read(self.endpoint(), path, &self.options().user_agent)
                .await;
            let trouble = match page {
                Ok(page) if (200..300).contains(&page.http_status) => match read(page).await {
                    Ok(answer) => return Ok(answer),
                    Err(trouble) => trouble,
                },
                Ok(page) => Trouble::Refused {
                    number: page.http_status,
                    retry_after: page
                        .retry_after
                        .as_deref()
                        .and_then(|header| retry_after(header, SystemTime::now())),
                },
                Err(failure) => Trouble::Failed(failure),
            };
            let asked_pause = match &trouble {
                Trouble::Failed(failure) => match failure.stage {
                    Stage::Proxy | Stage::Certificate | Stage::Resources => return Err(trouble),
                    _ => None,
                },
                Trouble::Refused {
                    number: number @ (429 | 499 | 500 | 502 | 503 | 504),
                    retry_after,
                } => {
                    if let (429, Some(pause)) = (number, retry_after) {
                        self.pace().hold(*pause);
                    }
                    *retry_after
                }
                Trouble::Refused { .. } => return Err(trouble),
                Trouble::Unreadable => None,
            };
            if tries == self.options().max_retries {
                return Err(trouble);
            }
            drop(turn);
            sleep(retry::pause(tries, fastrand::f64(), asked_pause)).await;
            tries += 1;
        }
    }

    async fn wait_for_turn(&self, id: i64) -> Turn<'_> {
        let turn = {
            let turns = &self.account().turns;
            let mut turns = lock(turns);
            let now = Instant::now();
            let turn = turns.get(&id).map_or(now, |turn| (*turn).max(now));
            // Past turns say nothing any more.
            if turns.len() > 1024 {
                turns.retain(|_, turn| *turn > now);
            }
            turns.insert(id, turn + ASK_INTERVAL);
            turn
        };
        let mine = Turn {
            account: self.account(),
            id,
        };
        sleep_until(turn.into()).await;
        mine
    }

    /// The outcome of a call whose question has no answer.
    fn explain(&self, what: &'static str, trouble: Trouble) -> Outcome {
        const UNSENT: &str = "so no deletion was sent";
        match trouble {
            Trouble::Failed(failure) => {
                failure.explain(Purpose::Question(what), std::iter::once(self.token()))
            }
            Trouble::Refused { number, .. } => {
                let (status, advice) = match number {
                    401 => (Status::Unauthorized, "check the token"),
                    403 => (Status::Forbidden, "this token may not ask for it"),
                    429 => (Status::RateLimited, "call again later, or set requests_per_second"),
                    _ => (Status::SessionUnknown, "call again"),
                };
                let mut outcome = Outcome::new(
                    status,
                    format!("The server refused {what} with {number}, {UNSENT}: {advice}."),
                );
                outcome.code = i32::from(number);
                outcome.http_status = i32::from(number);
                outcome
            }
            Trouble::Unreadable => Outcome::new(
                Status::SessionUnknown,
                format!("The answer with {what} could not be understood, {UNSENT}: check the URL and call again."),
            ),
        }
    }
}

fn token_of(known: &Known, id: i64) -> Result<Secret, Outcome> {
    match known.instances.get(&id) {
        Some(Instance::Living(token)) if token.expose().is_empty() => Err(Outcome::new(
            Status::SessionUnknown,
            "The list of instances has no token for this one, so its state cannot be asked and no deletion was sent.",
        )),
        Some(Instance::Living(token)) => Ok(token.clone()),
        // The list's flag decides, not the state: a deleted instance answers as if it were starting
        // (GREEN-API's issue 637).
        Some(Instance::Deleted) => Err(Outcome::new(
            Status::NotFound,
            "The account's list shows this instance as deleted before; no deletion was sent.",
        )),
        None => Err(Outcome::new(
            Status::NotFound,
            "The account's list does not show this instance; no deletion was sent.",
        )),
    }
}

/// Where there should be a list: an error that the API reports inside HTTP 200, or nonsense.
fn refusal_in(start: &[u8]) -> Trouble {
    match read_code(start) {
        Some(number) if number != 200 => Trouble::Refused {
            number,
            retry_after: None,
        },
        _ => Trouble::Unreadable,
    }
}

/// The words for a deletion that needed a logout.
pub fn after_logout(mut outcome: Outcome) -> Outcome {
    outcome.message = match outcome.status {
        Status::Ok => "The instance was logged out, then deleted.".into(),
        _ => crate::outcome::fit(format!("Logged out; then: {}", outcome.message).into()),
    };
    outcome
}
