//! Asks what a session policy needs before a deletion: the list of instances, the instance's state,
//! and its logout. [`crate::session`] decides what follows from the answers.
//!
//! Nothing here deletes anything, so whatever goes wrong here leaves "nothing was deleted".

use std::collections::HashMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::ask::{Asker, Turns, Unanswered, ASK_INTERVAL};
use crate::instances::ListReader;
use crate::options::Session;
use crate::outcome::{fit, Outcome, PERHAPS_LOGGED_OUT};
use crate::secret::Secret;
use crate::session::{next, Known, Logout, Next, Note, Reply};
use crate::status::Status;
use crate::sync::lock;

/// The part of the timeout that is reserved for the deletion itself.
const RESERVE: Duration = Duration::from_secs(2);

/// How many bytes are kept of a response, to find the API's reason if it is not a list.
const START: usize = 1024;

const NO_DELETION: &str = "so no deletion was sent";

/// Records that a logout is about to be sent.
pub trait BeforeLogout: Send {
    /// Records that a logout may be sent from here on; after an error it must not be sent.
    fn note(&mut self) -> impl Future<Output = Result<(), Outcome>> + Send;
}

/// What this process knows about the account, shared by all calls of a client.
#[derive(Default)]
pub struct Account {
    list: Mutex<List>,
    /// Held while the list is read, so that calls that need it at once share it.
    reading: tokio::sync::Mutex<()>,
    turns: Turns,
}

#[derive(Default)]
struct List {
    /// When the list with these instances was requested.
    asked_at: Option<Instant>,
    instances: HashMap<i64, Listed>,
}

#[derive(Clone)]
enum Listed {
    Deleted,
    /// The instance is not deleted; with the token for its own methods.
    Living(Secret),
}

impl Account {
    pub fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Forgets what was learned of an instance that may be gone by now.
    pub fn forget(&self, id: i64) {
        lock(&self.list).instances.remove(&id);
    }

    /// Sees to it that the session policy allows the deletion of `id`: what its result has to say
    /// of the session, or the outcome of the call if the instance is not to be deleted.
    /// `before_logout` is done before a logout may be sent, and may forbid it.
    pub async fn check_session(
        &self,
        asker: Asker<'_>,
        id: i64,
        deadline: Instant,
        mut before_logout: impl BeforeLogout,
    ) -> Result<Note, Outcome> {
        let options = asker.options;
        let reserve = RESERVE.min(options.timeout / 4);
        let mut check = Check {
            account: self,
            asker,
            id,
            called: Instant::now(),
            until: deadline.checked_sub(reserve).unwrap_or(deadline),
            logout: Logout::Not,
            asked: false,
        };
        let until = check.until;
        let checked = match timeout_at(until.into(), check.run(&mut before_logout)).await {
            Ok(checked) => checked,
            Err(_) => check.out_of_time(),
        };
        checked.map_err(|outcome| Note::of(check.logout).applied_to(outcome))
    }

    /// The instance's own token, by a list that shows it or is no older than `not_before`.
    async fn token(
        &self,
        asker: Asker<'_>,
        id: i64,
        not_before: Instant,
        until: Instant,
        refresh: bool,
    ) -> Result<Secret, Outcome> {
        let found = || {
            let list = lock(&self.list);
            let fresh = list.asked_at >= Some(not_before);
            match list.instances.get(&id) {
                Some(Listed::Living(token)) if fresh || !(refresh || token.expose().is_empty()) => {
                    Some(Some(Listed::Living(token.clone())))
                }
                listed if fresh => Some(listed.cloned()),
                _ => None,
            }
        };
        let listed = match found() {
            Some(listed) => listed,
            None => {
                let _reading = self.reading.lock().await;
                match found() {
                    Some(listed) => listed,
                    None => {
                        self.read_list(asker, until).await?;
                        lock(&self.list).instances.get(&id).cloned()
                    }
                }
            }
        };
        match listed {
            Some(Listed::Living(token)) if token.expose().is_empty() => Err(Outcome::new(
                Status::SessionUnknown,
                "Give the instance a token in the console: the list has none for it, so its state cannot be asked and no deletion was sent.",
            )),
            Some(Listed::Living(token)) => Ok(token),
            // The list's flag decides and not the state, because a deleted instance may answer as
            // if it were starting (GREEN-API's issue 637).
            Some(Listed::Deleted) => Err(Outcome::new(
                Status::NotFound,
                "According to the account's list this instance had been deleted before; no deletion was sent.",
            )),
            None => Err(Outcome::new(
                Status::NotFound,
                "The account's list does not show this instance; no deletion was sent.",
            )),
        }
    }

