//! The session policy: decides whether an instance may be deleted although a device may be logged
//! in.
//!
//! Deleting an instance does not end the session on the linked device: the session stays in the
//! phone's app (GREEN-API's issue 615). What each policy does, depending on the instance:
//!
//! | the instance | `REQUIRE_LOGGED_OUT` | `LOG_OUT` | `TRY_LOG_OUT` |
//! |---|---|---|---|
//! | is `notAuthorized` | delete | delete | delete |
//! | is in any other state | refuse | log out, delete once it is | log out, delete |
//! | is `starting` | ask again, then refuse | log out, … | log out, delete |
//! | cannot be asked: it is deleted | delete | delete | delete |
//! | cannot be asked: it starts | ask again, then refuse | ask again, then refuse | delete |
//! | cannot be asked for another reason | refuse | refuse | delete |
//! | does not answer, but another server refuses | refuse | refuse | refuse |
//!
//! Only a refusal that the API documents counts as the instance's answer ([`read_refusal`]). Any
//! other 4xx, like the page of a proxy or a firewall, says nothing about the session, whether it
//! answers the question about the state or the logout.
//!
//! Every state but `notAuthorized` counts as a session: a device that is switched off or limited is
//! logged in, a session may return when a ban is lifted, and an unknown state may mean a session.
//!
//! A deleted instance may answer as if it were `starting` (GREEN-API's issue 637), or refuse its
//! token (issue 1002). So an answer that forbids the deletion counts only if the account's list,
//! read after the call began, still shows the instance.

use serde::de::DeserializeOwned;

use crate::instances::State;
use crate::json::{self, Object};
use crate::options::Session;
use crate::outcome::sanitize;
use crate::secret::Secret;
use crate::status::Status;

/// The answer of one of an instance's own methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The state, and the API's name for it, safe to print.
    State(State, String),
    /// Whether the instance accepted the logout.
    LogOut(bool),
    /// The instance cannot be asked; with the codes of the answer that said so.
    CannotBeAsked(Obstacle, Answer),
}

/// The codes of an answer; 0 for one without an error, because a 200 in the result would look like a
/// deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    /// The API's own `code`, else the HTTP status.
    pub code: u16,
    pub http_status: u16,
}

/// Why an instance cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    Deleted,
    Expired,
    Creating,
    Starting,
    /// An HTTP 404 page: the server does not know the instance or the method.
    NotFound,
    /// The instance's token is refused, with 401 or 403.
    Denied(u16),
    /// Another reason, in the API's words, safe to print.
    Other(String),
    /// Another server than the API refused the question, with this number.
    Foreign(u16),
}

impl Reply {
    /// The state as the list shows it.
    pub fn state(&self) -> State {
        match self {
            Self::State(state, _) => *state,
            Self::CannotBeAsked(Obstacle::Expired, _) => State::Expired,
            Self::CannotBeAsked(Obstacle::Creating, _) => State::Creating,
            Self::CannotBeAsked(Obstacle::Starting, _) => State::Starting,
            Self::CannotBeAsked(..) | Self::LogOut(_) => State::Unknown,
        }
    }
}

/// How far a logout has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logout {
    /// No logout was requested.
    Not,
    /// The API accepted the logout: the state will change.
    Accepted,
    /// The API refused the logout.
    Refused,
    /// The API refused the logout, but an earlier attempt of the same call, which got no clear
    /// answer, may have logged the instance out.
    RefusedInDoubt,
    /// The logout was requested, but no clear answer came.
    Unclear,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Delete(Note),
    LogOut,
    /// Ask for the state again.
    Ask,
    /// Read the list anew, because it is older than the call, and decide again.
    Refresh,
    /// Delete nothing, and say why.
    Refuse(Status, String),
}

/// What the message of a call has to say about the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Nobody was logged in.
    Nothing,
    LoggedOut,
    /// A logout was accepted, or may have been.
    MaybeLoggedOut,
    /// The instance could not be logged out, for this reason.
    NotLoggedOut(String),
}

