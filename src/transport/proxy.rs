//! Decides whether a connection is made directly or through a proxy, which the caller's options or
//! the environment name.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine;
use url::{Host, Url};

use crate::endpoint::Endpoint;
use crate::failure::{Failure, Stage};
use crate::outcome::Outcome;
use crate::secret::Secret;

/// How to reach an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Direct,
    Proxy(Proxy),
}

impl Route {
    /// The host at the other end of the TCP connection.
    pub fn dialled<'a>(&'a self, endpoint: &'a Endpoint) -> &'a Host {
        match self {
            Self::Direct => &endpoint.host,
            Self::Proxy(proxy) => &proxy.host,
        }
    }
}

/// A proxy server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: Kind,
    pub host: Host,
    pub port: u16,
    /// User and password from the proxy's URL, percent-decoded.
    pub login: Option<(Secret, Secret)>,
}

impl Proxy {
    /// The `Proxy-Authorization` header line with the login; empty without a login.
    pub fn authorization(&self) -> String {
        match &self.login {
            Some((user, password)) => {
                let plain = format!("{}:{}", user.expose(), password.expose());
                let encoded = base64::engine::general_purpose::STANDARD.encode(plain);
                format!("Proxy-Authorization: Basic {encoded}\r\n")
            }
            None => String::new(),
        }
    }

    /// The texts that no message may show.
    fn secrets(&self) -> Vec<Secret> {
        let Some((user, password)) = &self.login else {
            return Vec::new();
        };
        // The pair is listed too, because HTTP proxies get it as one base64 text.
        let pair = Secret::new(&format!("{}:{}", user.expose(), password.expose()));
        let all = [pair, user.clone(), password.clone()];
        let given = all.into_iter().filter(|one| !one.expose().is_empty());
        given.collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    /// An HTTP proxy to which the connection itself uses TLS.
    Https,
    /// `remote_dns`: the proxy looks up the server's name (`socks5h`).
    Socks5 {
        remote_dns: bool,
    },
}

/// The source of a transport's proxies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proxies {
    Environment(Arc<Environment>),
    /// One proxy for all connections.
    Always(Proxy),
    Never,
}

/// The environment's proxy settings, read as libcurl reads them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Environment {
    https: Option<Named>,
    http: Option<Named>,
    exceptions: String,
}

/// A proxy, or the name of the variable whose value is not a usable proxy URL.
type Named = Result<Proxy, &'static str>;

impl Proxies {
    /// Reads the environment's settings once, with `variable`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let read = |name: &'static str| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some((name, value))
        };
        let proxy = |names: &[&'static str]| {
            let (name, value) = names.iter().find_map(|name| read(name))?;
            Some(value.to_str().and_then(|url| parse(url).ok()).ok_or(name))
        };
        let exceptions = read("no_proxy").or_else(|| read("NO_PROXY"));
        Self::Environment(Arc::new(Environment {
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            // Not HTTP_PROXY: in a CGI program it holds the value of the client's header `Proxy`.
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            exceptions: exceptions.map_or_else(String::new, |(_, value)| {
                value.to_string_lossy().into_owned()
            }),
        }))
    }

    /// The `proxy` option: an empty text means none.
    pub fn from_option(url: &str) -> Result<Self, Outcome> {
        if url.is_empty() {
            return Ok(Self::Never);
        }
        // The URL may hold a password, so no message repeats it.
        parse(url).map(Self::Always).map_err(|problem| {
            Outcome::invalid(format!(
                "proxy {problem}: give a URL like http://proxy:3128, https://…, socks5://… or socks5h://…"
            ))
        })
    }

    /// The texts that no message may show.
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Always(proxy) => proxy.secrets(),
            Self::Environment(environment) => {
                let named = [&environment.https, &environment.http];
                let usable = named.into_iter().flatten().flatten();
                usable.flat_map(Proxy::secrets).collect()
            }
            Self::Never => Vec::new(),
        }
    }

    /// How to reach `endpoint`.
    pub fn route(&self, endpoint: &Endpoint) -> Result<Route, Failure> {
        let environment = match self {
            Self::Never => return Ok(Route::Direct),
            Self::Always(proxy) => return Ok(Route::Proxy(proxy.clone())),
            // A proxy would get the token unencrypted, and would connect to the loopback of its own
            // machine.
            Self::Environment(_) if !endpoint.tls && endpoint.is_loopback() => {
                return Ok(Route::Direct)
            }
            Self::Environment(environment) => environment,
        };
        let named = match endpoint.tls {
            true => &environment.https,
            false => &environment.http,
        };
        match named {
            None => Ok(Route::Direct),
            Some(_) if is_excepted(&endpoint.host, &environment.exceptions) => Ok(Route::Direct),
            Some(Ok(proxy)) => Ok(Route::Proxy(proxy.clone())),
            Some(Err(name)) => {
                let reason = format!("the environment's {name} is not a usable proxy URL");
                let advice =
                    "Give it an http, https, socks5 or socks5h URL, or set the proxy option";
                Err(Failure::new(Stage::Proxy, reason).advise(advice))
            }
        }
    }
}

