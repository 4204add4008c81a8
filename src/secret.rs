//! Values that must never be printed: the partner token, instance tokens, proxy passwords.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::Engine;
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// How many characters of a secret in a row give it away.
const TELLING: usize = 4;
/// Of its base64 form: six characters are four bytes and a half.
const BASE64_TELLING: usize = 6;
/// In the library's own words.
const REASON_TELLING: usize = 6;

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

    /// `text` with an ellipsis for every piece that this secret shares with it: as it is, with
    /// any of its characters percent-encoded, or in base64.
    pub fn redact(&self, text: &str) -> String {
        self.hide(text, TELLING)
    }

    /// Hides pieces of `telling` characters and more.
    fn hide(&self, text: &str, telling: usize) -> String {
        let plain: Vec<(char, Range<usize>)> = text
            .char_indices()
            .map(|(start, c)| (c, start..start + c.len_utf8()))
            .collect();
        let decoded = percent_decoded(text);
        let mut hidden = vec![false; text.len()];
        for (form, telling) in self.forms(telling) {
            let pieces: HashSet<&[char]> = form.windows(telling).collect();
            for view in [&plain, &decoded] {
                let folded: Vec<char> = view.iter().map(|(c, _)| fold(*c)).collect();
                for (start, window) in folded.windows(telling).enumerate() {
                    if pieces.contains(window) {
                        for (_, range) in &view[start..start + telling] {
                            hidden[range.clone()].fill(true);
                        }
                    }
                }
            }
        }
        let mut redacted = String::new();
        for (start, c) in text.char_indices() {
            match (hidden[start], start > 0 && hidden[start - 1]) {
                (false, _) => redacted.push(c),
                (true, false) => redacted.push('…'),
                (true, true) => {}
            }
        }
        redacted
    }

    /// What gives the secret away, each with the number of characters in a row that do.
    fn forms(&self, telling: usize) -> Vec<(Vec<char>, usize)> {
        let folded = |text: &str| text.chars().map(fold).collect::<Vec<char>>();
        let plain = folded(&self.0);
        // A shorter secret is hidden as a whole.
        let whole = telling.min(plain.len()).max(1);
        let mut forms = vec![(plain, whole)];
        if self.0.len() >= TELLING {
            // Where it begins within a longer text decides which of three its base64 form is.
            for before in 0..3 {
                let bytes = [&[0; 3][..before], self.0.as_bytes()].concat();
                let encoded = STANDARD_NO_PAD.encode(&bytes);
                // The first and the last characters depend on the neighbours, too.
                let from = (before * 8).div_ceil(6);
                let to = bytes.len() * 8 / 6;
                for text in [encoded.clone(), encoded.replace('+', "-").replace('/', "_")] {
                    let form = folded(&text[from..to]);
                    if form.len() >= BASE64_TELLING {
                        forms.push((form, BASE64_TELLING));
                    }
                }
            }
        }
        forms
    }
}

/// `reason` without what shows one of `secrets`. For the library's own words, which no secret is
/// in: the second wall. So a secret that happens to be part of an everyday word is left alone.
pub fn redact<'s>(reason: &str, secrets: impl IntoIterator<Item = &'s Secret>) -> String {
    let mut text: String = reason.chars().filter(|c| !c.is_control()).collect();
    for secret in secrets {
        if secret.0.len() >= REASON_TELLING {
            text = secret.hide(&text, REASON_TELLING);
        }
    }
    text
}

fn fold(c: char) -> char {
    c.to_ascii_lowercase()
}

/// The characters of `text`, an escape like `%2F` being one, and where each stands.
fn percent_decoded(text: &str) -> Vec<(char, Range<usize>)> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| (*bytes.get(at + offset)? as char).to_digit(16);
        let (byte, length) = match (bytes[at], hex(1), hex(2)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (byte, ..) => (byte, 1),
        };
        decoded.push((byte, at..at + length));
        at += length;
    }
    // Characters of several bytes, as far as they are whole.
    let bytes: Vec<u8> = decoded.iter().map(|(byte, _)| *byte).collect();
    let mut characters = Vec::new();
    let mut at = 0;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let length = c.len_utf8();
            let range = decoded[at].1.start..decoded[at + length - 1].1.end;
            characters.push((c, range));
            at += length;
        }
        for _ in chunk.invalid() {
            characters.push((char::REPLACEMENT_CHARACTER, decoded[at].1.clone()));
            at += 1;
        }
    }
    characters
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
        assert_eq!(secret.redact("x%73%33%63%72%26y S3CR&T"), "x…y …");
        assert_eq!(secret.redact("%ff s3cr%e9%"), "%ff …%e9%");
        assert!(!format!("{secret:?}").contains("s3cr"));
    }

    #[test]
    fn base64_of_a_secret_is_hidden_wherever_it_begins() {
        let secret = Secret::new("s3cr&t/word?>~~~");
        for before in ["", "u", "us", "user:", "användare:"] {
            for after in ["", "x", "xy", ":more"] {
                let text = format!("{before}{}{after}", secret.expose());
                for encoded in [
                    base64::engine::general_purpose::STANDARD.encode(&text),
                    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(&text),
                ] {
                    let redacted = secret.redact(&format!("no {encoded} here"));
                    let left: String = redacted.replace("no ", "").replace(" here", "");
                    assert!(left.contains('…'), "{encoded}: {redacted}");
                    // What is left is of the neighbours.
                    for piece in left.split('…') {
                        assert!(
                            piece.len() <= before.len().max(after.len()) * 4 / 3 + 5,
                            "{encoded}: {redacted}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_reason_keeps_its_everyday_words() {
        let reason = "the proxy refused the tunnel (403)";
        let secrets = ["proxy", "a", "tunnel of love"].map(Secret::new);
        assert_eq!(redact(reason, &secrets), "the proxy refused the …(403)");
        assert_eq!(redact("a\nb", &secrets), "ab");
    }
}
