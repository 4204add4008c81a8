//! Parses the API's list of instances from a stream, one instance at a time, so that 100,000
//! instances need no more memory than one. The parser is pure: it does no I/O.
//!
//! The fields that decisions depend on (the id, and whether an instance is deleted) are parsed
//! strictly, all others leniently: a name of a wrong type counts as empty, and an unknown or
//! missing field is no error.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::endpoint::LENGTH_LIMIT;
use crate::json;
use crate::secret::Secret;

/// The state of an instance. The numbers are part of the C interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum State {
    /// The state was not asked for: the list was read without states, or the instance is deleted.
    NotAsked = 0,
    /// Nobody is logged in.
    NotAuthorized = 1,
    /// A device is logged in.
    Authorized = 2,
    /// The messenger has banned the account.
    Blocked = 3,
    /// A device is logged in but switched off.
    SleepMode = 4,
    /// The instance is starting, which takes up to five minutes.
    Starting = 5,
    /// A device is logged in, but sending is limited because of suspected spam.
    YellowCard = 6,
    /// The messenger has suspended the account.
    Suspended = 7,
    /// A login waits for its password.
    PendingPassword = 8,
    /// The instance has expired: none of its own methods works until it is renewed.
    Expired = 9,
    /// The instance is being created, which takes up to five minutes.
    Creating = 10,
    /// A state that this version of the library does not know.
    Other = 11,
    /// The state could not be learned: the question failed, or was refused.
    Unknown = 12,
}

impl State {
    /// The state for a value of `stateInstance`.
    pub fn of(text: &str) -> Self {
        match text {
            "notAuthorized" => Self::NotAuthorized,
            "authorized" => Self::Authorized,
            "blocked" => Self::Blocked,
            "sleepMode" => Self::SleepMode,
            "starting" => Self::Starting,
            "yellowCard" => Self::YellowCard,
            "suspended" => Self::Suspended,
            "pendingPassword" => Self::PendingPassword,
            _ => Self::Other,
        }
    }
}

/// A NUL-terminated text of at most `N - 1` bytes of UTF-8, cut between characters.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>(pub [u8; N]);

impl<const N: usize> Text<N> {
    /// Copies `text`, with U+FFFD in place of each NUL, which would end the text in C.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let mut length = 0;
        for c in text.chars() {
            let c = if c == '\0' { '\u{FFFD}' } else { c };
            if length + c.len_utf8() >= N {
                break;
            }
            c.encode_utf8(&mut bytes[length..]);
            length += c.len_utf8();
        }
        Self(bytes)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        String::from_utf8_lossy(&self.0[..end]).fmt(formatter)
    }
}

/// One instance of the list, without its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    pub id: i64,
    /// Seconds since 1970, like `deleted` and `expires`; 0: the API gives no time.
    pub created: i64,
    pub deleted: i64,
    pub expires: i64,
    pub is_deleted: bool,
    pub is_expired: bool,
    pub is_free: bool,
    pub is_partner: bool,
    pub state: State,
    pub kind: Text<16>,
    pub tariff: Text<32>,
    pub name: Text<168>,
}

/// An item of the list: an instance, and the token for its own methods (empty if it has none that
/// can be used).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub instance: Instance,
    pub token: Secret,
}

/// The error for bytes that are not a list of instances.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAList;

/// The greatest size of one element of the list; real instances take some hundred bytes.
const ELEMENT_LIMIT: usize = 64 * 1024;

/// The greatest size of the list, against servers that never stop; 100,000 instances take about 31
/// MB.
const LIST_LIMIT: usize = 1 << 30;

/// Reads the list from a stream.
#[derive(Default)]
pub struct ListReader {
    position: Position,
    /// The element being read.
    element: Vec<u8>,
    depth: u32,
    in_string: bool,
    escaped: bool,
    /// Bytes read so far.
    total: usize,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Position {
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

impl ListReader {
    /// Consumes bytes from the front of `bytes` until an item is complete; returns `None` if the
    /// bytes end before that.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Item>, NotAList> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            self.total += 1;
            if self.total > LIST_LIMIT {
                return Err(NotAList);
            }
            if self.position == Position::Element {
                if self.ends_element(byte)? {
                    self.position = Position::AfterElement;
                    let item = parse(&self.element);
                    self.element.clear();
                    return item.map(Some);
                }
                continue;
            }
            self.position = match (self.position, byte) {
                (position, b' ' | b'\t' | b'\r' | b'\n') => position,
                (Position::BeforeArray, b'[') => Position::First,
                (Position::First | Position::AfterElement, b']') => Position::AfterArray,
                (Position::AfterElement, b',') => Position::Next,
                (Position::First | Position::Next, b'{') => {
                    self.element.push(byte);
                    self.depth = 1;
                    Position::Element
                }
                _ => return Err(NotAList),
            };
        }
        Ok(None)
    }

