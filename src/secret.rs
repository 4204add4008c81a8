//! Values that must never be printed: the partner token, instance tokens, proxy passwords.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use base64::engine::general_purpose::STANDARD_NO_PAD;
use base64::Engine;
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

/// The shortest piece of a secret that is hidden in foreign text, in characters.
const SHORTEST_PIECE: usize = 4;
/// The shortest piece of a secret's base64 form that is hidden, in characters (4.5 bytes).
const SHORTEST_BASE64_PIECE: usize = 6;
/// The shortest piece of a secret that is hidden in the library's own texts, in characters.
const SHORTEST_PIECE_IN_REASON: usize = 6;

/// The characters to percent-encode: all except those that RFC 3986 calls unreserved, so that no
/// secret can end its path segment or begin another part of the URL.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A secret text; `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The text itself, for the code that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text as one segment of a URL's path.
    pub fn path_segment(&self) -> String {
        utf8_percent_encode(&self.0, SEGMENT).to_string()
    }

    /// `text` with an ellipsis in place of every piece of this secret, also if the piece is partly
    /// percent-encoded or in base64.
    pub fn redact(&self, text: &str) -> String {
        self.hide(text, SHORTEST_PIECE)
    }

    /// Hides pieces of `shortest` or more characters.
    fn hide(&self, text: &str, shortest: usize) -> String {
        let plain: Vec<(char, Range<usize>)> = text
            .char_indices()
            .map(|(start, c)| (c, start..start + c.len_utf8()))
            .collect();
        let decoded = percent_decoded(text);
        let mut hidden = vec![false; text.len()];
        for (form, shortest) in self.forms(shortest) {
            let pieces: HashSet<&[char]> = form.windows(shortest).collect();
            for view in [&plain, &decoded] {
                let folded: Vec<char> = view.iter().map(|(c, _)| fold(*c)).collect();
                for (start, window) in folded.windows(shortest).enumerate() {
                    if pieces.contains(window) {
                        for (_, range) in &view[start..start + shortest] {
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

    /// The forms in which the secret may appear, each with the number of consecutive characters
    /// that must be hidden.
    fn forms(&self, shortest: usize) -> Vec<(Vec<char>, usize)> {
        let folded = |text: &str| text.chars().map(fold).collect::<Vec<char>>();
        let plain = folded(&self.0);
        // A secret shorter than `shortest` is hidden only as a whole.
        let whole = shortest.min(plain.len()).max(1);
        let mut forms = vec![(plain, whole)];
        if self.0.len() >= SHORTEST_PIECE {
            // The secret has three base64 forms, depending on its position in the encoded text.
            for before in 0..3 {
                let bytes = [&[0; 3][..before], self.0.as_bytes()].concat();
                let encoded = STANDARD_NO_PAD.encode(&bytes);
                // Characters at either end that also depend on neighbouring bytes are left out.
                let from = (before * 8).div_ceil(6);
                let to = bytes.len() * 8 / 6;
                for text in [encoded.clone(), encoded.replace('+', "-").replace('/', "_")] {
                    let form = folded(&text[from..to]);
                    if form.len() >= SHORTEST_BASE64_PIECE {
                        forms.push((form, SHORTEST_BASE64_PIECE));
                    }
                }
            }
        }
        forms
    }
}

/// Hides `secrets` in `reason`, a text of the library. Such a text contains no secret, so this is
/// only a second line of defence, and leaves a short secret that is part of an everyday word alone.
pub fn redact<'s>(reason: &str, secrets: impl IntoIterator<Item = &'s Secret>) -> String {
    let mut text: String = reason.chars().filter(|c| !c.is_control()).collect();
    for secret in secrets {
        if secret.0.len() >= SHORTEST_PIECE_IN_REASON {
            text = secret.hide(&text, SHORTEST_PIECE_IN_REASON);
        }
    }
    text
}

fn fold(c: char) -> char {
    c.to_ascii_lowercase()
}

/// The characters of `text` after percent-decoding, each with its position in `text`.
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
    // Join bytes to UTF-8 characters; each invalid byte becomes a replacement character.
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
                    // What is left comes from the neighbouring text.
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
