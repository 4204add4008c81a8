//! The checked form of what a caller may set.

use std::time::Duration;

use crate::endpoint::InstanceUrl;
use crate::outcome::Outcome;
use crate::process;
use crate::transport::{Proxies, Trust};

/// How sessions on linked devices are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    Ignore,
    RequireLoggedOut,
    LogOut,
    TryLogOut,
}

/// The options of a client.
#[derive(Debug, Clone)]
pub struct Options {
    pub timeout: Duration,
    pub connect_timeout: Duration,
    pub max_retries: u32,
    pub max_in_flight: u32,
    /// Whether the calls have nothing to do with one another (the one call): then `max_in_flight`
    /// does not bound them, and a 429 to one does not hold back the others.
    pub independent: bool,
    /// The time between the starts of two requests; zero for no limit.
    pub interval: Duration,
    pub session: Session,
    pub allow_http: bool,
    /// Whether connections of clients with these options may serve one another: nothing in them
    /// changes how a connection is made.
    pub shares_connections: bool,
    /// `None`: the system's certificates.
    pub ca: Option<Trust>,
    /// `None`: what the environment says.
    pub proxy: Option<Proxies>,
    /// With the library's own name at its end.
    pub user_agent: String,
    /// Where an instance's own methods are asked; `None`: where everything else is.
    pub instance_url: Option<InstanceUrl>,
    /// The path of the journal.
    pub journal: Option<String>,
}

const OWN_NAME: &str = concat!("greenapi/", env!("CARGO_PKG_VERSION"));

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(30_000),
            connect_timeout: Duration::from_millis(10_000),
            max_retries: 3,
            max_in_flight: 64,
            independent: false,
            interval: Duration::ZERO,
            session: Session::Ignore,
            allow_http: false,
            shares_connections: false,
            ca: None,
            proxy: None,
            user_agent: OWN_NAME.to_owned(),
            instance_url: None,
            journal: None,
        }
    }
}

impl Options {
    /// Takes from the environment what is not set. To be called on the caller's thread: the host
    /// may change its environment on it.
    pub fn settle(&mut self) {
        self.shares_connections = self.ca.is_none()
            && self.proxy.is_none()
            && self.connect_timeout == Self::default().connect_timeout;
        self.proxy
            .get_or_insert_with(|| Proxies::from_environment(process::variable));
        self.ca
            .get_or_insert_with(|| Trust::from_environment(process::variable));
    }

    pub fn proxies(&self) -> Proxies {
        self.proxy.clone().unwrap_or(Proxies::Never)
    }

    pub fn trust(&self) -> Trust {
        self.ca.clone().unwrap_or_default()
    }
}

/// A duration in milliseconds, which may not be zero.
pub fn milliseconds(name: &str, value: u32) -> Result<Duration, Outcome> {
    match value {
        0 => Err(Outcome::invalid(format!(
            "{name} is 0, which leaves no time: give more."
        ))),
        value => Ok(Duration::from_millis(u64::from(value))),
    }
}

/// The pause between two starts that makes for this many requests a second.
pub fn interval(requests_per_second: f64) -> Result<Duration, Outcome> {
    if requests_per_second == 0.0 {
        return Ok(Duration::ZERO);
    }
    if !requests_per_second.is_finite() || requests_per_second < 0.0 {
        return Err(Outcome::invalid(
            "requests_per_second is negative or not a number: give a rate, or 0 for no limit.",
        ));
    }
    // Slower than one a year is one a year: longer pauses do not fit the clocks.
    const YEAR: f64 = 31_536_000.0;
    Ok(Duration::from_secs_f64(
        (1.0 / requests_per_second).min(YEAR),
    ))
}

/// The `session` option's number.
pub fn session(number: u32) -> Result<Session, Outcome> {
    match number {
        0 => Ok(Session::Ignore),
        1 => Ok(Session::RequireLoggedOut),
        2 => Ok(Session::LogOut),
        3 => Ok(Session::TryLogOut),
        other => Err(Outcome::invalid(format!(
            "session is {other}, which is no session policy of this version."
        ))),
    }
}

/// The whole `User-Agent` header.
pub fn user_agent(own: &str) -> Result<String, Outcome> {
    const LIMIT: usize = 1024;
    if own.chars().any(char::is_control) {
        return Err(Outcome::invalid(
            "user_agent has a control character in it: give one line of text, like my-program/1.0.",
        ));
    }
    if own.len() > LIMIT {
        return Err(Outcome::invalid(
            "user_agent is longer than 1024 bytes: give one short line, like my-program/1.0.",
        ));
    }
    Ok(match own.trim() {
        "" => OWN_NAME.to_owned(),
        own => format!("{own} {OWN_NAME}"),
    })
}
