//! The session policy: whether an instance may be deleted while a device may be logged in.
//!
//! Deleting an instance does not end the session on the linked device: it stays in the phone's
//! app (GREEN-API's issue 615). What a state means here, in doubt against the deletion:
//!
//! | `stateInstance` | meaning | deleted by `REQUIRE_LOGGED_OUT` |
//! |---|---|---|
//! | `notAuthorized` | no session | yes |
//! | `authorized` | a session | no |
//! | `sleepMode` | a session, the device is switched off | no |
//! | `yellowCard`, `suspended` | a session, sending is limited | no |
//! | `blocked` | the account is banned; the session may come back with it | no |
//! | `pendingPassword` | a login that is half done | no |
//! | `starting` | the server does not know yet; also what a deleted instance answers | no |
//! | any other | unknown to this version | no |
//!
//! `LOG_OUT` calls Logout for each of them but the first, and deletes once the state is
//! `notAuthorized`.

use std::collections::HashMap;

use serde::Deserialize;

use crate::options::Session;
use crate::secret::Secret;

/// The one state in which nobody is logged in.
const LOGGED_OUT: &str = "notAuthorized";

/// What came of the call to Logout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logout {
    /// `"isLogout": true`: the state will follow.
    Accepted,
    /// `"isLogout": false`.
    Refused,
    /// No answer that says so; it may have worked.
    Unclear,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Delete,
    LogOut,
    /// Ask for the state again.
    Ask,
    /// Delete nothing, and say why.
    Refuse(String),
}

/// Decides by what was learned last. `time`: whether there is enough left to wait and delete.
pub fn next(policy: Session, state: &str, logout: Option<&Logout>, time: bool) -> Next {
    if state == LOGGED_OUT {
        return Next::Delete;
    }
    let state = crate::outcome::sanitize(state, &[]);
    match (policy, logout) {
        (Session::Ignore, _) => Next::Delete,
        (Session::RequireLoggedOut, _) => Next::Refuse(format!(
            "The instance is not logged out (its state is {state}), so it was not deleted: log it out first, or use the policy that does."
        )),
        (Session::LogOut | Session::TryLogOut, None) => Next::LogOut,
        (Session::LogOut | Session::TryLogOut, Some(Logout::Accepted)) if time => Next::Ask,
        (Session::LogOut | Session::TryLogOut, Some(Logout::Accepted)) => Next::Refuse(format!(
            "The logout was accepted but is not confirmed in time (the state is {state}), so the instance was not deleted: call again."
        )),
        (Session::LogOut | Session::TryLogOut, Some(Logout::Refused)) => Next::Refuse(format!(
            "The instance refuses to log out (its state is {state}), so it was not deleted: log it out on the device."
        )),
        (Session::LogOut | Session::TryLogOut, Some(Logout::Unclear)) => Next::Refuse(format!(
            "The logout could not be confirmed (the state is {state}), so the instance was not deleted: call again."
        )),
    }
}

/// What the list says of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instance {
    Deleted,
    /// With the token of its own methods.
    Living(Secret),
}

/// Reads the list of instances from a stream, keeping only what is needed of each.
#[derive(Default)]
pub struct ListReader {
    pub instances: HashMap<i64, Instance>,
    place: Place,
    /// The element being read.
    element: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    #[default]
    BeforeArray,
    /// In the array, before an element or its end.
    First,
    Element,
    AfterElement,
    /// After a comma.
    Next,
    AfterArray,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    id_instance: i64,
    api_token_instance: Option<String>,
    #[serde(default)]
    deleted: bool,
}

/// The bytes are no list of instances.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAList;

/// An instance takes some hundred bytes.
const ELEMENT_LIMIT: usize = 64 * 1024;

impl ListReader {
    /// Reads on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), NotAList> {
        for &byte in bytes {
            if self.place == Place::Element {
                self.in_element(byte)?;
                continue;
            }
            self.place = match (self.place, byte) {
                (place, b' ' | b'\t' | b'\r' | b'\n') => place,
                (Place::BeforeArray, b'[') => Place::First,
                (Place::First | Place::AfterElement, b']') => Place::AfterArray,
                (Place::AfterElement, b',') => Place::Next,
                (Place::First | Place::Next, b'{') => {
                    self.element.push(byte);
                    self.depth = 1;
                    Place::Element
                }
                _ => return Err(NotAList),
            };
        }
        Ok(())
    }

    /// Finds the end of an element by its braces outside strings; the parser judges what is
    /// between.
    fn in_element(&mut self, byte: u8) -> Result<(), NotAList> {
        self.element.push(byte);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth > 0 {
            return match self.element.len() {
                0..=ELEMENT_LIMIT => Ok(()),
                _ => Err(NotAList),
            };
        }
        let item: Item = serde_json::from_slice(&self.element).map_err(|_| NotAList)?;
        let instance = match item.deleted {
            true => Instance::Deleted,
            false => Instance::Living(Secret::new(&item.api_token_instance.unwrap_or_default())),
        };
        self.instances.insert(item.id_instance, instance);
        self.element.clear();
        self.place = Place::AfterElement;
        Ok(())
    }

    /// The whole list, if it has come to its end.
    pub fn finish(self) -> Result<HashMap<i64, Instance>, NotAList> {
        match self.place {
            Place::AfterArray => Ok(self.instances),
            _ => Err(NotAList),
        }
    }
}

