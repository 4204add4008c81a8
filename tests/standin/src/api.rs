//! The remote API as a client sees it: what each request asks for, and how an answer is built.

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Stage};
use crate::world::Shared;

/// The size of the pieces in which a streamed body is produced.
const PIECE: usize = 64 * 1024;

/// How many instances of the list are produced at a time.
const LIST_PAGE: usize = 128;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// CreateInstance.
    Create,
    /// DeleteInstanceAccount.
    Delete,
    /// GetInstances.
    List,
    /// GetStateInstance.
    State,
    /// Logout.
    Logout,
    /// Anything else.
    Other,
}

/// A request with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// CreateInstance; `wish` is known once a valid body is read.
    Create { token: Vec<u8>, wish: Option<Wish> },
    /// DeleteInstanceAccount; the id is known once a valid body is read.
    Delete { token: Vec<u8>, id: Option<i64> },
    /// GetInstances.
    List { token: Vec<u8> },
    /// GetStateInstance.
    State { id: i64, token: Vec<u8> },
    /// Logout.
    Logout { id: i64, token: Vec<u8> },
    /// A wrong path or method.
    Unknown,
}

/// The parameters of CreateInstance, all optional.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Wish {
    pub(crate) name: String,
    #[serde(rename = "typeInstance")]
    pub(crate) type_instance: Option<String>,
}

impl Call {
    /// Reads the method and the target of a request. Returns the call and the prefix of the API's
    /// path. Of a target in absolute form only the path counts.
    pub(crate) fn parse<'a>(method: &str, target: &'a str) -> (Call, &'a str) {
        let path = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let mut tail = path.rsplitn(4, '/');
        let (Some(last), Some(middle), Some(first), Some(prefix)) =
            (tail.next(), tail.next(), tail.next(), tail.next())
        else {
            return (Call::Unknown, "");
        };
        // The path is split before it is decoded, because an encoded slash belongs to the token.
        let token: Vec<u8> = percent_decode_str(last).collect();
        let id = first
            .strip_prefix("waInstance")
            .and_then(|digits| digits.parse().ok());
        let call = match (method, first, middle, id) {
            _ if token.is_empty() => Call::Unknown,
            ("POST", "partner", "createInstance", _) => Call::Create { token, wish: None },
            ("POST", "partner", "deleteInstanceAccount", _) => Call::Delete { token, id: None },
            ("GET", "partner", "getInstances", _) => Call::List { token },
            ("GET", _, "getStateInstance", Some(id)) => Call::State { id, token },
            ("GET", _, "logout", Some(id)) => Call::Logout { id, token },
            _ => Call::Unknown,
        };
        (call, prefix)
    }

    /// Takes the parameters of a deletion or a creation from the request's body. After an invalid
    /// body they stay unknown.
    pub(crate) fn read_body(&mut self, content_type: Option<&str>, body: &[u8]) {
        #[derive(Deserialize)]
        struct Parameters {
            #[serde(rename = "idInstance")]
            id: i64,
        }
        let media_type = content_type.and_then(|value| value.split(';').next());
        if !media_type.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return;
        }
        match self {
            Call::Delete { id, .. } => {
                *id = serde_json::from_slice(body)
                    .ok()
                    .map(|parameters: Parameters| parameters.id)
                    .filter(|id| (1..=9_999_999_999).contains(id));
            }
            Call::Create { wish, .. } => *wish = serde_json::from_slice(body).ok(),
            _ => {}
        }
    }

    pub(crate) fn operation(&self) -> Operation {
        match self {
            Call::Create { .. } => Operation::Create,
            Call::Delete { .. } => Operation::Delete,
            Call::List { .. } => Operation::List,
            Call::State { .. } => Operation::State,
            Call::Logout { .. } => Operation::Logout,
            Call::Unknown => Operation::Other,
        }
    }

    /// The id of the call's instance, if it is known.
    pub(crate) fn id(&self) -> Option<i64> {
        match self {
            Call::Delete { id, .. } => *id,
            Call::State { id, .. } | Call::Logout { id, .. } => Some(*id),
            Call::Create { .. } | Call::List { .. } | Call::Unknown => None,
        }
    }
}

