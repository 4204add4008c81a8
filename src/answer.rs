//! Judges a response: a pure function from (HTTP status, body) to a verdict.
//!
//! The API reports its errors *inside* HTTP 200 (`{"code": 404, "description": "Not found"}`),
//! while the front servers use the HTTP status, with any body. So an HTTP success status alone
//! proves nothing: the body must be a response of this API.
//!
//! Three rules decide:
//! - Only `"deleteInstanceAccount": true` on a success status is a deletion.
//! - A response that contradicts itself means "unknown", never "not deleted".
//! - An HTTP 404 page does not mean that the instance is missing; only the API's own `code` 404
//!   does.

use crate::json::{Object, FOREIGN};
use crate::status::Status;

/// A response is read only up to this many bytes; real responses of this API are far shorter.
pub const BODY_LIMIT: usize = 64 * 1024;

/// What a response means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The status of a call that consists of this one response.
    pub status: Status,
    /// The API's own `code` when the body has one, else the HTTP status.
    pub code: i32,
    /// The API's own text, which must be sanitized before printing.
    pub description: Option<String>,
    /// Why the response is not accepted, in the library's words.
    pub reason: Option<&'static str>,
}

/// The body of a response, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// The complete body.
    Whole(&'a [u8]),
    /// The body could not be read completely, for this reason.
    Unreadable(&'static str),
}

/// Judges a response.
pub fn judge(http_status: u16, body: Body<'_>) -> Verdict {
    let parsed = match body {
        Body::Whole(bytes) => parse(bytes),
        Body::Unreadable(reason) => Err(reason),
    };
    let code = match &parsed {
        Ok(Answer {
            code: Some(code), ..
        }) => *code,
        _ => i32::from(http_status),
    };
    let (status, reason) = match http_status {
        200..=299 => match &parsed {
            Ok(answer) => judge_success(answer),
            Err(reason) => (Status::BadResponse, Some(*reason)),
        },
        300..=498 if claims_deletion(&parsed) => (
            Status::BadResponse,
            Some("it refused the request and reported a deletion at the same time"),
        ),
        401 => (Status::Unauthorized, None),
        403 => (Status::Forbidden, None),
        429 => (Status::RateLimited, None),
        499..=599 => (Status::ServerError, None),
        300..=399 => (
            Status::Rejected,
            Some("a redirect is never followed, because it would carry the token elsewhere"),
        ),
        400..=498 => match &parsed {
            Ok(Answer {
                code: Some(code), ..
            }) => match judge_code(*code) {
                // A 4xx status means that the request was refused before the API acted, whatever
                // the body says.
                Status::ServerError | Status::BadResponse => (Status::Rejected, None),
                status => (status, None),
            },
            _ if http_status == 404 => (
                Status::Rejected,
                Some("that page is not the API's own 404, so it says nothing about the instance"),
            ),
            _ => (Status::Rejected, None),
        },
        // 0 stands for a response that is not even HTTP.
        _ => (
            Status::BadResponse,
            Some(match body {
                Body::Unreadable(reason) => reason,
                Body::Whole(_) => "that is not the HTTP status of a final response",
            }),
        ),
    };
    Verdict {
        status,
        code,
        description: parsed.ok().and_then(|answer| answer.description),
        reason,
    }
}

fn claims_deletion(parsed: &Result<Answer, &'static str>) -> bool {
    matches!(
        parsed,
        Ok(Answer {
            flag: Some(true),
            ..
        })
    )
}

fn judge_success(answer: &Answer) -> (Status, Option<&'static str>) {
    const CONTRADICTION: Option<&str> = Some("its answer contradicts itself");
    match (answer.flag, answer.code) {
        // A response may have `"code": 200` beside the flag (GREEN-API's issue 607).
        (Some(true), None | Some(200)) => (Status::Ok, None),
        (Some(true), Some(_)) | (Some(false), Some(200)) => (Status::BadResponse, CONTRADICTION),
        (Some(false), None) => (Status::Rejected, None),
        (Some(false), Some(code)) | (None, Some(code)) => match judge_code(code) {
            Status::BadResponse => (
                Status::BadResponse,
                Some("its answer has a code but does not say whether the instance was deleted"),
            ),
            status => (status, None),
        },
        (None, None) => (Status::BadResponse, Some(FOREIGN)),
    }
}

/// The status for the API's own `code`, if the response has no flag that decides.
fn judge_code(code: i32) -> Status {
    match code {
        200..=299 => Status::BadResponse,
        401 => Status::Unauthorized,
        403 => Status::Forbidden,
        404 => Status::NotFound,
        429 => Status::RateLimited,
        // A failure of the API leaves the same doubt inside HTTP 200 as it does as an HTTP status.
        499.. => Status::ServerError,
        _ => Status::Rejected,
    }
}

/// The fields of a response that are needed for the verdict.
#[derive(Debug, Default)]
struct Answer {
    flag: Option<bool>,
    code: Option<i32>,
    description: Option<String>,
}

fn parse(bytes: &[u8]) -> Result<Answer, &'static str> {
    let object = Object::parse(bytes)?;
    Ok(Answer {
        flag: object.get("deleteInstanceAccount")?,
        code: object.get("code")?,
        description: object.text("description"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All kinds of bodies. (`tests/cases.json` has the table that runs in every language against a
    /// real server.)
    #[test]
    fn table() {
        use Status::*;
        let deep = format!(
            r#"{{"deleteInstanceAccount":true,"x":{}1{}}}"#,
            "[".repeat(20_000),
            "]".repeat(20_000)
        );
        #[rustfmt::skip]
        let rows: &[(u16, &[u8], Status, i32)] = &[
            // The documented responses.
            (200, br#"{"deleteInstanceAccount": true}"#, Ok, 200),
            (200, br#"{"code": 404, "description": "Not found"}"#, NotFound, 404),
            (200, br#"{"code": 401, "description": "Unauthorized"}"#, Unauthorized, 401),
            // Flag and code together.
            (200, br#"{"deleteInstanceAccount": true, "code": 200}"#, Ok, 200),
            (200, br#"{"code": 200, "deleteInstanceAccount": true}"#, Ok, 200),
            (200, br#"{"deleteInstanceAccount": true, "code": 404}"#, BadResponse, 404),
            (200, br#"{"deleteInstanceAccount": true, "code": 201}"#, BadResponse, 201),
            (200, br#"{"deleteInstanceAccount": false}"#, Rejected, 200),
            (200, br#"{"deleteInstanceAccount": false, "code": 200}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": false, "code": 404}"#, NotFound, 404),
            (200, br#"{"deleteInstanceAccount": false, "code": 418}"#, Rejected, 418),
            // Codes.
            (200, br#"{"code": 403}"#, Forbidden, 403),
            (200, br#"{"code": 429}"#, RateLimited, 429),
            (200, br#"{"code": 466}"#, Rejected, 466),
            (200, br#"{"code": 498}"#, Rejected, 498),
            (200, br#"{"code": 600}"#, ServerError, 600),
            (200, br#"{"code": 999}"#, ServerError, 999),
            (200, br#"{"code": -1}"#, Rejected, -1),
            (200, br#"{"code": 502}"#, ServerError, 502),
            (200, br#"{"code": 499}"#, ServerError, 499),
            (200, br#"{"code": 200}"#, BadResponse, 200),
            (200, br#"{"code": 204}"#, BadResponse, 204),
            // Wrong types.
            (200, br#"{"deleteInstanceAccount": "true"}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": 1}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": null}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true, "code": "200"}"#, BadResponse, 200),
            (200, br#"{"code": "404"}"#, BadResponse, 200),
            (200, br#"{"code": 404.0}"#, BadResponse, 200),
            (200, br#"{"code": null}"#, BadResponse, 200),
            (200, br#"{"code": 99999999999}"#, BadResponse, 200),
            (200, br#"{"code": 404, "description": ["not", {"a": "text"}]}"#, NotFound, 404),
            (200, br#"{"code": 404, "description": null}"#, NotFound, 404),
            (200, br#"{"code": 404, "description": "\ud800"}"#, NotFound, 404),
            (200, br#"{"code": 404, "description": "\x"}"#, BadResponse, 200),
            // Extra, repeated, deep.
            (200, br#"{"x": 1, "deleteInstanceAccount": true, "y": {"z": []}}"#, Ok, 200),
            (200, br#"{"deleteInstanceAccount": true, "deleteInstanceAccount": true}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true, "deleteInstanceAccount": false}"#, BadResponse, 200),
            (200, br#"{"code": 404, "code": 401}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true, "x": 1, "x": 2}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true, "delete\u0049nstanceAccount": true}"#, BadResponse, 200),
            (200, deep.as_bytes(), Ok, 200),
            (200, br#"{"DeleteInstanceAccount": true}"#, BadResponse, 200),
            // Not a response of this API.
            (200, b"", BadResponse, 200),
            (200, b"   ", BadResponse, 200),
            (200, b"null", BadResponse, 200),
            (200, b"[]", BadResponse, 200),
            (200, br#"[true]"#, BadResponse, 200),
            (200, b"42", BadResponse, 200),
            (200, b"true", BadResponse, 200),
            (200, b"{}", BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": tr"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true}}"#, BadResponse, 200),
            (200, br#"{"deleteInstanceAccount": true} {"code": 404}"#, BadResponse, 200),
            (200, b"\xef\xbb\xbf{\"deleteInstanceAccount\": true}", BadResponse, 200),
            (200, b"{\"deleteInstanceAccount\": true, \"x\": \"\xff\"}", BadResponse, 200),
            (200, b"<html>deleteInstanceAccount: true</html>", BadResponse, 200),
            (204, b"", BadResponse, 204),
            (201, br#"{"deleteInstanceAccount": true}"#, Ok, 201),
            // HTTP's own errors.
            (301, b"", Rejected, 301),
            (302, br#"{"deleteInstanceAccount": true}"#, BadResponse, 302),
            (400, b"", Rejected, 400),
            (400, br#"{"code": 404}"#, NotFound, 404),
            (400, br#"{"code": 500}"#, Rejected, 500),
            (400, br#"{"deleteInstanceAccount": true}"#, BadResponse, 400),
            (401, b"<html>", Unauthorized, 401),
            (403, b"", Forbidden, 403),
            (404, b"<html>Not Found</html>", Rejected, 404),
            (404, b"", Rejected, 404),
            (404, br#"{"code": 404, "description": "Not found"}"#, NotFound, 404),
            (404, br#"{"statusCode": 404}"#, Rejected, 404),
            (429, b"slow down", RateLimited, 429),
            (466, br#"{"message": "quota"}"#, Rejected, 466),
            (499, b"", ServerError, 499),
            (500, br#"{"deleteInstanceAccount": true}"#, ServerError, 500),
            (502, br#"{"code": 404}"#, ServerError, 404),
            (503, b"", ServerError, 503),
            (101, b"", BadResponse, 101),
            (600, b"", BadResponse, 600),
        ];
        for (http_status, body, status, code) in rows {
            let verdict = judge(*http_status, Body::Whole(body));
            assert_eq!(
                (verdict.status, verdict.code),
                (*status, *code),
                "HTTP {http_status} {}",
                String::from_utf8_lossy(&body[..body.len().min(200)])
            );
        }
    }

    #[test]
    fn an_unreadable_body_leaves_the_status_alone_to_judge() {
        for (http_status, status) in [
            (200, Status::BadResponse),
            (404, Status::Rejected),
            (401, Status::Unauthorized),
            (502, Status::ServerError),
        ] {
            assert_eq!(
                judge(http_status, Body::Unreadable("too large")).status,
                status
            );
        }
    }

    proptest::proptest! {
        /// Whatever a server sends, only the one documented phrase counts as a deletion.
        #[test]
        fn no_other_bytes_are_a_deletion(
            http_status in 100u16..1000,
            body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        ) {
            let verdict = judge(http_status, Body::Whole(&body));
            proptest::prop_assert_ne!(verdict.status, Status::Ok);
        }
    }
}
