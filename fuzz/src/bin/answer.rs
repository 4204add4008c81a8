//! Fuzzes the judge of answers with any bytes and any status, and checks its verdict.
#![no_main]

#[path = "../../../src/answer.rs"]
mod answer;
#[path = "../../../src/failure.rs"]
mod failure;
#[path = "../../../src/json.rs"]
mod json;
#[path = "../../../src/outcome.rs"]
mod outcome;
#[path = "../../../src/retry.rs"]
mod retry;
#[path = "../../../src/secret.rs"]
mod secret;
#[path = "../../../src/status.rs"]
mod status;

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u16, bool, &[u8], &str)| {
    let (http_status, readable, bytes, header) = input;
    let body = match readable {
        true => answer::Body::Whole(bytes),
        false => answer::Body::Unreadable("it was not readable"),
    };
    let verdict = answer::judge(http_status, body);
    if verdict.status == status::Status::Ok {
        assert!((200..300).contains(&http_status) && readable);
        let text = std::str::from_utf8(bytes).expect("an answer that confirms a deletion is UTF-8");
        let value: serde_json::Value = serde_json::from_str(text).expect("and JSON");
        assert_eq!(value["deleteInstanceAccount"], true);
        assert!(value.get("code").is_none_or(|code| code == 200));
    }
    let secret = secret::Secret::new("gac.5ecre7/t0ken");
    let retry_after = retry::retry_after(header, SystemTime::UNIX_EPOCH);
    let limits = retry::Limits {
        max_retries: 3,
        left: Duration::from_secs(30),
        held_back: Duration::ZERO,
        jitter: 0.5,
    };
    let attempt = retry::Attempt::Answered {
        http_status,
        verdict,
        retry_after,
        kept: bytes.len() % 2 == 0,
    };
    let _ = (
        attempt.deleted_nothing(),
        retry::pause(40, 1.0, retry_after),
    );
    match retry::History::default().next(attempt, 1, limits, &[&secret]) {
        retry::Step::Finish(outcome) => {
            assert!(outcome.message.len() < outcome::MESSAGE_SIZE);
            assert!(!outcome.message.chars().any(char::is_control));
            for piece in ["5ecr", "ecre", "cre7", "t0ke", "0ken"] {
                assert!(!outcome.message.contains(piece), "{}", outcome.message);
            }
        }
        retry::Step::Retry(pause) => assert!(pause < limits.left),
    }
});
