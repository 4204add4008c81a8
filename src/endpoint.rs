//! The address of the API: checks the URL, the token and the instance id that a caller gives.

use url::{Host, Url};

use crate::outcome::{fit, Outcome};
use crate::secret::Secret;

/// The longest URL or token, in bytes: far longer than this API needs, and short enough for every
/// server.
pub(crate) const LENGTH_LIMIT: usize = 4096;

/// The greatest instance id: the API documents one to ten digits.
pub const LARGEST_ID: i64 = 9_999_999_999;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub tls: bool,
    pub host: Host,
    pub port: u16,
    /// The path before `/partner/…`: empty, or with a leading slash and without a trailing one.
    pub prefix: String,
}

impl Endpoint {
    /// Checks `url`. Plain HTTP shows the token to everybody on the network path, so it is refused
    /// for hosts other than loopback unless `allow_http` is set.
    pub fn parse(url: &str, allow_http: bool) -> Result<Self, Outcome> {
        let invalid =
            |what: &str| Outcome::invalid(format!("url {what}, like https://api.green-api.com."));
        if url.is_empty() {
            return Err(invalid("is empty: give the address of the API"));
        }
        if url.len() > LENGTH_LIMIT {
            return Err(invalid(
                "is longer than 4096 bytes: give the address of the API",
            ));
        }
        // These characters are refused here because `Url::parse` works like a browser and repairs
        // mistakes: it drops tabs and line ends, turns backslashes into slashes and accepts any
        // number of slashes before the host.
        if url
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == '\\')
        {
            return Err(invalid("has a space, a control character or a backslash in it: give the address of the API"));
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("has no scheme: begin it with https://"));
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => {
                return Err(invalid(
                    "has a scheme that is neither https nor http: begin it with https://",
                ))
            }
        };
        if rest.is_empty() || rest.starts_with(['/', '?', '#', ':']) {
            return Err(invalid("has no host: give one"));
        }
        let parsed = Url::parse(url).map_err(|error| {
            invalid(&format!(
                "cannot be understood ({error}): give the address of the API"
            ))
        })?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(invalid("has a user name or password in it: leave them out"));
        }
        if parsed.query().is_some() || parsed.fragment().is_some() {
            return Err(invalid(
                "has a query or a fragment: end it before '?' and '#'",
            ));
        }
        let Some(host) = parsed.host().map(|host| host.to_owned()) else {
            return Err(invalid("has no host: give one"));
        };
        let Some(port) = parsed.port_or_known_default() else {
            return Err(invalid("has no port: give one"));
        };
        let endpoint = Self {
            tls,
            host,
            port,
            prefix: parsed.path().trim_end_matches('/').to_owned(),
        };
        if !tls && !allow_http && !endpoint.is_loopback() {
            return Err(Outcome::invalid(
                "url begins with http://, which would show the token to everybody on the way: use https:// (http:// is for loopback hosts, or GREENAPI_FLAG_ALLOW_HTTP).",
            ));
        }
        Ok(endpoint)
    }

    /// Whether the URL itself names this machine: `localhost` or a loopback address.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Domain(name) => is_localhost(name),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        }
    }

    /// `host` or `host:port`, as the `Host` header wants it.
    pub fn authority(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            _ => self.host_and_port(),
        }
    }

    /// `host:port` always, as `CONNECT` wants it.
    pub fn host_and_port(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The whole URL in a canonical form, equal for all spellings of the same address.
    pub fn address(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.prefix)
    }

    pub fn scheme(&self) -> &'static str {
        if self.tls {
            "https"
        } else {
            "http"
        }
    }
}

/// The address for an instance's own methods: a URL in which `{pool}` stands for the first four
/// digits of the instance's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceUrl {
    template: String,
    allow_http: bool,
}

impl InstanceUrl {
    const POOL: &'static str = "{pool}";

    /// Checks the option `instance_url`, with an example pool in the place of `{pool}`.
    pub fn parse(template: &str, allow_http: bool) -> Result<Self, Outcome> {
        let url = Self {
            template: template.to_owned(),
            allow_http,
        };
        match url.endpoint(1101) {
            // Any other brace is a typing mistake like `{pol}`, which would become part of the
            // host.
            Ok(_) if template.replace(Self::POOL, "").contains(['{', '}']) => {
                Err(Outcome::invalid(
                    "instance_url has a brace that is not part of {pool}: write it like https://{pool}.api.greenapi.com.",
                ))
            }
            Ok(_) => Ok(url),
            Err(outcome) => Err(Outcome {
                message: fit(format!("instance_{}", outcome.message).into()),
                ..outcome
            }),
        }
    }

    /// The address for one instance.
    pub fn endpoint(&self, id: i64) -> Result<Endpoint, Outcome> {
        let digits = id.to_string();
        let pool = &digits[..digits.len().min(4)];
        Endpoint::parse(&self.template.replace(Self::POOL, pool), self.allow_http)
    }
}

/// Whether `name` is `localhost`, which RFC 6761 reserves for loopback. The resolver is never asked
/// for this name, so that plain HTTP to it cannot leave the machine.
pub fn is_localhost(name: &str) -> bool {
    name.trim_end_matches('.').eq_ignore_ascii_case("localhost")
}

/// Checks the partner token.
pub fn parse_token(token: &str) -> Result<Secret, Outcome> {
    let problem = if token.is_empty() {
        "is empty"
    } else if token.len() > LENGTH_LIMIT {
        "is longer than 4096 bytes"
    } else if token == "." || token == ".." {
        "is a path step, not a token"
    } else if token.chars().any(char::is_control) {
        "has a control character in it (perhaps a line end from the file that it was read from)"
    } else if token.trim() != token {
        "has a space before or after it (perhaps from where it was copied)"
    } else {
        return Ok(Secret::new(token));
    };
    Err(Outcome::invalid(format!(
        "token {problem}: give the partner token as GREEN-API's support issued it."
    )))
}