/// An answer, independent of the version of HTTP that carries it.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) reason: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Body,
}

impl Answer {
    pub(crate) fn of(status: u16, body: Body) -> Self {
        Answer {
            status,
            reason: None,
            headers: vec![(
                "Content-Type".to_owned(),
                "application/json; charset=utf-8".to_owned(),
            )],
            body,
        }
    }

    pub(crate) fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Answer::of(status, Body::Bytes(body.into()))
    }

    /// A refusal in the JSON of the instance methods.
    pub(crate) fn error(status: u16, message: &str) -> Self {
        let body = serde_json::json!({ "statusCode": status, "message": message });
        Answer::json(status, body.to_string())
    }

    /// A refusal in plain text, as instances give that are expired, deleted or starting.
    pub(crate) fn text(status: u16, text: &'static str) -> Self {
        Answer {
            status,
            reason: None,
            headers: vec![("Content-Type".to_owned(), "text/plain".to_owned())],
            body: Body::Bytes(Bytes::from_static(text.as_bytes())),
        }
    }

    /// The HTML page of a reverse proxy that answers by itself.
    fn page(status: u16) -> Self {
        let title = reason_phrase(status);
        Answer {
            status,
            reason: None,
            headers: vec![("Content-Type".to_owned(), "text/html".to_owned())],
            body: Body::Bytes(
                format!(
                    "<html>\r\n<head><title>{status} {title}</title></head>\r\n<body>\r\n\
                     <center><h1>{status} {title}</h1></center>\r\n<hr><center>standin</center>\r\n\
                     </body>\r\n</html>\r\n"
                )
                .into(),
            ),
        }
    }

    pub(crate) fn not_found_page() -> Self {
        Answer::page(404)
    }

    /// The answer with a fault's overrides applied.
    pub(crate) fn with(mut self, fault: &Fault, shared: &Shared) -> Self {
        if let Some(status) = fault.status {
            if !(200..300).contains(&status) && !fault.overrides_body() {
                self = Answer::page(status);
            }
            self.status = status;
        }
        self.reason.clone_from(&fault.reason);
        if let Some(repeat) = &fault.body_repeat {
            self.body = Body::repeat(&repeat.text, repeat.times);
        } else if let Some(bytes) = fault.body_bytes() {
            self.body = Body::Bytes(bytes);
        }
        for (name, _) in &fault.headers {
            self.headers
                .retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        }
        self.headers.extend(fault.headers.iter().cloned());
        // To send half of the list its length must be known, so the whole list is produced.
        if fault.stage() == Stage::HalfBody && matches!(self.body, Body::Instances { .. }) {
            let mut whole = Vec::new();
            while let Some(piece) = self.body.next(shared) {
                whole.extend_from_slice(&piece);
            }
            self.body = Body::Bytes(whole.into());
        }
        self
    }

    /// Whether an answer with this status has a body at all.
    pub(crate) fn has_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// A body that is produced piece by piece.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// A complete body.
    Bytes(Bytes),
    /// A repeated text; `left` counts the remaining bytes, `None` means endless.
    Repeat { block: Bytes, left: Option<u64> },
    /// The list of instances, produced while it is sent.
    Instances { after: Option<i64>, ended: bool },
}

impl Body {
    pub(crate) fn instances() -> Self {
        Body::Instances {
            after: None,
            ended: false,
        }
    }

    fn repeat(text: &str, times: Option<u64>) -> Self {
        if text.is_empty() {
            return Body::Bytes(Bytes::new());
        }
        // The block holds whole repetitions, so that every piece begins with the text.
        Body::Repeat {
            block: text.repeat((PIECE / text.len()).max(1)).into(),
            left: times.map(|times| times.saturating_mul(text.len() as u64)),
        }
    }

