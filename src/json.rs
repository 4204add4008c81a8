//! Parses the JSON objects of the API's answers, strictly: what is not clear JSON is no answer.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object, with each value as text: valid UTF-8, and without repeated keys.
#[derive(Debug)]
pub struct Object<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// Parses a whole body; the error is a clause for a message.
    pub fn parse(body: &'a [u8]) -> Result<Self, &'static str> {
        if body.is_empty() {
            return Err("its answer is empty");
        }
        // Checked here because serde_json does not check the UTF-8 of values that it skips.
        let text = std::str::from_utf8(body).map_err(|_| "its answer is not UTF-8")?;
        serde_json::from_str(text).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => FOREIGN,
            serde_json::error::Category::Eof => "its answer is cut off",
            _ => "its answer is not JSON",
        })
    }

    /// The value, if the object has the key; a value of another type (`null` too) is an error.
    pub fn get<T: Deserialize<'a>>(&self, key: &str) -> Result<Option<T>, &'static str> {
        let value = self.0.get(key);
        let value = value.map(|raw| serde_json::from_str(raw.get()));
        value.transpose().map_err(|_| FOREIGN)
    }

    /// The value if it is a string. For texts that only explain: one of a wrong type must not make
    /// the answer unusable.
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.get(key).and_then(|raw| text(raw.get()))
    }
}

/// The error for JSON that is not an answer of this API.
pub const FOREIGN: &str = "its answer is JSON, but did not come from this API";

/// Written by hand, because a derived implementation would accept an array in place of the object,
/// and repeated unknown keys.
impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = BTreeMap<String, &'de RawValue>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, _>()? {
                    if values.insert(key, value).is_some() {
                        return Err(A::Error::custom("a repeated key"));
                    }
                }
                Ok(values)
            }
        }

        deserializer.deserialize_map(ObjectVisitor).map(Object)
    }
}

/// The text of a JSON value that is a string. A lone surrogate, which JSON allows and UTF-8 does
/// not, becomes U+FFFD.
pub fn text(json: &str) -> Option<String> {
    let json = json.trim_ascii();
    let bytes = json.starts_with('"').then(|| serde_json::from_str(json));
    let Bytes(bytes) = bytes?.ok()?;
    Some(replace_surrogates(bytes.into_owned()))
}

/// Replaces lone surrogates by U+FFFD. serde_json writes each as the three bytes that UTF-8 would
/// use for it.
fn replace_surrogates(mut text: Vec<u8>) -> String {
    for at in 0..text.len().saturating_sub(2) {
        // No valid character is encoded with these two bytes at its start.
        if text[at] == 0xED && text[at + 1] >= 0xA0 {
            text[at..at + 3].copy_from_slice("\u{FFFD}".as_bytes());
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A JSON string, which may contain lone surrogates.
struct Bytes<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;

        impl<'de> Visitor<'de> for BytesVisitor {
            type Value = Cow<'de, [u8]>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(bytes))
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Cow::Owned(bytes.to_owned()))
            }
        }

        deserializer.deserialize_bytes(BytesVisitor).map(Bytes)
    }
}