impl Note {
    /// The note that follows from the logout alone.
    pub fn of(logout: Logout) -> Self {
        match logout {
            Logout::Not | Logout::Refused => Self::Nothing,
            Logout::Accepted => Self::LoggedOut,
            Logout::Unclear | Logout::RefusedInDoubt => Self::MaybeLoggedOut,
        }
    }
}

/// The facts on which the next step depends, besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub logout: Logout,
    /// Whether there is time to ask again and delete.
    pub time: bool,
    /// Whether the list is no older than the call.
    pub fresh: bool,
}

/// Decides the next step from the instance's last answer.
pub fn next(policy: Session, reply: &Reply, known: Known) -> Next {
    let deleted = Next::Delete(Note::of(known.logout));
    match reply {
        _ if policy == Session::Ignore => deleted,
        Reply::State(State::NotAuthorized, _) => deleted,
        Reply::State(state, name) => next_by_state(policy, *state, name, known),
        Reply::CannotBeAsked(obstacle, _) => match obstacle {
            _ if !known.fresh => Next::Refresh,
            // The list still shows the instance; the deletion itself will settle the contradiction.
            Obstacle::Deleted => deleted,
            // After a logout an instance restarts, so it is asked again.
            _ if known.logout == Logout::Accepted && known.time => Next::Ask,
            Obstacle::Starting if policy != Session::TryLogOut && known.time => Next::Ask,
            // Another server's word permits no deletion; the API's answer to a logout still does.
            Obstacle::Foreign(_) if matches!(known.logout, Logout::Not | Logout::Unclear) => {
                obstacle.refuse()
            }
            _ if policy == Session::TryLogOut => Next::Delete(match known.logout {
                Logout::Refused if matches!(obstacle, Obstacle::Foreign(_)) => {
                    Note::NotLoggedOut("it refuses".into())
                }
                Logout::Not | Logout::Refused => Note::NotLoggedOut(obstacle.describe()),
                Logout::Accepted | Logout::Unclear | Logout::RefusedInDoubt => Note::MaybeLoggedOut,
            }),
            _ if known.logout == Logout::Accepted => Next::Refuse(
                Status::SessionActive,
                format!(
                    "Call again: the logout was accepted but is not confirmed in time ({}), so the instance was not deleted.",
                    obstacle.describe()
                ),
            ),
            obstacle => obstacle.refuse(),
        },
        Reply::LogOut(_) => Next::Ask,
    }
}

fn next_by_state(policy: Session, state: State, name: &str, known: Known) -> Next {
    let refuse = |why: String| match known.fresh {
        true => Next::Refuse(Status::SessionActive, why),
        false => Next::Refresh,
    };
    match (policy, known.logout) {
        (Session::Ignore, _) => Next::Delete(Note::Nothing),
        _ if state == State::Starting && !known.fresh => Next::Refresh,
        (Session::RequireLoggedOut, _) if state == State::Starting => match known.time {
            true => Next::Ask,
            // Nobody can log it out before it has started.
            false => Obstacle::Starting.refuse(),
        },
        (Session::RequireLoggedOut, _) => refuse(format!(
            "Log it out first, or use the session policy LOG_OUT: the instance is not logged out (its state is {name}), so it was not deleted."
        )),
        (_, Logout::Not) => Next::LogOut,
        (_, Logout::Accepted) if known.time => Next::Ask,
        (Session::TryLogOut, Logout::Accepted | Logout::RefusedInDoubt) => {
            Next::Delete(Note::MaybeLoggedOut)
        }
        (Session::TryLogOut, Logout::Refused) => Next::Delete(Note::NotLoggedOut(format!(
            "it refuses (its state is {name})"
        ))),
        (_, Logout::Accepted) => refuse(format!(
            "Call again: the logout was accepted but is not confirmed in time (the state is {name}), so the instance was not deleted."
        )),
        (_, Logout::Refused | Logout::RefusedInDoubt) => refuse(format!(
            "Log it out on the device, or use the session policy TRY_LOG_OUT: the instance refuses to log out (its state is {name}), so it was not deleted."
        )),
        (_, Logout::Unclear) => refuse(format!(
            "Call again: the logout could not be confirmed (the state is {name}), so the instance was not deleted."
        )),
    }
}

