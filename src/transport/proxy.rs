//! Which way a connection takes: straight, or through a proxy that the caller or the
//! environment names.

use std::sync::Arc;

use base64::Engine;
use hyper_util::client::proxy::matcher::Matcher;
use url::{Host, Url};

use crate::endpoint::Endpoint;
use crate::outcome::Outcome;
use crate::secret::Secret;

/// The way to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Direct,
    Proxy(Proxy),
}

/// A proxy server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: Kind,
    pub host: Host,
    pub port: u16,
    /// User and password, as the URL had them, decoded.
    pub login: Option<(Secret, Secret)>,
}

impl Proxy {
    /// The header that shows the login to an HTTP proxy, or nothing.
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

    /// What no message may show.
    fn secrets(&self) -> Vec<Secret> {
        let Some((user, password)) = &self.login else {
            return Vec::new();
        };
        // Together, too: that is what an HTTP proxy is shown, in base64.
        let pair = Secret::new(&format!("{}:{}", user.expose(), password.expose()));
        let all = [pair, user.clone(), password.clone()];
        let told = all.into_iter().filter(|one| !one.expose().is_empty());
        told.collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http,
    /// An HTTP proxy that is itself spoken to by TLS.
    Https,
    /// `remote_dns`: the proxy looks the name up (`socks5h`).
    Socks5 {
        remote_dns: bool,
    },
}

/// How a transport finds its routes.
#[derive(Debug, Clone)]
pub enum Proxies {
    /// `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case, as they were when
    /// the transport was made.
    Environment(Arc<Matcher>),
    /// One for everything.
    Always(Proxy),
    Never,
}

impl Proxies {
    pub fn from_environment() -> Self {
        Self::Environment(Arc::new(Matcher::from_env()))
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

    /// What no message may show.
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::Always(proxy) => proxy.secrets(),
            Self::Environment(_) | Self::Never => Vec::new(),
        }
    }

    /// The way to `endpoint`.
    pub fn route(&self, endpoint: &Endpoint) -> Result<Route, &'static str> {
        match self {
            Self::Never => Ok(Route::Direct),
            Self::Always(proxy) => Ok(Route::Proxy(proxy.clone())),
            // Through a proxy the secret would travel in clear, to a loopback that is not ours.
            Self::Environment(_) if !endpoint.tls && endpoint.is_loopback() => Ok(Route::Direct),
            Self::Environment(matcher) => {
                let target = format!("{}://{}/", endpoint.scheme(), endpoint.authority());
                let Ok(target) = target.parse() else {
                    return Ok(Route::Direct);
                };
                let Some(found) = matcher.intercept(&target) else {
                    return Ok(Route::Direct);
                };
                let mut proxy = parse(&found.uri().to_string())
                    .map_err(|_| "the environment names a proxy that cannot be used: correct HTTPS_PROXY, or set the proxy option")?;
                // The matcher keeps the login apart, as a header for HTTP proxies and raw for SOCKS.
                proxy.login = match proxy.kind {
                    Kind::Socks5 { .. } => found
                        .raw_auth()
                        .map(|(user, password)| (Secret::new(user), Secret::new(password))),
                    Kind::Http | Kind::Https => found.basic_auth().and_then(decode_basic),
                };
                Ok(Route::Proxy(proxy))
            }
        }
    }
}

fn decode_basic(header: &http::HeaderValue) -> Option<(Secret, Secret)> {
    let encoded = header.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((Secret::new(user), Secret::new(password)))
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
    // A scheme that the parser does not know keeps its host as text, which may still be an address.
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

    #[test]
    fn plain_http_to_loopback_never_takes_a_proxy_of_the_environment() {
        let matcher = Matcher::builder().all("http://proxy:1").build();
        let proxies = Proxies::Environment(Arc::new(matcher));
        let route = |url: &str| proxies.route(&Endpoint::parse(url, true).unwrap()).unwrap();
        for url in ["http://localhost", "http://127.0.0.1:99", "http://[::1]"] {
            assert_eq!(route(url), Route::Direct, "{url}");
        }
        assert_ne!(route("https://localhost"), Route::Direct);
        assert_ne!(route("http://elsewhere"), Route::Direct);
    }
}
