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
    /// encoded (also several times) or in another case, or has spaces or invisible characters in
    /// between.
    pub fn redact(&self, text: &str) -> String {
        self.hide(text, SHORTEST_PIECE)
    }

    /// Hides pieces of `shortest` or more characters.
    fn hide(&self, text: &str, shortest: usize) -> String {
        let views = [View::plain(text), View::decoded(text)];
        let mut hidden = vec![false; text.len()];
        for (form, shortest) in self.forms(shortest) {
            let pieces: HashSet<&[char]> = form.windows(shortest).collect();
            for view in &views {
                for (start, window) in view.text.windows(shortest).enumerate() {
                    if pieces.contains(window) {
                        let last = start + shortest - 1;
                        hidden[view.places[start].start..view.places[last].end].fill(true);
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
        // The views of a text in which the secret itself looks encoded decode the secret too.
        let plain = View::plain(&self.0).text;
        let decoded = View::decoded(&self.0).text;
        // A secret shorter than `shortest` is hidden only as a whole.
        let whole = |form: Vec<char>, shortest: usize| {
            let shortest = shortest.min(form.len()).max(1);
            (form, shortest)
        };
        let mut forms = Vec::new();
        if decoded != plain {
            forms.push(whole(decoded, shortest));
        }
        forms.push(whole(plain, shortest));
        if self.0.len() >= SHORTEST_PIECE {
            let hex: String = self.0.bytes().map(|byte| format!("{byte:02x}")).collect();
            forms.push(whole(hex.chars().collect(), 2 * shortest));
            // The secret has three base64 forms, depending on its position in the encoded text.
            for before in 0..3 {
                let bytes = [&[0; 3][..before], self.0.as_bytes()].concat();
                let encoded = STANDARD_NO_PAD.encode(&bytes);
                // Characters at either end that also depend on neighbouring bytes are left out.
                let from = (before * 8).div_ceil(6);
                let to = bytes.len() * 8 / 6;
                for text in [encoded.clone(), encoded.replace('+', "-").replace('/', "_")] {
                    let form = View::plain(&text[from..to]).text;
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

/// Whether a character shows nothing, but could forge a log line or change the reading direction.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}'
        )
}

/// A text as it is compared with secrets: in one case, and without spaces and invisible characters,
/// which come and go when a text is copied.
struct View {
    text: Vec<char>,
    /// Where each character is in the original text.
    places: Vec<Range<usize>>,
}

impl View {
    fn plain(text: &str) -> Self {
        let place = |(start, c): (usize, char)| (c, start..start + c.len_utf8());
        Self::of(text.char_indices().map(place))
    }

    /// The text after decoding everything that looks encoded, until nothing does.
    fn decoded(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len());
        let mut places: Vec<Range<usize>> = Vec::with_capacity(text.len());
        for (at, byte) in text.bytes().enumerate() {
            bytes.push(byte);
            places.push(at..at + 1);
            // What was just decoded may complete another code.
            while let Some((length, decoded)) = code_at_end(&bytes) {
                let place = places[bytes.len() - length].start..at + 1;
                bytes.truncate(bytes.len() - length);
                places.truncate(bytes.len());
                bytes.extend(decoded);
                places.resize(bytes.len(), place);
            }
        }
        // Join bytes to UTF-8 characters; each invalid byte becomes a replacement character.
        let mut characters = Vec::new();
        let mut at = 0;
        for chunk in bytes.utf8_chunks() {
            for c in chunk.valid().chars() {
                let next = at + c.len_utf8();
                characters.push((c, places[at].start..places[next - 1].end));
                at = next;
            }
            for _ in chunk.invalid() {
                characters.push((char::REPLACEMENT_CHARACTER, places[at].clone()));
                at += 1;
            }
        }
        Self::of(characters.into_iter())
    }

    fn of(characters: impl Iterator<Item = (char, Range<usize>)>) -> Self {
        let (mut text, mut places) = (Vec::new(), Vec::new());
        for (c, place) in characters.filter(|(c, _)| !is_gap(*c)) {
            // Some characters have an upper case of their own but share the lower case, or the other
            // way round.
            text.extend(c.to_uppercase().flat_map(char::to_lowercase));
            places.resize(text.len(), place);
        }
        Self { text, places }
    }
}

fn is_gap(c: char) -> bool {
    c.is_whitespace() || is_invisible(c)
}

/// The length of the gap at the end of `text`, if there is one.
fn gap_at_end(text: &[u8]) -> Option<usize> {
    let end = &text[text.len().saturating_sub(4)..];
    let start = end.iter().rposition(|byte| byte & 0xC0 != 0x80)?;
    let last = &end[start..];
    let c = std::str::from_utf8(last).ok()?.chars().next()?;
    is_gap(c).then_some(last.len())
}

/// The code at the end of `text`, if there is one: its length, and the bytes that it stands for.
/// Codes are those of URLs (`%67`), of log files (`\x67`), of JSON (`\u0067`) and of HTML (`&#103;`,
/// `&#x67;`, `&amp;`). A gap stands for nothing, for it could also be inside another code.
fn code_at_end(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    /// The longest code is like `&#x0010FFFF;`.
    const LONGEST: usize = 12;
    if let Some(length) = gap_at_end(text) {
        return Some((length, Vec::new()));
    }
    let number = |digits: &[u8], radix| {
        let digits = std::str::from_utf8(digits).ok()?;
        let digits = Some(digits).filter(|digits| !digits.starts_with('+'))?;
        u32::from_str_radix(digits, radix).ok()
    };
    let character = |number: u32| Some(char::from_u32(number)?.to_string().into_bytes());
    if let [.., b'%', high, low] | [.., b'\\', b'x' | b'X', high, low] = text {
        let length = if text[text.len() - 3] == b'%' { 3 } else { 4 };
        if let Some(byte) = number(&[*high, *low], 16) {
            return Some((length, vec![byte as u8]));
        }
    }
    if let [.., b'\\', b'u' | b'U', a, b, c, d] = text {
        if let Some(decoded) = number(&[*a, *b, *c, *d], 16).and_then(character) {
            return Some((6, decoded));
        }
    }
    let inside = text.strip_suffix(b";")?;
    let inside = &inside[inside.len().saturating_sub(LONGEST - 1)..];
    let start = inside.iter().rposition(|byte| *byte == b'&')?;
    let name = &inside[start + 1..];
    let decoded = match &name.to_ascii_lowercase()[..] {
        [b'#', b'x', digits @ ..] => character(number(digits, 16)?)?,
        [b'#', digits @ ..] => character(number(digits, 10)?)?,
        b"amp" => b"&".to_vec(),
        b"lt" => b"<".to_vec(),
        b"gt" => b">".to_vec(),
        b"quot" => b"\"".to_vec(),
        b"apos" => b"'".to_vec(),
        _ => return None,
    };
    Some((name.len() + 2, decoded))
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
        assert_eq!(secret.redact("…cr&t/w and word"), "…… and …");
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

    fn each(text: &str, encode: impl Fn(char) -> String) -> String {
        text.chars().map(encode).collect()
    }

    fn spread(text: &str, gap: &str) -> String {
        let characters: Vec<String> = text.chars().map(String::from).collect();
        characters.join(gap)
    }

    /// Encodes `text` in the way with this number.
    fn encoded(text: &str, way: u8) -> String {
        let units = |c: char| c.encode_utf16(&mut [0; 2]).to_vec();
        match way {
            0 => text.to_owned(),
            1 => utf8_percent_encode(text, SEGMENT).to_string(),
            2 => utf8_percent_encode(text, NON_ALPHANUMERIC).to_string(),
            3 => text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            4 => text.bytes().map(|byte| format!("\\x{byte:02X}")).collect(),
            5 => each(text, |c| format!("&#{};", u32::from(c))),
            6 => each(text, |c| format!("&#x{:x};", u32::from(c))),
            7 => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('"', "&quot;"),
            8 => each(text, |c| match units(c)[..] {
                [unit] => format!("\\u{unit:04x}"),
                _ => c.to_string(),
            }),
            9 => text.to_uppercase(),
            10 => text.to_lowercase(),
            11 => spread(text, " "),
            12 => spread(text, "\u{200b}"),
            _ => spread(text, "\u{ad}\n  "),
        }
    }

    #[test]
    fn a_secret_is_hidden_in_every_form() {
        for secret in [
            "gac.0123456789abcdef",
            "s3cr&t/word?<\">",
            "100%25 %41%42",
            "a\\u0041b\\x41c&#65;d",
            "\\U<0",
            "éàüöäßñ",
            "\u{212a}\u{212a}\u{212a}\u{212a}xyz",
            "a\u{200b}b\u{200b}c\u{200b}d\u{200b}e",
            "a  b  c  d  e",
        ] {
            let hides = |text: &str| {
                let redacted = Secret::new(secret).redact(&format!("({text})"));
                let redacted: String = redacted
                    .chars()
                    .filter(|c| !c.is_whitespace() && !is_invisible(*c))
                    .collect();
                assert_eq!(redacted, "(…)", "{secret}: {text}");
            };
            for first in 0..=13 {
                for second in 0..=13 {
                    hides(&encoded(&encoded(secret, first), second));
                }
            }
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            hides(&hex);
            hides(&hex.to_uppercase());
            hides(&encoded(&hex, 3));
        }
    }

    #[test]
    fn other_text_stays() {
        let secret = Secret::new("gac.0123456789abcdef");
        for text in [
            "Not found",
            "100%",
            "%zz &amp; \\u12 &#x110000; &;",
            "a b c",
        ] {
            assert_eq!(secret.redact(text), text);
        }
    }

    proptest::proptest! {
        /// However often and in whatever ways a secret is encoded. What stands around it is no
        /// character of the secret, because it would be hidden with a piece that it completes. The
        /// secret has none of the characters with which codes begin (the table above has some such):
        /// one that contains the code of a gap is not hidden to its end.
        #[test]
        fn an_encoded_secret_is_hidden(
            secret in r"[!-$'-\[\]-~é]{4,12}",
            ways in proptest::collection::vec(0u8..=13, 0..4),
        ) {
            let text = ways.iter().fold(secret.clone(), |text, way| encoded(&text, *way));
            let redacted = Secret::new(&secret).redact(&format!("« {text} »"));
            let left: String = redacted.split_whitespace().collect();
            let left: String = left.chars().filter(|c| !is_invisible(*c)).collect();
            proptest::prop_assert_eq!(left, "«…»", "{}", text);
        }
    }

    #[test]
    fn a_reason_keeps_its_everyday_words() {
        let reason = "the proxy refused the tunnel (403)";
        let secrets = ["proxy", "a", "tunnel of love"].map(Secret::new);
        assert_eq!(redact(reason, &secrets), "the proxy refused the … (403)");
        assert_eq!(redact("a\nb", &secrets), "ab");
    }
}
