//! Asks what a session policy needs before a deletion: the list of instances, the instance's state,
//! and its logout. [`crate::session`] decides what follows from the answers.
//!
//! Nothing here deletes anything, so every failure here means "nothing was deleted".
//!
//! Calls share one list. A reason against a deletion counts only if it comes from a list that was
//! requested after the call's submission was accepted. Such a list was true at a moment between the
//! submission and the result, and no result can promise more. So one list is enough for a bulk call
//! of any size, however late each deletion starts.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout_at};

use crate::ask::{Asker, Unanswered, ASK_INTERVAL};
use crate::instances::ListReader;
use crate::options::Session;
use crate::outcome::{fit, Outcome, PERHAPS_LOGGED_OUT};
use crate::secret::Secret;
use crate::session::{next, Answer, Known, Logout, Next, Note, Obstacle, Reply};
use crate::status::Status;
use crate::sync::lock;

/// The part of the timeout that is reserved for the deletion itself.
const RESERVE: Duration = Duration::from_secs(2);

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
    /// Locked while the list is read, so that calls that need the list at the same time share the
    /// list, or the failure to read it.
    reading: tokio::sync::Mutex<Option<Failed>>,
}

/// Its maps are not hash maps, because those keep their entries in one large block, for which there
/// may be no memory.
#[derive(Default)]
struct List {
    /// When the list with these instances was requested.
    asked_at: Option<Instant>,
    instances: BTreeMap<i64, Listed>,
    /// Instances that may be gone, each with the time since when: an older list does not count for
    /// them.
    forgotten: BTreeMap<i64, Instant>,
}

impl List {
    /// What the list says about an instance; `None` if the call needs a newer list.
    fn find(&self, id: i64, need: Need) -> Option<Option<&Listed>> {
        if self.forgotten.contains_key(&id) {
            return None;
        }
        let listed = self.instances.get(&id);
        let is_fresh = self.asked_at >= Some(need.not_before);
        let will_do = match listed {
            Some(Listed::Living(token)) => !need.refresh && !token.expose().is_empty(),
            Some(Listed::Deleted) | None => false,
        };
        (is_fresh || will_do).then_some(listed)
    }

    /// Replaces the list by one that was requested at `asked_at`.
    fn renew(&mut self, asked_at: Instant, mut instances: BTreeMap<i64, Listed>) {
        self.forgotten.retain(|_, since| *since >= asked_at);
        for id in self.forgotten.keys() {
            instances.remove(id);
        }
        self.instances = instances;
        self.asked_at = Some(asked_at);
    }

    fn forget(&mut self, id: i64, now: Instant) {
        self.instances.remove(&id);
        self.forgotten.insert(id, now);
    }
}

/// What a call requires of the list.
#[derive(Debug, Clone, Copy)]
struct Need {
    /// A reason against the deletion counts only if the list was requested after this time.
    not_before: Instant,
    /// Whether the call requires such a list in any case.
    refresh: bool,
}

/// A list that could not be read.
struct Failed {
    began: Instant,
    ended: Instant,
    why: Unanswered,
    is_for_want_of_time: bool,
}

#[derive(Clone)]
enum Listed {
    Deleted,
    /// The instance is not deleted; with the token for its own methods.
    Living(Secret),
}

impl Account {
    /// Forgets what is known about an instance that may be gone by now.
    pub fn forget(&self, id: i64) {
        lock(&self.list).forget(id, Instant::now());
    }

    /// The number of instances that are forgotten until the next list.
    #[cfg(test)]
    pub fn forgotten(&self) -> usize {
        lock(&self.list).forgotten.len()
    }

    /// Checks the session policy for the deletion of `id`, and logs the instance out if the policy
    /// says so. Returns a note for the message of the call, or the outcome of the call if the
    /// instance must not be deleted. `accepted`: when the submission was accepted. `before_logout`
    /// runs before a logout may be sent, and may forbid the logout. Adds the instance's tokens that
    /// it learns to `tokens`, for no message of the call may show one.
    pub async fn check_session(
        &self,
        asker: Asker<'_>,
        id: i64,
        accepted: Instant,
        deadline: Instant,
        mut before_logout: impl BeforeLogout,
        tokens: &mut Vec<Secret>,
    ) -> Result<Note, Outcome> {
        let options = asker.options;
        let reserve = RESERVE.min(options.timeout / 4);
        let mut check = Check {
            account: self,
            asker,
            id,
            tokens,
            accepted,
            until: deadline.checked_sub(reserve).unwrap_or(deadline),
            logout: Logout::Not,
            in_doubt: false,
            asked: false,
            wants_logout: false,
        };
        let until = check.until;
        let checked = match timeout_at(until.into(), check.run(&mut before_logout)).await {
            Ok(checked) => checked,
            Err(_) => check.out_of_time(),
        };
        checked.map_err(|outcome| Note::of(check.logout()).applied_to(outcome))
    }