impl Obstacle {
    /// The reason as a clause for a message.
    fn describe(&self) -> String {
        match self {
            Self::Deleted => "it says that it is deleted".into(),
            Self::Expired => "it has expired".into(),
            Self::Creating => "it is being created".into(),
            Self::Starting => "it is starting".into(),
            Self::NotFound => "the server does not know it (404)".into(),
            Self::Denied(code) => format!("its token is refused ({code})"),
            Self::Other(said) if said.is_empty() => "it refuses to answer".into(),
            Self::Other(said) => format!("it answered \"{said}\""),
            Self::Foreign(number) => format!("another server answered with {number}"),
        }
    }

    fn refuse(&self) -> Next {
        let (status, why) = self.refusal();
        Next::Refuse(status, why)
    }

    /// The refusal under a policy that needs the answer. Only `TRY_LOG_OUT` deletes without it, and
    /// not on another server's word.
    pub fn refusal(&self) -> (Status, String) {
        let (status, advice) = match self {
            Self::Foreign(number) => {
                let status = match number {
                    401 => Status::Unauthorized,
                    403 => Status::Forbidden,
                    _ => Status::SessionUnknown,
                };
                return (
                    status,
                    format!("Check the network: perhaps a proxy or firewall answered with {number} instead of the API, so no deletion was sent."),
                );
            }
            Self::Expired => (Status::SessionUnknown, "Renew it"),
            Self::Creating | Self::Starting => (
                Status::SessionUnknown,
                "Call again when that is over, within 5 minutes",
            ),
            Self::Denied(401) => (
                Status::Unauthorized,
                "Check the instance's token in the console",
            ),
            Self::Denied(_) => (Status::Forbidden, "Check the instance in the console"),
            Self::NotFound => (Status::SessionUnknown, "Check the URL and the instance URL"),
            Self::Deleted | Self::Other(_) => (Status::SessionUnknown, "Call again"),
        };
        (
            status,
            format!(
                "{advice}, or use the session policy TRY_LOG_OUT: the instance cannot be asked for its session ({}), so no deletion was sent.",
                self.describe()
            ),
        )
    }
}

/// The obstacle that an error of an instance's own method reports; `None` if the error is not about
/// the instance (too many requests, a failing server). `number` is the one that decides: the API's
/// own code or the HTTP status.
///
/// The API documents 400, 401, 403 and 466, none of them with a page, and a 404 with any body.
/// Every other 4xx came from another server on the way.
pub fn read_refusal(
    number: u16,
    http_status: u16,
    body: &[u8],
    secrets: &[&Secret],
) -> Option<Obstacle> {
    let said = descriptions(body);
    let says = |what: &str| said.iter().any(|text| text.to_lowercase().contains(what));
    // "Deleted" permits the deletion, so only the API's whole sentence counts, not the words in the
    // page of some other server.
    let says_deleted = || {
        let is_it = |text: &String| text.trim().trim_end_matches('.').to_lowercase() == DELETED;
        said.iter().any(is_it)
    };
    let is_documented = match http_status {
        200..=299 | 400 | 401 | 403 | 466 => is_text(body),
        404 => true,
        _ => false,
    };
    match number {
        408 | 429 => None,
        400..=498 if !is_documented => Some(Obstacle::Foreign(number.max(http_status))),
        401 | 403 => Some(Obstacle::Denied(number)),
        400 if says("expired") => Some(Obstacle::Expired),
        400 if says("starting") => Some(Obstacle::Starting),
        400 if says_deleted() => Some(Obstacle::Deleted),
        404 if http_status == 404 => Some(Obstacle::NotFound),
        400 | 404 | 466 => Some(Obstacle::Other(describe(body, secrets))),
        400..=498 => Some(Obstacle::Foreign(number)),
        _ => None,
    }
}

/// Whether a body can be the API's explanation: empty, a JSON object or plain text, but no page.
fn is_text(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    let is_page = text.starts_with('<') || text.to_ascii_lowercase().contains("<html");
    let is_broken_json = text.starts_with('{') && Object::parse(body).is_err();
    !is_page && !is_broken_json
}

const DELETED: &str = "instance is deleted";

