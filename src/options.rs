//! The options of a client in their checked form.

use std::time::{Duration, Instant};

use crate::endpoint::InstanceUrl;
use crate::outcome::Outcome;
use crate::process;
use crate::transport::{Proxies, Trust};

/// What to do about the instance's session on a linked device before the deletion.
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
    /// Whether calls do not limit one another, as for `greenapi_delete_instance`: `max_in_flight`
    /// does not apply, and a 429 to one call does not delay the others.
    pub independent: bool,
    /// The least time between the starts of two requests; zero: no limit.
    pub interval: Duration,
    pub session: Session,
    pub allow_http: bool,
    /// Whether this client may share connections with other clients, because none of its options
    /// changes how a connection is made.
    pub shares_connections: bool,
    /// `None`: the system's certificates.
    pub ca: Option<Trust>,
    /// `None`: taken from the environment.
    pub proxy: Option<Proxies>,
    /// The whole header, which ends with the library's own name.
    pub user_agent: String,
    /// The address for an instance's own methods; `None`: the client's URL.
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
    /// Fills unset options from the environment. Must run on the caller's thread: on another
    /// thread, reading could race with the caller changing the environment.
    pub fn settle(&mut self) {
        self.shares_connections = self.ca.is_none()
            && self.proxy.is_none()
            && self.connect_timeout == Self::default().connect_timeout;
        self.proxy
            .get_or_insert_with(|| Proxies::from_environment(process::variable));
        self.ca
            .get_or_insert_with(|| Trust::from_environment(process::variable));
    }

    /// The end of the timeout that begins at `now`; a day later, if the clock's type cannot hold that.
    pub fn deadline(&self, now: Instant) -> Instant {
        now.checked_add(self.timeout)
            .unwrap_or(now + Duration::from_secs(86_400))
    }

    pub fn proxies(&self) -> Proxies {
        self.proxy.clone().unwrap_or(Proxies::Never)
    }

    pub fn trust(&self) -> Trust {
        self.ca.clone().unwrap_or_default()
    }
}

/// Converts milliseconds to a duration; refuses zero.
pub fn milliseconds(name: &str, value: u32) -> Result<Duration, Outcome> {
    match value {
        0 => Err(Outcome::invalid(format!(
            "{name} is 0, which leaves no time: give 1 or more."
        ))),
        value => Ok(Duration::from_millis(u64::from(value))),
    }
}

/// The pause between two requests at this rate.
pub fn interval(requests_per_second: f64) -> Result<Duration, Outcome> {
    if requests_per_second == 0.0 {
        return Ok(Duration::ZERO);
    }
    if !requests_per_second.is_finite() || requests_per_second < 0.0 {
        return Err(Outcome::invalid(
            "requests_per_second is negative or not a number: give a rate, or 0 for no limit.",
        ));
    }
    // The pause is at most a year, because the clock's type cannot hold much longer ones.
    const YEAR: f64 = 31_536_000.0;
    Ok(Duration::from_secs_f64(
        (1.0 / requests_per_second).min(YEAR),
    ))
}

/// The session policy with this number.
pub fn session(number: u32) -> Result<Session, Outcome> {
    match number {
        0 => Ok(Session::Ignore),
        1 => Ok(Session::RequireLoggedOut),
        2 => Ok(Session::LogOut),
        3 => Ok(Session::TryLogOut),
        other => Err(Outcome::invalid(format!(
            "session is {other}: give one of the session policies of this version."
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
