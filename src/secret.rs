//! Values that must never be printed: the partner token, instance tokens, proxy passwords.

use std::fmt;

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// How many characters of a secret in a row give it away.
const TELLING: usize = 4;

/// Everything but the characters that RFC 3986 calls unreserved, so no secret can end its path
/// segment or begin another part of the URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as one segment of a URL's path.
    pub fn path_segment(&self) -> String {
        utf8_percent_encode(&self.0, SEGMENT).to_string()
    }

    /// `text` with an ellipsis for every piece that this secret, or its form in a URL, shares
    /// with it.
    pub fn redact(&self, text: &str) -> String {
        let text: Vec<char> = text.chars().collect();
        let mut hidden = vec![false; text.len()];
        for form in [self.0.to_string(), self.path_segment()] {
            let form: Vec<char> = form.chars().collect();
            // A shorter secret is hidden as a whole.
            let telling = TELLING.min(form.len()).max(1);
            let pieces: std::collections::HashSet<&[char]> = form.windows(telling).collect();
            for (start, window) in text.windows(telling).enumerate() {
                if pieces.contains(window) {
                    hidden[start..start + telling].fill(true);
                }
            }
        }
        let mut redacted = String::new();
        for (index, c) in text.iter().enumerate() {
            match (hidden[index], index > 0 && hidden[index - 1]) {
                (false, _) => redacted.push(*c),
                (true, false) => redacted.push('…'),
                (true, true) => {}
            }
        }
        redacted
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_can_leave_its_path_segment() {
        for (token, segment) in [
            ("gac.0123-a_b~c", "gac.0123-a_b~c"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("100%", "100%25"),
            ("a b\\c;d", "a%20b%5Cc%3Bd"),
            ("é", "%C3%A9"),
            ("../x", "..%2Fx"),
        ] {
            assert_eq!(Secret::new(token).path_segment(), segment);
        }
    }

    #[test]
    fn a_piece_of_a_secret_is_hidden_in_both_its_forms() {
        let secret = Secret::new("s3cr&t/word");
        assert_eq!(secret.redact("GET /x/s3cr%26t%2Fword/y"), "GET /x/…/y");
        assert_eq!(
            secret.redact("…cr&t/w and word"),
            "……  and …".replace("  ", " ")
        );
        assert_eq!(secret.redact("nothing here"), "nothing here");
        assert!(!format!("{secret:?}").contains("s3cr"));
    }
}