/// The state in the answer of GetStateInstance.
pub fn read_state(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct State {
        #[serde(rename = "stateInstance")]
        state: String,
    }
    serde_json::from_slice::<State>(body)
        .ok()
        .map(|answer| answer.state)
        .filter(|state| !state.is_empty())
}

/// What the answer of Logout says.
pub fn read_logout(http_status: u16, body: &[u8]) -> Logout {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "isLogout")]
        done: bool,
    }
    match (http_status, serde_json::from_slice::<Answer>(body)) {
        (200..=299, Ok(Answer { done: true })) => Logout::Accepted,
        (200..=299, Ok(Answer { done: false })) => Logout::Refused,
        _ => Logout::Unclear,
    }
}

/// The `code` of an error that the API reports inside HTTP 200.
pub fn read_code(body: &[u8]) -> Option<u16> {
    #[derive(Deserialize)]
    struct Refusal {
        code: u16,
    }
    serde_json::from_slice::<Refusal>(body)
        .ok()
        .map(|refusal| refusal.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        use Session::*;
        const OTHERS: [&str; 9] = [
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
        for policy in [Ignore, RequireLoggedOut, LogOut] {
            for logout in [
                None,
                Some(&Logout::Accepted),
                Some(&Logout::Refused),
                Some(&Logout::Unclear),
            ] {
                assert_eq!(next(policy, "notAuthorized", logout, false), Next::Delete);
            }
        }
        for state in OTHERS {
            assert_eq!(next(Ignore, state, None, true), Next::Delete);
            let refused = |next| match next {
                Next::Refuse(why) => assert!(why.contains(state), "{why}"),
                other => panic!("{state}: {other:?}"),
            };
            refused(next(RequireLoggedOut, state, None, true));
            assert_eq!(next(LogOut, state, None, true), Next::LogOut);
            assert_eq!(
                next(LogOut, state, Some(&Logout::Accepted), true),
                Next::Ask
            );
            refused(next(LogOut, state, Some(&Logout::Accepted), false));
            refused(next(LogOut, state, Some(&Logout::Refused), true));
            refused(next(LogOut, state, Some(&Logout::Unclear), true));
        }
    }

    fn read(text: &str, piece: usize) -> Result<HashMap<i64, Instance>, NotAList> {
        let mut reader = ListReader::default();
        for piece in text.as_bytes().chunks(piece) {
            reader.feed(piece)?;
        }
        reader.finish()
    }

    #[test]
    fn the_list_is_read_in_any_pieces() {
        let text = r#" [ {"idInstance": 1, "apiTokenInstance": "a\"}]", "deleted": false, "x": [{}]},
            {"deleted": true, "idInstance": 2}, {"idInstance": 3, "name": "{[\\", "apiTokenInstance": null} ] "#;
        for piece in [1, 2, 3, 7, 1000] {
            let list = read(text, piece).unwrap();
            assert_eq!(list.len(), 3);
            assert_eq!(list[&1], Instance::Living(Secret::new("a\"}]")));
            assert_eq!(list[&2], Instance::Deleted);
            assert_eq!(list[&3], Instance::Living(Secret::new("")));
        }
        assert_eq!(read("[]", 1), Ok(HashMap::new()));
    }

    #[test]
    fn what_is_no_list() {
        for text in [
            "",
            "{}",
            "[",
            "[{\"idInstance\":1}",
            "[{\"idInstance\":1},]",
            "[1]",
            "[{}]",
            "[]]",
            "[] x",
            "[{\"idInstance\":1}{\"idInstance\":2}]",
            "[{\"idInstance\":\"1\"}]",
            "[,]",
            "null",
            "[{]}",
            "[{\"idInstance\":1,\"deleted\":\"no\"}]",
        ] {
            assert_eq!(read(text, 1), Err(NotAList), "{text}");
        }
        let endless = "[{\"x\":\"".to_owned() + &"x".repeat(100_000);
        assert_eq!(read(&endless, 1000), Err(NotAList));
    }

    #[test]
    fn what_the_methods_answer() {
        assert_eq!(
            read_state(br#"{"stateInstance":"authorized"}"#).as_deref(),
            Some("authorized")
        );
        for body in [
            &b""[..],
            b"{}",
            b"null",
            br#"{"stateInstance":null}"#,
            br#"{"stateInstance":""}"#,
        ] {
            assert_eq!(read_state(body), None);
        }
        assert_eq!(read_logout(200, br#"{"isLogout":true}"#), Logout::Accepted);
        assert_eq!(read_logout(200, br#"{"isLogout":false}"#), Logout::Refused);
        assert_eq!(read_logout(502, br#"{"isLogout":true}"#), Logout::Unclear);
        assert_eq!(read_logout(200, b"<html>"), Logout::Unclear);
        assert_eq!(read_code(br#"{"code":401,"description":"x"}"#), Some(401));
    }
}