    /// Adds a byte to the element and returns whether the element is complete, by counting brackets
    /// outside strings. The JSON parser then checks the element itself.
    fn ends_element(&mut self, byte: u8) -> Result<bool, NotAList> {
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
        match self.depth {
            0 => Ok(true),
            _ if self.element.len() > ELEMENT_LIMIT => Err(NotAList),
            _ => Ok(false),
        }
    }

    /// Whether the list has ended properly.
    pub fn is_whole(&self) -> bool {
        self.position == Position::AfterArray
    }
}

fn parse(element: &[u8]) -> Result<Item, NotAList> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields<'a> {
        id_instance: i64,
        #[serde(default)]
        deleted: Option<bool>,
        #[serde(borrow, default)]
        api_token_instance: Optional<'a>,
        #[serde(borrow, default)]
        name: Optional<'a>,
        #[serde(borrow, default)]
        type_instance: Optional<'a>,
        #[serde(borrow, default)]
        messenger: Optional<'a>,
        #[serde(borrow, default)]
        tariff: Optional<'a>,
        #[serde(borrow, default)]
        time_created: Optional<'a>,
        #[serde(borrow, default)]
        time_deleted: Optional<'a>,
        #[serde(borrow, default)]
        expiration_date: Optional<'a>,
        #[serde(borrow, default)]
        is_expired: Optional<'a>,
        #[serde(borrow, default)]
        is_free: Optional<'a>,
        #[serde(borrow, default)]
        is_partner: Optional<'a>,
    }
    // Checked here because serde_json does not check the UTF-8 of values that it skips.
    let element = std::str::from_utf8(element).map_err(|_| NotAList)?;
    let fields: Fields<'_> = serde_json::from_str(element).map_err(|_| NotAList)?;
    if fields.id_instance <= 0 {
        return Err(NotAList);
    }
    let kind = match fields.type_instance.text() {
        // Some pages of the API's documentation name the field `messenger`.
        text if text.is_empty() => fields.messenger.text(),
        text => text,
    };
    Ok(Item {
        instance: Instance {
            id: fields.id_instance,
            created: seconds(&fields.time_created.text()),
            deleted: seconds(&fields.time_deleted.text()),
            expires: seconds(&fields.expiration_date.text()),
            is_deleted: fields.deleted.unwrap_or(false),
            is_expired: fields.is_expired.flag(),
            is_free: fields.is_free.flag(),
            is_partner: fields.is_partner.flag(),
            state: State::NotAsked,
            kind: Text::new(&kind),
            tariff: Text::new(&fields.tariff.text()),
            name: Text::new(&fields.name.text()),
        },
        token: Secret::new(usable(&fields.api_token_instance.text())),
    })
}

/// The token of an instance, or "" if it can be none: a path step would lead the question elsewhere,
/// and a token of any length would take memory of any size.
fn usable(token: &str) -> &str {
    match token {
        "." | ".." => "",
        long if long.len() > LENGTH_LIMIT => "",
        token => token,
    }
}

/// A field that may be missing, or of any type.
#[derive(Default, Deserialize)]
#[serde(transparent)]
struct Optional<'a>(#[serde(borrow)] Option<&'a RawValue>);

impl Optional<'_> {
    /// The field if it is a string, else "".
    fn text(&self) -> String {
        let text = self.0.and_then(|raw| json::text(raw.get()));
        text.unwrap_or_default()
    }

    fn flag(&self) -> bool {
        self.0.is_some_and(|raw| raw.get() == "true")
    }
}

/// Converts a time like `2023-11-23T10:42:53` to seconds since 1970. It is UTC unless the text
/// names a zone (`Z`, `+03:00`). 0 for a text that is no time, and for the year 1, with which the
/// API means "none".
fn seconds(text: &str) -> i64 {
    read_time(text.trim()).unwrap_or(0)
}