/// The explanation in an error's body, safe to print.
pub fn describe(body: &[u8], secrets: &[&Secret]) -> String {
    let said = descriptions(body).into_iter();
    let mut said = said.map(|text| sanitize(&text, secrets));
    said.find(|text| !text.is_empty()).unwrap_or_default()
}

/// The explanations in an error's body: depending on the server, some of the fields of JSON, or the
/// whole body.
fn descriptions(body: &[u8]) -> Vec<String> {
    if let Ok(object) = Object::parse(body) {
        let keys = ["description", "message", "reason"];
        return keys.iter().filter_map(|key| object.text(key)).collect();
    }
    let text = std::str::from_utf8(body).ok();
    let text = text.and_then(
        |text| match text.trim_start().starts_with(['<', '{', '[', '"']) {
            true => json::text(text),
            false => Some(text.to_owned()),
        },
    );
    text.into_iter().collect()
}

/// What the body of a success status says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Reply(Reply),
    /// An error, with the API's own code.
    Error(u16),
}

/// Parses the answer of GetStateInstance. `None`: it is not an answer of this API, or it
/// contradicts itself.
pub fn read_state(body: &[u8], secrets: &[&Secret]) -> Option<Said> {
    if body.trim_ascii() == b"null" {
        let creating = Reply::CannotBeAsked(Obstacle::Creating, Answer::default());
        return Some(Said::Reply(creating));
    }
    read_answer(body, "stateInstance", secrets, |state: String| {
        let reply = Reply::State(State::of(&state), sanitize(&state, secrets));
        (!state.is_empty()).then_some(reply)
    })
}

/// Parses the answer of Logout, as [`read_state`].
pub fn read_logout(body: &[u8], secrets: &[&Secret]) -> Option<Said> {
    read_answer(body, "isLogout", secrets, |done| Some(Reply::LogOut(done)))
}

/// Parses an answer with the field `key`, or an error: one with a code, or `{"status": false,
/// "reason": "…"}`. An answer with both contradicts itself.
fn read_answer<T: DeserializeOwned>(
    body: &[u8],
    key: &str,
    secrets: &[&Secret],
    reply: impl FnOnce(T) -> Option<Reply>,
) -> Option<Said> {
    let object = Object::parse(body).ok()?;
    let code: Option<u16> = object.get("code").ok()?;
    let code = code.filter(|code| !(200..300).contains(code));
    let refused = object.get("status") == Ok(Some(false));
    match (object.get(key).ok()?, code) {
        (Some(value), None) if !refused => reply(value).map(Said::Reply),
        (Some(_), _) => None,
        (None, Some(code)) => Some(Said::Error(code)),
        (None, None) => refused.then(|| {
            let obstacle = read_refusal(400, 200, body, secrets);
            let obstacle = obstacle.unwrap_or_else(|| Obstacle::Other(String::new()));
            Said::Reply(Reply::CannotBeAsked(obstacle, Answer::default()))
        }),
    }
}

/// The `code` of an error that the API reports in its body.
pub fn read_code(body: &[u8]) -> Option<u16> {
    Object::parse(body).ok()?.get("code").ok()?
}

#[cfg(test)]
mod tests {
    use super::*;
    use Session::{Ignore, LogOut, RequireLoggedOut, TryLogOut};

    const EVERY_STATE: [&str; 10] = [
        "notAuthorized",
        "authorized",
        "sleepMode",
        "yellowCard",
        "suspended",
        "blocked",
        "pendingPassword",
        "starting",
        "somethingNew",
        "NotAuthorized",
    ];