    async fn read_list(&self, asker: Asker<'_>, until: Instant) -> Result<(), Outcome> {
        let mut tries = 0;
        loop {
            let asked_at = Instant::now();
            let why = match read(asker, until).await {
                Ok(instances) => {
                    *lock(&self.list) = List {
                        asked_at: Some(asked_at),
                        instances,
                    };
                    return Ok(());
                }
                Err(why) => why,
            };
            match asker.pause(tries, &why, until) {
                Some(pause) => sleep(pause).await,
                None => {
                    let secrets = [asker.token];
                    return Err(unknown("the list of instances", &why, &secrets));
                }
            }
            tries += 1;
        }
    }
}

/// The list, as much of it as is needed here.
async fn read(asker: Asker<'_>, until: Instant) -> Result<HashMap<i64, Listed>, Unanswered> {
    asker.start(Some(until)).await?;
    let mut response = asker.list(until).await?;
    let http_status = response.http_status;
    let mut reader = ListReader::default();
    let mut instances = HashMap::new();
    let mut start = Vec::new();
    while let Some(chunk) = asker.chunk(&mut response, until).await? {
        start.extend(chunk.iter().take(START.saturating_sub(start.len())));
        let mut rest = &chunk[..];
        while let Some(item) = reader
            .next(&mut rest)
            .map_err(|_| Unanswered::no_list(http_status, &start))?
        {
            let listed = match item.instance.is_deleted {
                true => Listed::Deleted,
                false => Listed::Living(item.token),
            };
            instances.insert(item.instance.id, listed);
        }
    }
    match reader.is_whole() {
        true => Ok(instances),
        false => Err(Unanswered::no_list(http_status, &start)),
    }
}

/// The outcome of a call whose question to the API was not answered.
fn unknown(what: &'static str, why: &Unanswered, secrets: &[&Secret]) -> Outcome {
    let mut outcome = why.explain(what, NO_DELETION, secrets);
    // These statuses would speak about the deletion, but they are about the question, and no
    // deletion was sent.
    if matches!(
        outcome.status,
        Status::ConnectionLost
            | Status::Timeout
            | Status::ServerError
            | Status::BadResponse
            | Status::Rejected
            | Status::Unprocessed
    ) {
        outcome.status = Status::SessionUnknown;
    }
    outcome
}

/// The check of the session policy for one call.
struct Check<'a> {
    account: &'a Account,
    asker: Asker<'a>,
    id: i64,
    /// When the call began.
    called: Instant,
    until: Instant,
    logout: Logout,
    /// Whether the instance has answered yet.
    asked: bool,
}

