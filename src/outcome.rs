//! The outcome of a call, and the rules for its message: how it is cut, cleaned and composed.

use std::borrow::Cow;

use crate::secret::{is_invisible, Secret};
use crate::status::Status;

/// Size of the message in `greenapi_result` in bytes, including its NUL.
pub const MESSAGE_SIZE: usize = 224;

/// Length to which a server's text is cut, in characters: enough to recognise the text.
const FOREIGN_TEXT_LIMIT: usize = 80;

/// How much of a server's text is looked at, in characters: more than is shown, because secrets in
/// it get shorter, and little, because looking for them takes 100 bytes of memory for each.
const FOREIGN_TEXT_READ: usize = 4096;

/// How the message begins if the call may have logged the instance out before it ended.
pub const PERHAPS_LOGGED_OUT: &str = "Perhaps logged out";

/// Everything that is known about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// The API's own `code`, else the HTTP status, else 0.
    pub code: i32,
    /// 0: there was no response.
    pub http_status: i32,
    /// Deletion requests that may have been sent, retries included.
    pub attempts: u32,
    /// Already cut to fit [`MESSAGE_SIZE`] and free of secrets.
    pub message: Cow<'static, str>,
}

impl Outcome {
    /// An outcome without a response, with the general message of its status.
    pub fn plain(status: Status) -> Self {
        Self::new(status, Cow::Borrowed(status.message()))
    }

    /// An outcome without a response.
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: 0,
            http_status: 0,
            attempts: 0,
            message: fit(message.into()),
        }
    }

    /// The outcome for an unusable argument; `message` names the argument and says what is allowed.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }

    /// The same outcome with `what` (something else that the call did) put before its message.
    pub fn preceded_by(mut self, what: &str) -> Self {
        self.message = fit(format!("{what}; then: {}", self.message).into());
        self
    }

    /// The same outcome after `attempts` deletion requests.
    pub fn after(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }
}

/// Cuts a message at a character boundary so that it fits into `greenapi_result`.
pub fn fit(message: Cow<'static, str>) -> Cow<'static, str> {
    const ELLIPSIS: &str = "…";
    if message.len() < MESSAGE_SIZE {
        return message;
    }
    let mut text = message.into_owned();
    let mut end = MESSAGE_SIZE - 1 - ELLIPSIS.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(ELLIPSIS);
    Cow::Owned(text)
}

/// Names a code from a server. Other numbers than codes are not shown: they could be the digits of a
/// secret.
pub fn name_of_code(code: i32) -> Cow<'static, str> {
    match code {
        100..=999 => code.to_string().into(),
        _ => "an unknown code".into(),
    }
}

/// Makes text from a server (or from a library that may quote a server) safe to print. Removes
/// control and formatting characters, which could forge a log line or change the reading direction,
/// and every piece of a secret, because a server may echo the request's URL; then cuts the text.
pub fn sanitize(foreign: &str, secrets: &[&Secret]) -> String {
    let visible = foreign
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_invisible(*c))
        .take(FOREIGN_TEXT_READ);
    let mut text = String::new();
    for c in visible {
        if c == ' ' && (text.is_empty() || text.ends_with(' ')) {
            continue;
        }
        text.push(c);
    }
    for secret in secrets {
        text = secret.redact(&text);
    }
    if let Some((end, _)) = text.char_indices().nth(FOREIGN_TEXT_LIMIT) {
        text.truncate(end);
        text.push('…');
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character_boundary() {
        for filler in ["a", "ü", "€", "🦀"] {
            for extra in 0..4 {
                let long = "x".repeat(extra) + &filler.repeat(300);
                let cut = fit(Cow::Owned(long));
                assert!(cut.len() < MESSAGE_SIZE && cut.len() > MESSAGE_SIZE - 9);
                assert!(cut.ends_with('…'));
            }
        }
        let exact = "x".repeat(MESSAGE_SIZE - 1);
        assert_eq!(fit(Cow::Owned(exact.clone())), exact);
    }

    #[test]
    fn foreign_text_cannot_forge_a_line_or_show_a_secret() {
        let token = Secret::new("gac.0123456789abcdef");
        let cases = [
            ("Not found", "Not found"),
            ("  two\r\n\tlines ", "two lines"),
            ("\u{202e}evil\u{200f} \u{1b}[31mred", "evil [31mred"),
            ("bad token gac.0123456789abcdef!", "bad token …!"),
            ("it starts with gac.0123", "it starts with …"),
            ("ends in cdef", "ends in …"),
        ];
        for (foreign, clean) in cases {
            assert_eq!(sanitize(foreign, &[&token]), clean);
        }
        assert_eq!(
            sanitize(&"é".repeat(500), &[]).chars().count(),
            FOREIGN_TEXT_LIMIT + 1
        );
    }
}