    /// The length in bytes, if it is known before sending.
    pub(crate) fn len(&self) -> Option<u64> {
        match self {
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::Repeat { left, .. } => *left,
            Body::Instances { .. } => None,
        }
    }

    /// The next piece, never an empty one; `None` at the end.
    pub(crate) fn next(&mut self, shared: &Shared) -> Option<Bytes> {
        match self {
            Body::Bytes(bytes) if bytes.is_empty() => None,
            Body::Bytes(bytes) => Some(bytes.split_to(bytes.len().min(PIECE))),
            Body::Repeat { block, left: None } => Some(block.clone()),
            Body::Repeat { left: Some(0), .. } => None,
            Body::Repeat {
                block,
                left: Some(left),
            } => {
                let length = (block.len() as u64).min(*left);
                *left -= length;
                Some(block.slice(..length as usize))
            }
            Body::Instances { ended: true, .. } => None,
            Body::Instances { after, ended } => {
                let opening: &[u8] = if after.is_none() { b"[" } else { b"," };
                match shared.list_after(*after, LIST_PAGE) {
                    Some((items, last)) => {
                        *after = Some(last);
                        Some([opening, &items].concat().into())
                    }
                    None => {
                        *ended = true;
                        let closing: &[u8] = if after.is_none() { b"[]" } else { b"]" };
                        Some(Bytes::copy_from_slice(closing))
                    }
                }
            }
        }
    }
}

/// The phrase that goes with a status.
pub(crate) fn reason_phrase(status: u16) -> &'static str {
    match status {
        466 => "Quota Exceeded",
        499 => "Client Closed Request",
        _ => http::StatusCode::from_u16(status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        let (call, prefix) = Call::parse("POST", "/a/b/partner/deleteInstanceAccount/x%2Fy%20z");
        let token = b"x/y z".to_vec();
        assert_eq!(call, Call::Delete { token, id: None });
        assert_eq!(prefix, "/a/b");

        let (call, prefix) = Call::parse("GET", "http://h:1/waInstance7/logout/t?x=/");
        let token = b"t".to_vec();
        assert_eq!(call, Call::Logout { id: 7, token });
        assert_eq!(prefix, "");
    }

    #[test]
    fn undocumented_paths_and_methods_are_unknown() {
        for (method, target) in [
            ("GET", "/partner/deleteInstanceAccount/t"),
            ("POST", "/partner/deleteInstanceAccount/"),
            ("POST", "/partner/deleteInstanceAccount"),
            ("POST", "/partner/deleteInstanceAccount/t/u"),
            ("GET", "/waInstance/logout/t"),
            ("GET", "/"),
            ("OPTIONS", "*"),
        ] {
            assert_eq!(Call::parse(method, target).0, Call::Unknown, "{target}");
        }
    }

    #[test]
    fn bodies_must_be_as_documented() {
        let id = |content_type, body: &str| {
            let (mut call, _) = Call::parse("POST", "/partner/deleteInstanceAccount/t");
            call.read_body(content_type, body.as_bytes());
            call.id()
        };
        let json = Some("application/json");
        assert_eq!(id(json, r#"{"idInstance": 7}"#), Some(7));
        assert_eq!(
            id(
                Some("Application/JSON; charset=utf-8"),
                r#"{"idInstance":7}"#
            ),
            Some(7)
        );
        assert_eq!(id(Some("text/plain"), r#"{"idInstance": 7}"#), None);
        assert_eq!(id(None, r#"{"idInstance": 7}"#), None);
        for body in [
            "",
            "{}",
            "7",
            r#"{"idInstance":"7"}"#,
            r#"{"idInstance":7.0}"#,
        ] {
            assert_eq!(id(json, body), None, "{body}");
        }
        assert_eq!(id(json, r#"{"idInstance":0}"#), None);
        assert_eq!(id(json, r#"{"idInstance":10000000000}"#), None);
    }
}
