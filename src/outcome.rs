//! What a call reports, and the words it uses: what happened, and what to do.

use std::borrow::Cow;

use crate::secret::Secret;
use crate::status::Status;

/// Room for the message in `greenapi_result`, its NUL included.
pub const MESSAGE_SIZE: usize = 224;

/// Foreign text is explanation only; this much of it is enough to recognise it by.
const FOREIGN_TEXT_LIMIT: usize = 80;

/// What every result of a call says that may have logged an instance out.
pub const PERHAPS_LOGGED_OUT: &str = "Perhaps logged out";

/// The whole of what is known about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// The API's own `code`, else the HTTP status, else 0.
    pub code: i32,
    /// 0: no answer.
    pub http_status: i32,
    /// Deletion requests that may have been sent, retries included.
    pub attempts: u32,
    /// Already cut to fit [`MESSAGE_SIZE`] and free of secrets.
    pub message: Cow<'static, str>,
}

impl Outcome {
    /// An outcome without an answer, in the status' own words.
    pub fn plain(status: Status) -> Self {
        Self::new(status, Cow::Borrowed(status.message()))
    }

    /// An outcome without an answer.
    pub fn new(status: Status, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: 0,
            http_status: 0,
            attempts: 0,
            message: fit(message.into()),
        }
    }

    /// An argument that cannot be used: `message` names it and says what it has to be.
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Status::InvalidArgument, message)
    }

    /// The same outcome, whose message says first what else the call did.
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

/// Cuts a message to what fits into the result, at a character boundary.
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

/// Makes text of a server (or of a library that may quote one) safe to print: no control or
/// formatting characters that could forge a log line or turn the reading direction, not too long,
/// and no piece of a secret, because a server may echo the URL that it was called with.
pub fn sanitize(foreign: &str, secrets: &[&Secret]) -> String {
    let visible = foreign
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !is_invisible(*c));
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

fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
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
