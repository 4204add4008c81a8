//! The deletion request, for HTTP/1.1, for an HTTP proxy and for HTTP/2.

use super::proxy::Proxy;
use crate::endpoint::Endpoint;

/// The parts that are the same in all deletion requests of a client.
pub struct RequestTemplate {
    endpoint: Endpoint,
    /// The whole path, with the prefix and the token.
    path: String,
    user_agent: String,
    /// The HTTP/1.1 header lines, up to the value of `Content-Length`.
    headers: String,
}

/// One deletion request.
pub struct Request<'a> {
    template: &'a RequestTemplate,
    body: &'a [u8],
}

impl RequestTemplate {
    /// `path`: the whole path, with the prefix and the token.
    pub fn new(endpoint: &Endpoint, path: String, user_agent: &str) -> Self {
        Self {
            endpoint: endpoint.clone(),
            path,
            user_agent: user_agent.to_owned(),
            headers: format!(
                "Host: {}\r\nUser-Agent: {user_agent}\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: ",
                endpoint.authority(),
            ),
        }
    }

    pub fn request<'a>(&'a self, body: &'a [u8]) -> Request<'a> {
        Request {
            template: self,
            body,
        }
    }
}

impl<'a> Request<'a> {
    pub fn endpoint(&self) -> &'a Endpoint {
        &self.template.endpoint
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The complete HTTP/1.1 message.
    pub(super) fn http1(&self) -> Vec<u8> {
        self.message("", "")
    }

    /// The complete message for an HTTP proxy, with the whole URL in its first line.
    pub(super) fn for_proxy(&self, proxy: &Proxy) -> Vec<u8> {
        let endpoint = self.endpoint();
        let origin = format!("{}://{}", endpoint.scheme(), endpoint.authority());
        self.message(&origin, &proxy.authorization())
    }

    fn message(&self, origin: &str, more_headers: &str) -> Vec<u8> {
        let RequestTemplate { path, headers, .. } = self.template;
        let length = self.body.len().to_string();
        [
            b"POST ",
            origin.as_bytes(),
            path.as_bytes(),
            b" HTTP/1.1\r\n",
            more_headers.as_bytes(),
            headers.as_bytes(),
            length.as_bytes(),
            b"\r\n\r\n",
            self.body,
        ]
        .concat()
    }

    pub(super) fn http2_head(&self) -> Result<http::Request<()>, http::Error> {
        let endpoint = self.endpoint();
        http::Request::post(format!(
            "{}://{}{}",
            endpoint.scheme(),
            endpoint.authority(),
            self.template.path
        ))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/json")
        .header("accept", "application/json")
        .header("user-agent", &self.template.user_agent)
        .header("content-length", self.body.len())
        .body(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::proxy::{Proxies, Route};
    use super::*;

    #[test]
    fn an_http_proxy_gets_the_whole_url() {
        const HEADERS: &str = "Host: localhost:8\r\nUser-Agent: me\r\nAccept: application/json\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let endpoint = Endpoint::parse("http://localhost:8/x", false).unwrap();
        let template = RequestTemplate::new(&endpoint, "/x/partner".into(), "me");
        let request = template.request(b"{}");
        let proxies = Proxies::from_option("http://me:pass@proxy:1").unwrap();
        let Ok(Route::Proxy(proxy)) = proxies.route(&endpoint) else {
            panic!("no proxy")
        };
        assert_eq!(
            String::from_utf8(request.for_proxy(&proxy)).unwrap(),
            format!("POST http://localhost:8/x/partner HTTP/1.1\r\nProxy-Authorization: Basic bWU6cGFzcw==\r\n{HEADERS}")
        );
        assert_eq!(
            String::from_utf8(request.http1()).unwrap(),
            format!("POST /x/partner HTTP/1.1\r\n{HEADERS}")
        );
    }
}