/// Checks an instance id.
pub fn check_id(id: i64) -> Result<(), Outcome> {
    if (1..=LARGEST_ID).contains(&id) {
        return Ok(());
    }
    Err(Outcome::invalid(format!(
        "id {id} is not an instance id: it has to be in 1 … 9999999999."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_may_be() {
        #[rustfmt::skip]
        let rows: &[(&str, Option<(&str, &str)>)] = &[
            ("https://api.green-api.com", Some(("api.green-api.com", ""))),
            ("https://api.green-api.com/", Some(("api.green-api.com", ""))),
            ("HTTPS://API.green-api.com:443", Some(("api.green-api.com", ""))),
            ("https://gateway:8443/green/api/", Some(("gateway:8443", "/green/api"))),
            ("https://gateway/a%20b//", Some(("gateway", "/a%20b"))),
            ("https://[::1]:8443/x", Some(("[::1]:8443", "/x"))),
            ("http://127.0.0.1:8080", Some(("127.0.0.1:8080", ""))),
            ("http://127.9.9.9", Some(("127.9.9.9", ""))),
            ("http://localhost", Some(("localhost", ""))),
            ("http://[::1]:1", Some(("[::1]:1", ""))),
            ("https://bücher.example", Some(("xn--bcher-kva.example", ""))),
            ("", None),
            ("api.green-api.com", None),
            ("https://", None),
            ("https:///x", None),
            ("https://?x", None),
            ("ftp://api.green-api.com", None),
            ("http://api.green-api.com", None),
            ("http://localhost.example.com", None),
            ("http://128.0.0.1", None),
            ("https://user@api.green-api.com", None),
            ("https://user:secret@api.green-api.com", None),
            ("https://@api.green-api.com", None),
            ("https://api.green-api.com?x=1", None),
            ("https://api.green-api.com/?", None),
            ("https://api.green-api.com/#", None),
            ("https://api.green-api.com:99999", None),
            ("https://api.green-api.com:x", None),
            ("https:\\\\api.green-api.com", None),
            ("https://api.green-api.com\n", None),
            (" https://api.green-api.com", None),
            ("https://a b", None),
            ("https://[::1", None),
        ];
        for (url, expected) in rows {
            let got = Endpoint::parse(url, false);
            match (expected, &got) {
                (Some((authority, prefix)), Ok(endpoint)) => {
                    assert_eq!(endpoint.authority(), *authority, "{url}");
                    assert_eq!(endpoint.prefix, *prefix, "{url}");
                }
                (None, Err(outcome)) => assert!(outcome.message.starts_with("url "), "{outcome:?}"),
                _ => panic!("{url:?}: {got:?}"),
            }
        }
        assert!(Endpoint::parse("http://api.green-api.com", true).is_ok());
        assert!(Endpoint::parse(&format!("https://a/{}", "x".repeat(5000)), false).is_err());
    }

    #[test]
    fn an_instance_has_the_address_of_its_pool() {
        let rows = [
            (
                "https://{pool}.api.greenapi.com",
                7_103_123_456,
                Some(("7103.api.greenapi.com", "")),
            ),
            (
                "https://h/pool/{pool}/{pool}",
                1_101_000_001,
                Some(("h", "/pool/1101/1101")),
            ),
            (
                "http://127.0.0.1:{pool}",
                7_103_123_456,
                Some(("127.0.0.1:7103", "")),
            ),
            ("https://{pool}.h", 12, Some(("12.h", ""))),
            ("https://h", 7_103_123_456, Some(("h", ""))),
            ("https://{pol}.h", 1, None),
            ("https://h/{pool}}", 1, None),
            ("http://{pool}.h", 1, None),
            ("{pool}", 1, None),
            ("", 1, None),
        ];
        for (template, id, expected) in rows {
            match (InstanceUrl::parse(template, false), expected) {
                (Ok(url), Some((authority, prefix))) => {
                    let endpoint = url.endpoint(id).unwrap();
                    assert_eq!(
                        (&*endpoint.authority(), &*endpoint.prefix),
                        (authority, prefix)
                    );
                }
                (Err(outcome), None) => {
                    assert!(outcome.message.starts_with("instance_url "), "{outcome:?}");
                }
                (got, _) => panic!("{template}: {got:?}"),
            }
        }
        assert!(InstanceUrl::parse("http://{pool}.h", true).is_ok());
    }

    #[test]
    fn what_a_token_may_be() {
        for token in ["gac.0123", "a/b", "a b", "…", "...", "%2e%2e"] {
            assert!(parse_token(token).is_ok(), "{token}");
        }
        for token in [
            "",
            ".",
            "..",
            " ",
            " a",
            "a\u{a0}",
            "a\n",
            "\u{7f}",
            "\u{85}",
            &"x".repeat(5000),
        ] {
            let outcome = parse_token(token).unwrap_err();
            assert!(outcome.message.starts_with("token "), "{outcome:?}");
        }
    }

    #[test]
    fn what_an_id_may_be() {
        for id in [1, 1_101_000_001, LARGEST_ID] {
            assert!(check_id(id).is_ok());
        }
        for id in [0, -1, LARGEST_ID + 1, i64::MIN, i64::MAX] {
            assert!(check_id(id).is_err());
        }
    }
}