impl Check<'_> {
    async fn run(&mut self, before_logout: &mut impl BeforeLogout) -> Result<Note, Outcome> {
        let policy = self.asker.options.session;
        let mut token = self.token(false).await?;
        let mut fresh = false;
        let mut reply = self.ask(&token).await?;
        loop {
            let known = Known {
                logout: self.logout,
                time: self.until.saturating_duration_since(Instant::now()) > ASK_INTERVAL,
                fresh,
            };
            match next(policy, &reply, known) {
                Next::Delete(note) => return Ok(note),
                Next::Refuse(status, why) => {
                    let mut outcome = Outcome::new(status, why);
                    if let Reply::CannotBeAsked(_, answer) = &reply {
                        outcome.code = i32::from(answer.code);
                        outcome.http_status = i32::from(answer.http_status);
                    }
                    return Err(outcome);
                }
                Next::Ask => {
                    reply = match self.ask(&token).await {
                        Ok(reply) => reply,
                        Err(outcome) => return self.unconfirmed(outcome),
                    };
                }
                Next::LogOut => {
                    before_logout.note().await?;
                    self.log_out(&token).await?;
                    // The state after the logout decides. Without an answer about the state, the
                    // answer to the logout may be enough.
                    reply = match self.ask(&token).await {
                        Ok(reply) => reply,
                        Err(outcome) => return self.unconfirmed(outcome),
                    };
                }
                Next::Refresh => {
                    fresh = true;
                    let renewed = self.token(true).await?;
                    if renewed != token {
                        token = renewed;
                        reply = self.ask(&token).await?;
                    }
                }
            }
        }
    }

    async fn token(&self, refresh: bool) -> Result<Secret, Outcome> {
        self.account
            .token(self.asker, self.id, self.called, self.until, refresh)
            .await
    }

    async fn ask(&mut self, token: &Secret) -> Result<Reply, Outcome> {
        let secrets = [self.asker.token, token];
        let asked = async {
            self.asker.start(Some(self.until)).await?;
            self.asker.state(self.id, token, self.until).await
        };
        match asked.await {
            Ok(reply) => {
                self.asked = true;
                Ok(reply)
            }
            // After an earlier answer the call has started, so `NOT_STARTED` would be wrong.
            Err(Unanswered::NotStarted { held: false }) if self.asked => Err(self.not_in_time()),
            Err(why) => Err(unknown("the session's state", &why, &secrets)),
        }
    }

    /// Sends the logout.
    async fn log_out(&mut self, token: &Secret) -> Result<(), Outcome> {
        let asked = async {
            self.asker.start(Some(self.until)).await?;
            // From here on the instance may be logged out, whatever happens.
            self.logout = Logout::Unclear;
            self.asker.log_out(self.id, token, self.until).await
        };
        match asked.await {
            Ok(Reply::LogOut(true)) => self.logout = Logout::Accepted,
            Ok(_) => self.logout = Logout::Refused,
            Err(why @ Unanswered::NotStarted { .. }) => {
                return Err(unknown("the logout", &why, &[]));
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Decides what to do if the effect of the logout is unknown: `TRY_LOG_OUT` still deletes if
    /// the API answered the logout; otherwise the call ends with `outcome`.
    fn unconfirmed(&self, outcome: Outcome) -> Result<Note, Outcome> {
        let tries = self.asker.options.session == Session::TryLogOut;
        match self.logout {
            Logout::Accepted if tries => Ok(Note::MaybeLoggedOut),
            Logout::Refused if tries => Ok(Note::NotLoggedOut("it refuses".into())),
            _ => Err(outcome),
        }
    }

    /// Decides what to do when the time is over; as [`Check::unconfirmed`].
    fn out_of_time(&self) -> Result<Note, Outcome> {
        self.unconfirmed(self.not_in_time())
    }

    fn not_in_time(&self) -> Outcome {
        match self.logout {
            Logout::Not => Outcome::new(
                Status::SessionUnknown,
                "Raise the timeout or call again: the session's state could not be learned in time, so no deletion was sent.",
            ),
            _ => Outcome::new(
                Status::SessionActive,
                "Call again: the logout could not be confirmed in time, so the instance was not deleted.",
            ),
        }
    }
}

impl Note {
    /// Adds the note to the message of an outcome.
    pub fn applied_to(&self, mut outcome: Outcome) -> Outcome {
        let deleted = outcome.status == Status::Ok;
        outcome.message = match (self, deleted) {
            (Self::Nothing, _) => return outcome,
            (Self::LoggedOut, true) => "The instance was logged out, then deleted.".into(),
            (Self::LoggedOut, false) => return outcome.preceded_by("Logged out"),
            (Self::MaybeLoggedOut, true) => {
                "The instance was deleted. A logout was requested before, but could not be confirmed."
                    .into()
            }
            (Self::MaybeLoggedOut, false) => return outcome.preceded_by(PERHAPS_LOGGED_OUT),
            (Self::NotLoggedOut(why), true) => {
                fit(format!("The instance was deleted. It could not be logged out: {why}.").into())
            }
            (Self::NotLoggedOut(why), false) => {
                return outcome.preceded_by(&format!("Not logged out ({why})"))
            }
        };
        outcome
    }
}