/// Whether `host` is among the exceptions of `NO_PROXY`.
fn is_excepted(host: &Host, exceptions: &str) -> bool {
    if exceptions == "*" {
        return true;
    }
    let patterns = exceptions.split([' ', '\t', ',']);
    let mut patterns = patterns.filter(|pattern| !pattern.is_empty());
    match host {
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            patterns.any(|pattern| is_tail(name, pattern))
        }
        Host::Ipv4(address) => patterns.any(|pattern| is_in_network(*address, pattern)),
        // libcurl 7.88 compares the text, without brackets.
        Host::Ipv6(address) => {
            let text = address.to_string();
            patterns.any(|pattern| is_tail(&text, pattern))
        }
    }
}

/// Whether `name` is the domain `pattern` or one of its subdomains; a dot at either end of the
/// pattern is ignored.
fn is_tail(name: &str, pattern: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    let pattern = pattern.strip_prefix('.').unwrap_or(pattern);
    let Some(start) = name.len().checked_sub(pattern.len()) else {
        return false;
    };
    if pattern.is_empty() {
        return false;
    }
    let (before, tail) = name.as_bytes().split_at(start);
    tail.eq_ignore_ascii_case(pattern.as_bytes()) && before.last().is_none_or(|byte| *byte == b'.')
}

/// Whether `address` is in the network `pattern` (like `10.0.0.0/8`), or equal to it.
fn is_in_network(address: Ipv4Addr, pattern: &str) -> bool {
    let (network, length) = pattern.split_once('/').unwrap_or((pattern, ""));
    let Ok(network) = network.parse::<Ipv4Addr>() else {
        return false;
    };
    // The prefix length is read like C's atoi, as in libcurl: trailing garbage is ignored.
    let end = length.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = length.split_at(end.unwrap_or(length.len()));
    let bits = match digits.parse::<u32>() {
        Ok(0) => 32,
        Ok(bits @ 1..=32) => bits,
        Err(_) if digits.is_empty() && !rest.starts_with('-') => 32,
        _ => return false,
    };
    (u32::from(address) ^ u32::from(network)) >> (32 - bits) == 0
}