    fn state(text: &str) -> Reply {
        let body = serde_json::json!({ "stateInstance": text }).to_string();
        match read_state(body.as_bytes(), &[]) {
            Some(Said::Reply(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    fn known(logout: Logout, time: bool, fresh: bool) -> Known {
        Known {
            logout,
            time,
            fresh,
        }
    }

    const LOGOUTS: [Logout; 5] = [
        Logout::Not,
        Logout::Accepted,
        Logout::Refused,
        Logout::RefusedInDoubt,
        Logout::Unclear,
    ];

    fn every_known() -> Vec<Known> {
        let mut all = Vec::new();
        for logout in LOGOUTS {
            for (time, fresh) in [(false, false), (false, true), (true, false), (true, true)] {
                all.push(known(logout, time, fresh));
            }
        }
        all
    }

    #[test]
    fn nobody_logged_in_or_a_policy_that_does_not_ask() {
        for policy in [Ignore, RequireLoggedOut, LogOut, TryLogOut] {
            for known in every_known() {
                let next = next(policy, &state("notAuthorized"), known);
                assert!(matches!(next, Next::Delete(_)), "{next:?}");
            }
        }
        for text in EVERY_STATE {
            for known in every_known() {
                assert!(matches!(next(Ignore, &state(text), known), Next::Delete(_)));
            }
        }
    }

    #[test]
    fn every_state_that_may_be_a_session() {
        for text in &EVERY_STATE[1..] {
            let reply = state(text);
            let of = |policy, logout, time| next(policy, &reply, known(logout, time, true));
            let refused = |next| match next {
                Next::Refuse(Status::SessionActive, why) => {
                    assert!(why.contains(text), "{why}");
                    assert!(why.len() < crate::outcome::MESSAGE_SIZE, "{why}");
                }
                other => panic!("{text}: {other:?}"),
            };
            match *text {
                "starting" => {
                    assert_eq!(of(RequireLoggedOut, Logout::Not, true), Next::Ask);
                    let refused = of(RequireLoggedOut, Logout::Not, false);
                    assert_eq!(refused, Obstacle::Starting.refuse());
                }
                _ => {
                    refused(of(RequireLoggedOut, Logout::Not, false));
                    refused(of(RequireLoggedOut, Logout::Not, true));
                }
            }
            for policy in [LogOut, TryLogOut] {
                assert_eq!(of(policy, Logout::Not, true), Next::LogOut);
                assert_eq!(of(policy, Logout::Accepted, true), Next::Ask);
                refused(of(policy, Logout::Unclear, true));
            }
            refused(of(LogOut, Logout::Accepted, false));
            refused(of(LogOut, Logout::Refused, true));
            let tried = of(TryLogOut, Logout::Accepted, false);
            assert_eq!(tried, Next::Delete(Note::MaybeLoggedOut));
            let tried = of(TryLogOut, Logout::Refused, true);
            assert!(matches!(tried, Next::Delete(Note::NotLoggedOut(_))));
        }
    }

    #[test]
    fn what_speaks_against_a_deletion_counts_only_by_a_list_no_older_than_the_call() {
        for policy in [RequireLoggedOut, LogOut, TryLogOut] {
            for logout in LOGOUTS {
                for time in [false, true] {
                    let old = known(logout, time, false);
                    for text in &EVERY_STATE[1..] {
                        let next = next(policy, &state(text), old);
                        assert!(!matches!(next, Next::Refuse(..)), "{text}: {next:?}");
                    }
                    for obstacle in every_obstacle() {
                        let reply = Reply::CannotBeAsked(obstacle, Answer::default());
                        assert_eq!(next(policy, &reply, old), Next::Refresh);
                    }
                    // A deleted instance may answer "starting", and must not be logged out.
                    assert_eq!(next(policy, &state("starting"), old), Next::Refresh);
                }
            }
        }
    }

    fn every_obstacle() -> [Obstacle; 11] {
        [
            Obstacle::Deleted,
            Obstacle::Expired,
            Obstacle::Creating,
            Obstacle::Starting,
            Obstacle::NotFound,
            Obstacle::Denied(401),
            Obstacle::Denied(403),
            Obstacle::Other("x".repeat(80)),
            Obstacle::Foreign(401),
            Obstacle::Foreign(403),
            Obstacle::Foreign(451),
        ]
    }

    #[test]
    fn instances_that_cannot_be_asked() {
        for obstacle in every_obstacle() {
            let reply = Reply::CannotBeAsked(obstacle.clone(), Answer::default());
            for policy in [RequireLoggedOut, LogOut] {
                let of = |time| next(policy, &reply, known(Logout::Not, time, true));
                match (&obstacle, of(true)) {
                    (Obstacle::Deleted, Next::Delete(Note::Nothing)) => continue,
                    (Obstacle::Starting, Next::Ask) => {}
                    (Obstacle::Starting, other) => panic!("{other:?}"),
                    (_, other) => assert_eq!(other, of(false)),
                }
                let expected = match obstacle {
                    Obstacle::Denied(401) | Obstacle::Foreign(401) => Status::Unauthorized,
                    Obstacle::Denied(_) | Obstacle::Foreign(403) => Status::Forbidden,
                    _ => Status::SessionUnknown,
                };
                match of(false) {
                    Next::Refuse(status, why) => {
                        assert_eq!(status, expected);
                        assert!(why.len() <= crate::outcome::MESSAGE_SIZE + 20, "{why}");
                    }
                    other => panic!("{obstacle:?}: {other:?}"),
                }
            }
            for (logout, api_answered) in [
                (Logout::Not, false),
                (Logout::Unclear, false),
                (Logout::Accepted, true),
                (Logout::Refused, true),
                (Logout::RefusedInDoubt, true),
            ] {
                let tried = next(TryLogOut, &reply, known(logout, false, true));
                let expected = api_answered || !matches!(obstacle, Obstacle::Foreign(_));
                let deletes = matches!(tried, Next::Delete(_));
                assert_eq!(deletes, expected, "{obstacle:?}: {tried:?}");
            }
            // An instance that restarts after its logout is asked again.
            if obstacle != Obstacle::Deleted {
                for policy in [LogOut, TryLogOut] {
                    let next = next(policy, &reply, known(Logout::Accepted, true, true));
                    assert_eq!(next, Next::Ask);
                }
            }
        }
    }

    #[test]
    fn what_the_methods_answer() {
        let reply = |reply| Some(Said::Reply(reply));
        let cannot = |obstacle| reply(Reply::CannotBeAsked(obstacle, Answer::default()));
        let state = |state, name: &str| reply(Reply::State(state, name.into()));
        let busy = || cannot(Obstacle::Other("busy".into()));
        let error = |code| Some(Said::Error(code));
        #[rustfmt::skip]
        let states: &[(&[u8], Option<Said>)] = &[
            (br#"{"stateInstance":"authorized"}"#, state(State::Authorized, "authorized")),
            (br#"{"x":[1],"stateInstance":"notAuthorized"}"#, state(State::NotAuthorized, "notAuthorized")),
            (br#"{"code":200,"stateInstance":"authorized"}"#, state(State::Authorized, "authorized")),
            (br#"{"status":true,"stateInstance":"authorized"}"#, state(State::Authorized, "authorized")),
            (b" null\n", cannot(Obstacle::Creating)),
            (br#"{"status":false,"reason":"busy"}"#, busy()),
            (br#"{"status":false,"reason":"Instance is deleted"}"#, cannot(Obstacle::Deleted)),
            (br#"{"status":false,"reason":"\ud800 busy"}"#, cannot(Obstacle::Other("\u{FFFD} busy".into()))),
            (br#"{"status":false}"#, cannot(Obstacle::Other(String::new()))),
            (br#"{"code":401,"description":"x"}"#, error(401)),
            (br#"{"code":401,"description":"\ud800"}"#, error(401)),
            (br#"{"code":400,"status":false}"#, error(400)),
            // Not objects.
            (b"", None),
            (b"[]", None),
            (br#"["notAuthorized"]"#, None),
            (br#"[{"stateInstance":"notAuthorized"}]"#, None),
            (b"[404]", None),
            (b"[false]", None),
            (b"404", None),
            (b"\"notAuthorized\"", None),
            (b"\xef\xbb\xbf{\"stateInstance\":\"notAuthorized\"}", None),
            (b"{\"stateInstance\":\"notAuthorized\"", None),
            (b"{\"stateInstance\":\"notAuthorized\"}{}", None),
            // Nothing of this API.
            (b"{}", None),
            (br#"{"code":200}"#, None),
            (br#"{"stateInstance":null}"#, None),
            (br#"{"stateInstance":""}"#, None),
            (br#"{"status":true,"reason":"x"}"#, None),
            (br#"{"status":"false","reason":"x"}"#, None),
            // Unusable or contradictory.
            (b"{\"stateInstance\":\"notAuthorized\",\"x\":\"\xff\"}", None),
            (br#"{"stateInstance":"notAuthorized","stateInstance":"notAuthorized"}"#, None),
            (br#"{"stateInstance":"notAuthorized","x":1,"x":1}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":"401"}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":70000}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":-1}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":200.0}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":null}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":200,"code":200}"#, None),
            (br#"{"stateInstance":"notAuthorized","code":401}"#, None),
            (br#"{"stateInstance":"notAuthorized","status":false,"reason":"x"}"#, None),
            (br#"{"stateInstance":null,"code":401}"#, None),
            (br#"{"code":"401"}"#, None),
            (br#"{"code":401,"c\u006fde":401}"#, None),
        ];
        for (body, expected) in states {
            let shown = String::from_utf8_lossy(body);
            assert_eq!(read_state(body, &[]), *expected, "{shown}");
        }
        #[rustfmt::skip]
        let logouts: &[(&[u8], Option<Said>)] = &[
            (br#"{"isLogout":true}"#, reply(Reply::LogOut(true))),
            (br#"{"isLogout":false}"#, reply(Reply::LogOut(false))),
            (br#"{"isLogout":true,"code":200}"#, reply(Reply::LogOut(true))),
            (br#"{"status":false,"reason":"busy"}"#, busy()),
            (br#"{"code":500}"#, error(500)),
            (b"", None),
            (b"null", None),
            (b"<html>", None),
            (b"{}", None),
            (b"[true]", None),
            (b"true", None),
            (b"\xef\xbb\xbf{\"isLogout\":true}", None),
            (br#"{"isLogout":"true"}"#, None),
            (br#"{"isLogout":1}"#, None),
            (br#"{"isLogout":null}"#, None),
            (br#"{"isLogout":true,"isLogout":true}"#, None),
            (br#"{"isLogout":true,"code":"200"}"#, None),
            (br#"{"isLogout":true,"code":400}"#, None),
            (br#"{"isLogout":true,"status":false}"#, None),
            (b"{\"isLogout\":true,\"x\":\"\xff\"}", None),
        ];
        for (body, expected) in logouts {
            let shown = String::from_utf8_lossy(body);
            assert_eq!(read_logout(body, &[]), *expected, "{shown}");
        }
        for (body, code) in [
            (&br#"{"code":401,"description":"x"}"#[..], Some(401)),
            (br#"{"code":401,"description":"\ud800"}"#, Some(401)),
            (b"[401]", None),
            (br#"{"code":"401"}"#, None),
            (br#"{"code":401,"code":401}"#, None),
            (b"{\"code\":401,\"x\":\"\xff\"}", None),
        ] {
            assert_eq!(read_code(body), code);
        }
    }

    #[test]
    fn the_texts_of_instances_that_cannot_be_asked() {
        let other = |said: &str| Some(Obstacle::Other(said.into()));
        let rows = [
            (
                400,
                "Instance account is expired. Renew your instance from personal area",
                Some(Obstacle::Expired),
            ),
            (
                400,
                r#"{"statusCode":400,"message":"Instance account is expired."}"#,
                Some(Obstacle::Expired),
            ),
            // Several texts: each counts.
            (
                400,
                r#"{"statusCode":400,"message":"Instance account is expired","description":"x"}"#,
                Some(Obstacle::Expired),
            ),
            (
                400,
                r#"{"reason":"instance in starting process try later","description":"x"}"#,
                Some(Obstacle::Starting),
            ),
            (
                400,
                r#"{"description":"x","message":"Instance is deleted"}"#,
                Some(Obstacle::Deleted),
            ),
            (
                400,
                r#"{"description":"Instance is deleted","message":"Instance account is expired"}"#,
                Some(Obstacle::Expired),
            ),
            (
                400,
                r#"{"reason":"q","message":"","description":null}"#,
                other("q"),
            ),
            (
                400,
                r#"{"reason":"c","message":"b","description":"a"}"#,
                other("a"),
            ),
            (
                400,
                r#"{"message":"a","message":"a"}"#,
                Some(Obstacle::Foreign(400)),
            ),
            (400, r#"{"message":"cut o"#, Some(Obstacle::Foreign(400))),
            (400, "", other("")),
            (400, r#"["Instance is deleted"]"#, other("")),
            (400, "Instance is deleted", Some(Obstacle::Deleted)),
            (400, " instance is deleted.\n", Some(Obstacle::Deleted)),
            (400, "\"Instance is deleted\"", Some(Obstacle::Deleted)),
            (
                400,
                r#"{"statusCode":400,"message":"Instance is deleted"}"#,
                Some(Obstacle::Deleted),
            ),
            // Other servers' pages, and texts about something else.
            (400, "The header is deleted", other("The header is deleted")),
            (
                400,
                "The trial of this instance is deleted at midnight",
                other("The trial of this instance is deleted at midnight"),
            ),
            (466, "Instance is deleted", other("Instance is deleted")),
            (404, "Instance is deleted", Some(Obstacle::NotFound)),
            (404, "The page is starting", Some(Obstacle::NotFound)),
            (
                400,
                "instance in starting process try later",
                Some(Obstacle::Starting),
            ),
            (
                400,
                "instance is starting or not authorized",
                Some(Obstacle::Starting),
            ),
            (400, "Bad", other("Bad")),
            (466, r#"{"message":"q"}"#, other("q")),
            (404, "<html>", Some(Obstacle::NotFound)),
            (401, "", Some(Obstacle::Denied(401))),
            (403, "", Some(Obstacle::Denied(403))),
            (403, r#"{"x":"<html"}"#, Some(Obstacle::Foreign(403))),
            (401, "Wrong token <wrong>", Some(Obstacle::Denied(401))),
            (429, "<html>", None),
            (408, "", None),
            (429, "", None),
            (499, "", None),
            (502, "Instance is deleted", None),
        ];
        for (code, body, expected) in rows {
            let got = read_refusal(code, code, body.as_bytes(), &[]);
            assert_eq!(got, expected, "{code} {body}");
        }
    }

    #[test]
    fn what_the_api_does_not_document_is_another_servers_word() {
        let foreign = |number| Some(Obstacle::Foreign(number));
        for page in [
            "<html>Access blocked by corporate firewall</html>",
            "\u{feff}\r\n <!DOCTYPE html>\nInstance is deleted",
            "Blocked. <HTML><body>Instance is deleted",
            "<?xml version=\"1.0\"?><Error>expired</Error>",
        ] {
            for number in [400, 401, 403, 466] {
                let got = read_refusal(number, number, page.as_bytes(), &[]);
                assert_eq!(got, foreign(number), "{page}");
            }
        }
        let utf16: Vec<u8> = "<html>".encode_utf16().flat_map(u16::to_be_bytes).collect();
        assert_eq!(read_refusal(403, 403, b"\xff", &[]), foreign(403));
        assert_eq!(
            read_refusal(403, 403, &[b"\xfe\xff", &utf16[..]].concat(), &[]),
            foreign(403)
        );
        for number in (400..499).filter(|number| ![408, 429].contains(number)) {
            let documented = [400, 401, 403, 404, 466].contains(&number);
            for body in ["", "no", r#"{"description":"Instance is deleted"}"#] {
                let got = read_refusal(number, number, body.as_bytes(), &[]);
                assert_eq!(
                    got == foreign(number),
                    !documented,
                    "{number} {body}: {got:?}"
                );
            }
            // The API's own code does not make another server's refusal the API's.
            if !documented {
                let body = br#"{"code":400,"description":"Instance is deleted"}"#;
                assert_eq!(read_refusal(400, number, body, &[]), foreign(number));
            }
        }
    }

    #[test]
    fn a_state_that_quotes_the_token_does_not_show_it() {
        let token = Secret::new("0123456789abcdef");
        let body = br#"{"stateInstance":"/waInstance1/getStateInstance/0123456789abcdef"}"#;
        match read_state(body, &[&token]) {
            Some(Said::Reply(Reply::State(State::Other, name))) => {
                assert!(!name.contains("cdef"), "{name}")
            }
            other => panic!("{other:?}"),
        }
    }
}
