//! The control interface: plain HTTP with JSON, for tests in any language.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};
use tokio::io::AsyncWriteExt;

use crate::fault::Rule;
use crate::h1::{Incoming, ReadError};
use crate::relay;
use crate::wire::Wire;
use crate::world::{fill, Instance, Settings, Shared, Until};

/// How long `/wait` waits by default.
const DEFAULT_WAIT_MS: u64 = 30_000;

/// The status and the body of an answer.
type Reply = (u16, Value);

/// Serves one connection.
pub(crate) async fn serve(wire: Wire, shared: Arc<Shared>) {
    let mut incoming = Incoming::new(wire);
    loop {
        let (reply, close) = match next(&mut incoming, &shared).await {
            Ok(Some(done)) => done,
            Ok(None) | Err(ReadError::Gone) => return,
            Err(ReadError::Refused(status)) => ((status, json!({ "error": "bad request" })), true),
        };
        if write(&mut incoming.stream, reply, close).await.is_err() || close {
            return;
        }
    }
}

/// Reads and carries out a request. Returns the answer, and whether the connection ends.
async fn next(
    incoming: &mut Incoming<Wire>,
    shared: &Arc<Shared>,
) -> Result<Option<(Reply, bool)>, ReadError> {
    let Some(head) = incoming.head().await? else {
        return Ok(None);
    };
    let body = incoming.body(&head).await?;
    let reply = route(shared, &head.method, &head.target, &body)
        .await
        .unwrap_or_else(|error| (400, json!({ "error": error })));
    Ok(Some((reply, head.wants_close())))
}

async fn write(wire: &mut Wire, (status, value): Reply, close: bool) -> std::io::Result<()> {
    let body = value.to_string();
    let reason = crate::api::reason_phrase(status);
    let length = body.len();
    let connection = if close { "close" } else { "keep-alive" };
    let answer = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}"
    );
    wire.write_all(answer.as_bytes()).await
}

async fn route(
    shared: &Arc<Shared>,
    method: &str,
    target: &str,
    body: &[u8],
) -> Result<Reply, String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let done = || Ok((200, json!({ "ok": true })));
    match (method, path) {
        ("GET", "/ledger") => Ok((200, json!(shared.ledger()))),
        ("GET", "/requests") => Ok((200, json!(shared.requests()))),
        ("GET", "/arrivals") => Ok((200, json!(shared.arrivals()))),
        ("GET", "/stats") => Ok((200, json!(shared.stats()))),
        ("GET", "/settings") => Ok((200, json!(shared.settings()))),
        ("GET", "/wait") => {
            let (until, timeout) = read_until(query)?;
            Ok(if shared.wait(&until, timeout).await {
                (200, json!({ "ok": true }))
            } else {
                (408, json!({ "ok": false, "stats": shared.stats() }))
            })
        }
        ("POST", "/instances") => {
            match parse(body)? {
                Instances::Some(instances) => shared.put_instances(instances),
                Instances::Many(Many {
                    first,
                    count,
                    state,
                }) => shared.put_instances(fill(first, count, state.as_deref())),
            }
            done()
        }
        ("DELETE", "/instances") => {
            shared.clear_instances();
            done()
        }
        ("POST", "/faults") => {
            shared.append_faults(parse::<Vec<Rule>>(body)?);
            done()
        }
        ("DELETE", "/faults") => {
            shared.clear_faults();
            done()
        }
        ("POST", "/settings") => {
            let settings = merge(&shared.settings(), parse(body)?)?;
            shared.set_settings(settings);
            done()
        }
        ("POST", "/release") => Ok((200, json!({ "released": shared.release() }))),
        ("POST", "/reset") => {
            shared.reset();
            done()
        }
        ("POST", "/relay") => {
            let Relay { target, delay_ms } = parse(body)?;
            relay::open(shared, target, Duration::from_millis(delay_ms))
                .map(|address| (200, json!({ "address": address })))
                .map_err(|error| error.to_string())
        }
        _ => Ok((404, json!({ "error": "no such route" }))),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

/// The settings with the given fields replaced.
fn merge(settings: &Settings, given: serde_json::Map<String, Value>) -> Result<Settings, String> {
    let mut merged = json!(settings);
    for (name, value) in given {
        merged[name] = value;
    }
    serde_json::from_value(merged).map_err(|error| error.to_string())
}

/// The body of `POST /instances`.
enum Instances {
    Some(Vec<Instance>),
    Many(Many),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    first: i64,
    count: u32,
    #[serde(default)]
    state: Option<String>,
}

impl<'de> Deserialize<'de> for Instances {
    /// Chooses the form by the JSON type, so that an error is about the form that was meant.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        if value.is_array() {
            serde_json::from_value(value).map(Instances::Some)
        } else {
            serde_json::from_value(value).map(Instances::Many)
        }
        .map_err(serde::de::Error::custom)
    }
}

/// The body of `POST /relay`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Relay {
    target: SocketAddr,
    #[serde(default)]
    delay_ms: u64,
}

/// The query of `GET /wait`.
fn read_until(query: &str) -> Result<(Until, Duration), String> {
    let mut until = Until::default();
    let mut timeout = DEFAULT_WAIT_MS;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let number = || {
            value
                .parse()
                .map_err(|_| format!("{name} must be a number, not \"{value}\""))
        };
        match name {
            "received" => until.received = Some(number()?),
            "connections" => until.connections = Some(number()?),
            "open" => until.open = Some(number()?),
            "held" => until.held = Some(number()?),
            "listener" => until.listener = Some(value.to_owned()),
            "timeout_ms" => timeout = number()?,
            _ => return Err(format!("/wait has no parameter \"{name}\"")),
        }
    }
    Ok((until, Duration::from_millis(timeout)))
}