    /// The instance's token, from a list that shows the instance or is as new as `need` requires.
    /// `known`: its tokens so far.
    async fn token(
        &self,
        asker: Asker<'_>,
        id: i64,
        known: &[Secret],
        need: Need,
        until: Instant,
    ) -> Result<Secret, Outcome> {
        let find = || {
            let list = lock(&self.list);
            list.find(id, need).map(Option::<&Listed>::cloned)
        };
        let listed = loop {
            if let Some(listed) = find() {
                break listed;
            }
            let explain =
                |why: &Unanswered| unknown("the list of instances", why, &asker.secrets(known));
            let waits_since = Instant::now();
            let mut failed = self.reading.lock().await;
            if find().is_some() {
                continue;
            }
            // Calls that waited for a list also share the failure to read it.
            let shared = failed
                .as_ref()
                .filter(|failed| failed.ended >= waits_since && failed.began >= need.not_before);
            if let Some(failed) = shared {
                return Err(explain(&failed.why));
            }
            *failed = None;
            if let Err(failure) = self.read_list(asker, until).await {
                let outcome = explain(&failure.why);
                // A call with more time may still read the list.
                if !failure.is_for_want_of_time {
                    *failed = Some(failure);
                }
                return Err(outcome);
            }
        };
        match listed {
            Some(Listed::Living(token)) if token.expose().is_empty() => Err(Outcome::new(
                Status::SessionUnknown,
                "Give the instance a token in the console: the list has no usable one for it, so its state cannot be asked and no deletion was sent.",
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

    /// Reads the list anew.
    async fn read_list(&self, asker: Asker<'_>, until: Instant) -> Result<(), Failed> {
        let began = Instant::now();
        let mut tries = 0;
        loop {
            let why = match read(asker, until).await {
                Ok((asked_at, instances)) => {
                    lock(&self.list).renew(asked_at, instances);
                    return Ok(());
                }
                Err(why) => why,
            };
            let now = Instant::now();
            let pause = asker.retry(tries, &why);
            if let Some(pause) = pause.filter(|pause| *pause < until.saturating_duration_since(now))
            {
                sleep(pause).await;
                tries += 1;
                continue;
            }
            return Err(Failed {
                began,
                ended: now,
                is_for_want_of_time: pause.is_some() || why.is_for_want_of_time(),
                why,
            });
        }
    }
}

/// Reads the list: for each instance, whether it is deleted, and its token. Also returns when the
/// list was requested.
async fn read(
    asker: Asker<'_>,
    until: Instant,
) -> Result<(Instant, BTreeMap<i64, Listed>), Unanswered> {
    asker.start(Some(until)).await?;
    let asked_at = Instant::now();
    let mut response = asker.list(until).await?;
    let mut reader = ListReader::default();
    let mut instances = BTreeMap::new();
    while let Some(chunk) = asker.list_chunk(&mut response, until).await? {
        let mut rest = &chunk[..];
        while let Some(item) = reader.next(&mut rest).map_err(|_| response.no_list())? {
            let listed = match item.instance.is_deleted {
                true => Listed::Deleted,
                false => Listed::Living(item.token),
            };
            instances.insert(item.instance.id, listed);
        }
    }
    match reader.is_whole() {
        true => Ok((asked_at, instances)),
        false => Err(response.no_list()),
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

/// The outcome of a call that the session policy refuses because of `answer`.
fn refused(status: Status, why: String, answer: Answer) -> Outcome {
    let mut outcome = Outcome::new(status, why);
    outcome.code = i32::from(answer.code);
    outcome.http_status = i32::from(answer.http_status);
    outcome
}

/// The check of the session policy for one call.
struct Check<'a> {
    account: &'a Account,
    asker: Asker<'a>,
    id: i64,
    /// The instance's tokens according to the lists that were read; the last one is valid.
    tokens: &'a mut Vec<Secret>,
    /// When the submission was accepted, perhaps long before the call was started.
    accepted: Instant,
    until: Instant,
    logout: Logout,
    /// Whether an attempt to log out that has no clear answer may have been carried out.
    in_doubt: bool,
    /// Whether the instance has answered yet.
    asked: bool,
    /// Whether the instance has been found to need a logout.
    wants_logout: bool,
}

impl Check<'_> {
    async fn run(&mut self, before_logout: &mut impl BeforeLogout) -> Result<Note, Outcome> {
        let policy = self.asker.options.session;
        self.learn_token(false).await?;
        let mut fresh = false;
        let mut reply = self.ask().await?;
        loop {
            let known = Known {
                logout: self.logout(),
                time: self.until.saturating_duration_since(Instant::now()) > ASK_INTERVAL,
                fresh,
            };
            match next(policy, &reply, known) {
                Next::Delete(note) => return Ok(note),
                Next::Refuse(status, why) => {
                    let answer = match reply {
                        Reply::CannotBeAsked(_, answer) => answer,
                        _ => Answer::default(),
                    };
                    return Err(refused(status, why, answer));
                }
                Next::Ask => {
                    reply = match self.ask().await {
                        Ok(reply) => reply,
                        Err(outcome) => return self.unconfirmed(outcome),
                    };
                }
                Next::LogOut => {
                    self.wants_logout = true;
                    before_logout.note().await?;
                    self.log_out().await?;
                    // The state after the logout decides. Without an answer about the state, the
                    // answer to the logout may be enough.
                    reply = match self.ask().await {
                        Ok(reply) => reply,
                        Err(outcome) => return self.unconfirmed(outcome),
                    };
                }
                Next::Refresh => {
                    fresh = true;
                    if self.learn_token(true).await? {
                        reply = self.ask().await?;
                    }
                }
            }
        }
    }

    /// Looks up the instance's token, and returns whether it is a new one.
    async fn learn_token(&mut self, refresh: bool) -> Result<bool, Outcome> {
        let need = Need {
            not_before: self.accepted,
            refresh,
        };
        let known = &self.tokens[..];
        let token = self
            .account
            .token(self.asker, self.id, known, need, self.until);
        let token = token.await?;
        let is_new = known.last() != Some(&token);
        if is_new {
            self.tokens.push(token);
        }
        Ok(is_new)
    }

    async fn ask(&mut self) -> Result<Reply, Outcome> {
        let asked = async {
            self.asker.start(Some(self.until)).await?;
            self.asker.state(self.id, self.tokens, self.until).await
        };
        match asked.await {
            Ok(reply) => {
                self.asked = true;
                Ok(reply)
            }
            // After an earlier answer the call has started, so `NOT_STARTED` would be wrong.
            Err(Unanswered::NotStarted { held: false }) if self.asked => Err(self.not_in_time()),
            Err(why) => {
                let secrets = self.asker.secrets(self.tokens);
                Err(unknown("the session's state", &why, &secrets))
            }
        }
    }

    /// Sends the logout.
    async fn log_out(&mut self) -> Result<(), Outcome> {
        let asked = async {
            self.asker.start(Some(self.until)).await?;
            let doubt = &mut self.in_doubt;
            let tokens = &self.tokens[..];
            self.asker.log_out(self.id, tokens, self.until, doubt).await
        };
        match asked.await {
            Ok(Reply::LogOut(true)) => self.logout = Logout::Accepted,
            // This is no answer of the API to the logout. If an earlier attempt may have been carried
            // out, the state decides.
            Ok(Reply::CannotBeAsked(Obstacle::Foreign(_), _)) if self.in_doubt => {}
            Ok(Reply::CannotBeAsked(obstacle @ Obstacle::Foreign(_), answer)) => {
                let (status, why) = obstacle.refusal();
                return Err(refused(status, why, answer));
            }
            Ok(_) => self.logout = Logout::Refused,
            Err(_) if self.in_doubt => {}
            Err(Unanswered::NotStarted { held: false }) => return Err(self.not_in_time()),
            Err(why) => {
                let secrets = self.asker.secrets(self.tokens);
                return Err(unknown("the logout", &why, &secrets));
            }
        }
        Ok(())
    }

    /// How far the logout has come.
    fn logout(&self) -> Logout {
        match self.logout {
            Logout::Not if self.in_doubt => Logout::Unclear,
            Logout::Refused if self.in_doubt => Logout::RefusedInDoubt,
            logout => logout,
        }
    }

    /// Decides what to do if the effect of the logout is unknown: `TRY_LOG_OUT` still deletes if
    /// the API answered the logout; otherwise the call ends with `outcome`.
    fn unconfirmed(&self, outcome: Outcome) -> Result<Note, Outcome> {
        let tries = self.asker.options.session == Session::TryLogOut;
        match self.logout() {
            Logout::Accepted | Logout::RefusedInDoubt if tries => Ok(Note::MaybeLoggedOut),
            Logout::Refused if tries => Ok(Note::NotLoggedOut("it refuses".into())),
            _ => Err(outcome),
        }
    }

    /// Decides what to do when the time is over; as [`Check::unconfirmed`].
    fn out_of_time(&self) -> Result<Note, Outcome> {
        self.unconfirmed(self.not_in_time())
    }

    fn not_in_time(&self) -> Outcome {
        match self.logout() {
            Logout::Not if self.wants_logout => Outcome::new(
                Status::SessionActive,
                "Raise the timeout or call again: the instance is not logged out, and there was no time to log it out, so it was not deleted.",
            ),
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