fn read_time(text: &str) -> Option<i64> {
    let (date, time) = text.split_at_checked(10)?;
    let number = |text: &str, digits: usize| -> Option<i64> {
        let right = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        right.then(|| text.parse().ok()).flatten()
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4)?;
    let month = number(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = number(parts.next()?, 2).filter(|day| (1..=days_in(year, month)).contains(day))?;
    if year <= 1 {
        return None;
    }
    let date = days_since_1970(year, month, day) * 86_400;
    if time.is_empty() {
        return Some(date);
    }
    let time = time.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = time.split_at_checked(8)?;
    let mut parts = clock.split(':');
    let hour = number(parts.next()?, 2).filter(|hour| *hour <= 23)?;
    let minute = number(parts.next()?, 2).filter(|minute| *minute <= 59)?;
    // 60 is a leap second.
    let second = number(parts.next()?, 2).filter(|second| *second <= 60)?;
    let zone = match rest.strip_prefix(['.', ',']) {
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            (zone.len() < fraction.len()).then_some(zone)?
        }
        None => rest,
    };
    let ahead = match zone {
        "" | "Z" | "z" => 0,
        zone => {
            let (sign, zone) = zone.split_at_checked(1)?;
            let digits = zone.replacen(':', "", 1);
            let (hours, minutes) = digits.split_at_checked(2)?;
            let minutes = if minutes.is_empty() { "00" } else { minutes };
            let ahead = number(hours, 2).filter(|hours| *hours <= 23)? * 3_600
                + number(minutes, 2).filter(|minutes| *minutes <= 59)? * 60;
            match sign {
                "+" => ahead,
                "-" => -ahead,
                _ => return None,
            }
        }
    };
    let seconds = date + hour * 3_600 + minute * 60 + second - ahead;
    // In some languages (Python) the calendar ends with the year 9999.
    (seconds < days_since_1970(10_000, 1, 1) * 86_400).then_some(seconds)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// The number of days from 1970-01-01 to a date in the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Counting years from March puts the leap day at the end, so that all months before it have
    // regular lengths.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days_of_years = year * 365 + year / 4 - year / 100 + year / 400;
    days_of_years + (month * 153 + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8], piece: usize) -> Result<Vec<Item>, NotAList> {
        let mut reader = ListReader::default();
        let mut items = Vec::new();
        for mut piece in text.chunks(piece) {
            while let Some(item) = reader.next(&mut piece)? {
                items.push(item);
            }
        }
        reader.is_whole().then_some(items).ok_or(NotAList)
    }

    fn one(fields: &str) -> Instance {
        let list = read(format!("[{{\"idInstance\":1,{fields}}}]").as_bytes(), 7);
        list.unwrap().remove(0).instance
    }

    #[test]
    fn the_list_is_read_in_any_pieces_and_is_no_list_before_its_last_byte() {
        let text = br#" [ {"idInstance": 1, "apiTokenInstance": "a\"}]", "deleted": false, "x": [{}]},
            {"deleted": true, "idInstance": 2}, {"idInstance": 3, "name": "{[\\", "apiTokenInstance": null} ]"#;
        for piece in [1, 2, 3, 7, 1000] {
            let list = read(text, piece).unwrap();
            assert_eq!(list.len(), 3);
            assert_eq!(list[0].token, Secret::new("a\"}]"));
            assert!(list[1].instance.is_deleted);
            assert_eq!(format!("{:?}", list[2].instance.name), r#""{[\\""#);
            assert_eq!(list[2].token, Secret::new(""));
        }
        for end in 0..text.len() {
            assert_eq!(read(&text[..end], 1000), Err(NotAList), "{end}");
        }
        assert_eq!(read(b"[]", 1), Ok(Vec::new()));
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
            "[null]",
            "[{}]",
            "[]]",
            "[] x",
            "[{\"idInstance\":1}{\"idInstance\":2}]",
            "[{\"idInstance\":\"1\"}]",
            "[{\"idInstance\":0}]",
            "[{\"idInstance\":1.5}]",
            "[{\"idInstance\":1,\"idInstance\":2}]",
            "[,]",
            "null",
            "[{]}",
            "[{\"idInstance\":1,\"deleted\":\"no\"}]",
        ] {
            assert_eq!(read(text.as_bytes(), 1), Err(NotAList), "{text}");
        }
        assert_eq!(
            read(b"[{\"idInstance\":1,\"name\":\"\xff\"}]", 1),
            Err(NotAList)
        );
        let endless = "[{\"x\":\"".to_owned() + &"x".repeat(100_000);
        assert_eq!(read(endless.as_bytes(), 1000), Err(NotAList));
    }

    #[test]
    fn fields_of_any_type_and_none_at_all() {
        let plain = one("\"x\":1");
        assert_eq!((plain.created, plain.deleted, plain.expires), (0, 0, 0));
        assert!(!plain.is_deleted && !plain.is_expired && !plain.is_free && !plain.is_partner);
        let odd = one(
            r#""name":7,"tariff":["x"],"isFree":"true","timeCreated":false,"typeInstance":null,"messenger":"v3","deleted":null"#,
        );
        assert_eq!(
            (odd.name, odd.tariff, odd.is_free),
            (plain.name, plain.tariff, false)
        );
        assert_eq!(
            (odd.kind, odd.created, odd.is_deleted),
            (Text::new("v3"), 0, false)
        );
        let full = one(
            r#""name":"n","tariff":"t","isFree":true,"isPartner":true,"isExpired":true,"deleted":true,"typeInstance":"whatsapp""#,
        );
        assert!(full.is_deleted && full.is_expired && full.is_free && full.is_partner);
        assert_eq!(full.kind, Text::new("whatsapp"));
    }

    #[test]
    fn names_with_every_character() {
        let name = |json: &str| one(&format!("\"name\":{json}")).name;
        assert_eq!(name(r#""a\u0000b""#), Text::new("a\u{FFFD}b"));
        assert_eq!(name(r#""\ud83e\udd80""#), Text::new("🦀"));
        assert_eq!(name(r#""x\ud83ey\udd80""#), Text::new("x\u{FFFD}y\u{FFFD}"));
        assert_eq!(
            name(r#""\ufffd\ufffd\ufffd\ud83e""#),
            Text::new("\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}")
        );
        for c in (0..=u32::from(char::MAX))
            .filter_map(char::from_u32)
            .step_by(7)
        {
            let json = serde_json::to_string(&c.to_string()).unwrap();
            assert_eq!(name(&json), Text::new(&c.to_string()));
        }
        // Cut between characters, with room for the NUL.
        for filler in ["a", "ü", "€", "🦀"] {
            let Text(bytes) = name(&format!("\"{}\"", filler.repeat(300)));
            let end = bytes.iter().position(|byte| *byte == 0).unwrap();
            assert!(end > 163 && std::str::from_utf8(&bytes[..end]).is_ok());
        }
    }

    #[test]
    fn times_with_and_without_a_zone() {
        for (text, expected) in [
            ("2023-11-23T10:42:53", 1_700_736_173),
            ("2023-11-23T10:42:53Z", 1_700_736_173),
            ("2023-11-23T10:42:53.123", 1_700_736_173),
            ("2023-11-23T10:42:53.1234567Z", 1_700_736_173),
            ("2023-11-23T13:42:53+03:00", 1_700_736_173),
            ("2023-11-23T13:42:53+0300", 1_700_736_173),
            ("2023-11-23T13:42:53.5+03", 1_700_736_173),
            ("2023-11-23T05:12:53-05:30", 1_700_736_173),
            ("2023-11-23 10:42:53", 1_700_736_173),
            (" 2023-11-23 ", 1_700_697_600),
            ("1970-01-01T00:00:01", 1),
            ("1969-12-31T23:59:59", -1),
            ("2000-02-29T00:00:00", 951_782_400),
            ("2024-02-29T12:00:00", 1_709_208_000),
            ("9999-12-31T23:59:59", 253_402_300_799),
            ("0001-01-01T00:00:00", 0),
            ("0001-01-01T00:00:00Z", 0),
            ("2023-02-29T00:00:00", 0),
            ("2023-13-01T00:00:00", 0),
            ("2023-11-23T24:00:00", 0),
            ("2023-11-23T10:42", 0),
            ("2023-11-23T10:42:53X", 0),
            ("2023-11-23T10:42:53+", 0),
            ("2023-11-23T10:42:53.", 0),
            ("2023-11-23T10:42:53€", 0),
            ("€€€€€€", 0),
            ("1700736173", 0),
            ("", 0),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