fn parse(url: &str) -> Result<Proxy, &'static str> {
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("has a space or a control character in it");
    }
    // As for libcurl, a proxy without a scheme is an HTTP proxy.
    let with_scheme = match url.contains("://") {
        true => url.to_owned(),
        false => format!("http://{url}"),
    };
    let parsed = Url::parse(&with_scheme).map_err(|_| "cannot be understood")?;
    let (kind, default_port) = match parsed.scheme() {
        "http" => (Kind::Http, 80),
        "https" => (Kind::Https, 443),
        "socks5" => (Kind::Socks5 { remote_dns: false }, 1080),
        "socks5h" => (Kind::Socks5 { remote_dns: true }, 1080),
        _ => return Err("has a scheme that is not supported"),
    };
    // For a scheme that it does not know, the parser leaves the host as text, even an IP address.
    let host = match parsed.host().ok_or("has no host")? {
        Host::Domain("") => return Err("has no host"),
        Host::Domain(name) => {
            Host::parse(name).map_err(|_| "has a host that cannot be understood")?
        }
        other => other.to_owned(),
    };
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .map(|text| Secret::new(&text))
            .map_err(|_| "has a user or password that is not UTF-8")
    };
    let login = match (parsed.username(), parsed.password()) {
        ("", None) => None,
        (user, password) => Some((decode(user)?, decode(password.unwrap_or_default())?)),
    };
    if let (Kind::Socks5 { .. }, Some((user, password))) = (kind, &login) {
        // RFC 1929 gives each length one byte, which must not be 0.
        let fits = |text: &Secret| (1..=255).contains(&text.expose().len());
        if !fits(user) || !fits(password) {
            return Err("has a user or password that SOCKS5 cannot carry (1 to 255 bytes each)");
        }
    }
    Ok(Proxy {
        kind,
        host,
        port: parsed.port().unwrap_or(default_port),
        login,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_proxy_may_be() {
        let show = |url: &str| {
            parse(url).map(|proxy| {
                let login = proxy
                    .login
                    .map(|(user, password)| format!("{}:{}@", user.expose(), password.expose()));
                format!(
                    "{:?} {}{}:{}",
                    proxy.kind,
                    login.unwrap_or_default(),
                    proxy.host,
                    proxy.port
                )
            })
        };
        for (url, expected) in [
            ("http://proxy:3128", "Http proxy:3128"),
            ("proxy:3128", "Http proxy:3128"),
            ("http://proxy", "Http proxy:80"),
            ("https://proxy/", "Https proxy:443"),
            (
                "socks5://127.0.0.1",
                "Socks5 { remote_dns: false } 127.0.0.1:1080",
            ),
            (
                "socks5h://me:p%40ss@proxy:1",
                "Socks5 { remote_dns: true } me:p@ss@proxy:1",
            ),
            ("http://[::1]:8", "Http [::1]:8"),
        ] {
            assert_eq!(show(url).as_deref(), Ok(expected), "{url}");
        }
        for url in [
            "ftp://proxy",
            "http://",
            "socks4://proxy",
            "http://a b",
            "socks5://me@proxy",
            "socks5://:pass@proxy",
            "http://proxy:x",
            "://",
        ] {
            let message = Proxies::from_option(url).unwrap_err().message;
            assert!(message.starts_with("proxy "), "{message}");
        }
        assert!(matches!(Proxies::from_option(""), Ok(Proxies::Never)));
        let debug = format!("{:?}", parse("http://me:pass@proxy"));
        assert!(!debug.contains("pass"), "{debug}");
    }

    type Variables<'a> = &'a [(&'a str, &'a str)];

    fn environment(variables: Variables) -> Proxies {
        Proxies::from_environment(|name| {
            let found = variables.iter().find(|(its, _)| *its == name)?;
            Some(found.1.into())
        })
    }

    fn show(proxies: &Proxies, url: &str) -> String {
        match proxies.route(&Endpoint::parse(url, true).unwrap()) {
            Ok(Route::Direct) => "direct".into(),
            Ok(Route::Proxy(proxy)) => proxy.host.to_string(),
            Err(failure) => failure.reason,
        }
    }

    #[test]
    fn plain_http_to_loopback_never_takes_a_proxy_of_the_environment() {
        let proxies = environment(&[("all_proxy", "http://proxy:1")]);
        for url in ["http://localhost", "http://127.0.0.1:99", "http://[::1]"] {
            assert_eq!(show(&proxies, url), "direct", "{url}");
        }
        assert_eq!(show(&proxies, "https://localhost"), "proxy");
        assert_eq!(show(&proxies, "http://elsewhere"), "proxy");
    }

    /// Each row was checked against curl 7.88.1.
    #[test]
    fn the_environment_is_read_as_libcurl_reads_it() {
        const UPPER: (&str, &str) = ("HTTPS_PROXY", "http://upper:1");
        const LOWER: (&str, &str) = ("https_proxy", "http://lower:1");
        const HTTPS: &str = "https://api.example.com";
        #[rustfmt::skip]
        let rows: &[(Variables, &str, &str)] = &[
            (&[], HTTPS, "direct"),
            (&[UPPER], HTTPS, "upper"),
            (&[UPPER, LOWER], HTTPS, "lower"),
            (&[("https_proxy", ""), UPPER], HTTPS, "upper"),
            (&[("all_proxy", "http://all:1")], HTTPS, "all"),
            (&[("ALL_PROXY", "http://all:1")], "http://elsewhere", "all"),
            (&[UPPER, ("all_proxy", "http://all:1")], HTTPS, "upper"),
            (&[("http_proxy", "http://http:1")], "http://elsewhere", "http"),
            (&[("http_proxy", "http://http:1")], HTTPS, "direct"),
            (&[("HTTP_PROXY", "http://http:1")], "http://elsewhere", "direct"),
            (&[UPPER, ("REQUEST_METHOD", "GET")], HTTPS, "upper"),
            (&[("HTTPS_PROXY", "upper:1")], HTTPS, "upper"),
            (&[("HTTPS_PROXY", "ftp://upper:1")], HTTPS, "the environment's HTTPS_PROXY is not a usable proxy URL"),
            (&[("https_proxy", "gopher://x"), UPPER], HTTPS, "the environment's https_proxy is not a usable proxy URL"),
            (&[("HTTPS_PROXY", "ftp://upper:1"), ("NO_PROXY", "*")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "*")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "*")], "https://10.1.2.3", "direct"),
            (&[UPPER, ("NO_PROXY", "*")], "https://[::1]", "direct"),
            (&[UPPER, ("NO_PROXY", "other,*")], HTTPS, "upper"),
            (&[UPPER, ("no_proxy", "other"), ("NO_PROXY", "*")], HTTPS, "upper"),
            (&[UPPER, ("no_proxy", ""), ("NO_PROXY", "*")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "example.com")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", ".example.com")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "example.com.")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "EXAMPLE.com")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "example.com")], "https://api.example.com.", "direct"),
            (&[UPPER, ("NO_PROXY", "ample.com")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", "one two\texample.com")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "one, ,, example.com")], HTTPS, "direct"),
            (&[UPPER, ("NO_PROXY", "*.example.com")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", "example.com:443")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", "10.1.2.3")], "https://10.1.2.3", "direct"),
            (&[UPPER, ("NO_PROXY", "10.0.0.0/8")], "https://10.1.2.3", "direct"),
            (&[UPPER, ("NO_PROXY", "10.0.0.0/16")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "10.0.0.0/33")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "0.0.0.0/0")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "2.3")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "10.1.2.3/32x")], "https://10.1.2.3", "direct"),
            (&[UPPER, ("NO_PROXY", "10.1.2.3/")], "https://10.1.2.3", "direct"),
            (&[UPPER, ("NO_PROXY", "10.1.2.3/-1")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "10.1.2.3.")], "https://10.1.2.3", "upper"),
            (&[UPPER, ("NO_PROXY", "::1")], "https://[::1]", "direct"),
            (&[UPPER, ("NO_PROXY", "[::1]")], "https://[::1]", "upper"),
            (&[UPPER, ("NO_PROXY", "::/8")], "https://[::1]", "upper"),
            (&[UPPER, ("NO_PROXY", "..example.com")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", "example.com..")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", ".")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", " * ")], HTTPS, "upper"),
            (&[UPPER, ("NO_PROXY", "a\nexample.com")], HTTPS, "upper"),
        ];
        for (variables, url, expected) in rows {
            assert_eq!(
                show(&environment(variables), url),
                *expected,
                "{url} {variables:?}"
            );
        }
    }

    #[test]
    fn a_login_of_the_environment_is_a_secret_too() {
        let proxies = environment(&[("ALL_PROXY", "http://me:p%40ss@proxy:1")]);
        let secrets = proxies.secrets();
        assert!(secrets.contains(&Secret::new("p@ss")), "{secrets:?}");
        assert!(secrets.contains(&Secret::new("me:p@ss")), "{secrets:?}");
    }
}
