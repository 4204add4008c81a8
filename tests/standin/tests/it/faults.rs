//! One test for each group of faults.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use greenapi_standin::{
    Base64, BodyRepeat, Fault, Rule, Stage, Standin, Target, Then, Until, FIRST_ID,
};
use serde_json::json;

use crate::client::*;

fn carried_out(standin: &Standin) -> usize {
    standin.ledger().len()
}

fn ending(fault: Fault) -> (Standin, Ending) {
    let standin = start_with(fault);
    let ending = ask_raw(&standin.endpoints().http, &deletion(&standin, FIRST_ID));
    (standin, ending)
}

#[test]
fn a_connection_ends_at_the_given_stage_and_in_the_given_way() {
    let whole = {
        let standin = start();
        let Ending::Open(text) = ask_raw(&standin.endpoints().http, &deletion(&standin, FIRST_ID))
        else {
            panic!("an answer without a fault ended the connection");
        };
        text
    };
    let body = r#"{"deleteInstanceAccount":true}"#;
    let head = whole.strip_suffix(body).expect("the body at the end");
    let half_head = head[..head.len() / 2].to_owned();
    let half_body = format!("{head}{}", &body[..body.len() / 2]);

    for (stage, received, acted, text) in [
        (Stage::Head, 0, 0, String::new()),
        (Stage::Received, 1, 0, String::new()),
        (Stage::Acted, 1, 1, String::new()),
        (Stage::HalfHead, 1, 1, half_head),
        (Stage::HalfBody, 1, 1, half_body),
        (Stage::Answered, 1, 1, whole.clone()),
    ] {
        for then in [Then::Fin, Then::Reset, Then::CloseUnannounced, Then::Stall] {
            let (standin, ending) = ending(Fault {
                stage: Some(stage),
                then: Some(then),
                ..Fault::default()
            });
            let mut text = text.clone();
            if (stage, then) == (Stage::Answered, Then::Fin) {
                text = text.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
            }
            let expected = match then {
                Then::Fin | Then::CloseUnannounced => Ending::Fin(text),
                Then::Reset => Ending::Reset(text),
                Then::Stall => Ending::Open(text),
            };
            assert_eq!(ending, expected, "{stage:?} {then:?}");
            assert_eq!(carried_out(&standin), acted, "{stage:?} {then:?}");
            assert_eq!(standin.stats().received, received, "{stage:?} {then:?}");
        }
    }
}

#[test]
fn held_requests_wait_for_the_release() {
    let standin = start_with(Fault {
        hold: true,
        ..Fault::default()
    });
    let mut streams: Vec<_> = (0..5)
        .map(|n| {
            let mut stream = connect(&standin.endpoints().http);
            let request = deletion(&standin, FIRST_ID + n);
            stream.write_all(request.as_bytes()).expect("a connection");
            stream
        })
        .collect();
    assert!(standin.wait_received(5, PATIENCE));
    assert!(standin.wait_connections(5, PATIENCE));
    assert!(!standin.wait_received(6, Duration::from_millis(20)));
    assert_eq!(carried_out(&standin), 0);

    // The held request of a client that disconnects is dropped.
    drop(streams.pop());
    let four = Until {
        open: Some(4),
        ..Until::default()
    };
    assert!(standin.wait(&four, PATIENCE));

    standin.release();
    for stream in &mut streams {
        assert_eq!(read_reply(stream).expect("an answer").status, 200);
    }
    assert_eq!(carried_out(&standin), 4);

    // POST /reset drops held requests without carrying them out.
    let mut late = connect(&standin.endpoints().http);
    let request = deletion(&standin, FIRST_ID + 5);
    late.write_all(request.as_bytes()).expect("a connection");
    assert!(standin.wait_received(6, PATIENCE));
    standin.reset();
    assert_eq!(read_ending(late), Ending::Fin(String::new()));
    assert_eq!(carried_out(&standin), 0);
    assert_eq!(delete(&standin, FIRST_ID).status, 200);
}

#[test]
fn rules_choose_by_method_id_and_count() {
    let standin = start();
    let fault = |status| Fault {
        status: Some(status),
        ..Fault::default()
    };
    standin.add_faults([
        Rule {
            method: Target::List,
            fault: fault(500),
            ..Rule::default()
        },
        Rule {
            id: Some(FIRST_ID + 1),
            skip: 1,
            times: Some(1),
            fault: fault(503),
            ..rule(Fault::default())
        },
    ]);
    assert_eq!(delete(&standin, FIRST_ID).status, 200);
    assert_eq!(delete(&standin, FIRST_ID + 1).status, 200);
    assert_eq!(delete(&standin, FIRST_ID + 1).status, 503);
    assert_eq!(delete(&standin, FIRST_ID + 1).status, 200);
    let path = format!("/partner/getInstances/{}", standin.endpoints().token);
    assert_eq!(ask(&standin.endpoints().http, &get(&path)).status, 500);
    assert_eq!(standin.stats().faults, 2);
}

#[test]
fn answers_can_be_overridden() {
    let overridden = |fault| {
        let standin = start_with(fault);
        let reply = delete(&standin, FIRST_ID);
        (reply, carried_out(&standin))
    };

    let (reply, acted) = overridden(Fault {
        status: Some(502),
        reason: Some("Nobody Home".to_owned()),
        headers: vec![
            ("Retry-After".to_owned(), "1".to_owned()),
            ("content-type".to_owned(), "text/x-front".to_owned()),
        ],
        ..Fault::default()
    });
    assert!(reply.head.starts_with("HTTP/1.1 502 Nobody Home\r\n"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(reply.header("content-type"), Some("text/x-front"));
    assert!(reply.body.contains("<h1>502 Bad Gateway</h1>"));
    assert_eq!(acted, 0);

    let (reply, acted) = overridden(Fault {
        status: Some(499),
        body: Some("{}".to_owned()),
        act: Some(true),
        ..Fault::default()
    });
    assert_eq!((reply.status, reply.body.as_str(), acted), (499, "{}", 1));

    let (reply, _) = overridden(Fault {
        body_base64: Some(Base64((&b"a\0b"[..]).into())),
        ..Fault::default()
    });
    assert_eq!((reply.status, reply.body.as_str()), (200, "a\0b"));

    let (reply, acted) = overridden(Fault {
        delay_ms: 50,
        chunked: true,
        informational: 1,
        ..Fault::default()
    });
    assert_eq!((reply.status, acted), (103, 1));
}

#[test]
fn bodies_can_be_delimited_in_every_way() {
    let (_, ending) = ending(Fault {
        no_length: true,
        ..Fault::default()
    });
    let Ending::Fin(text) = ending else {
        panic!("the connection should end with the body: {ending:?}");
    };
    assert!(
        !text.contains("Length") && text.ends_with("true}"),
        "{text}"
    );

    let standin = start_with(Fault {
        chunked: true,
        ..Fault::default()
    });
    let reply = delete(&standin, FIRST_ID);
    assert_eq!(reply.header("content-length"), None);
    assert_eq!(reply.json(), json!({"deleteInstanceAccount": true}));

    let texts = |fault| {
        let standin = start_with(fault);
        ask_raw(&standin.endpoints().http, &deletion(&standin, FIRST_ID))
    };
    let Ending::Open(text) = texts(Fault {
        invalid_chunking: true,
        ..Fault::default()
    }) else {
        panic!("the connection ended");
    };
    assert!(text.contains("chunked\r\n\r\nzz\r\n{"), "{text}");

    let Ending::Open(text) = texts(Fault {
        content_length: Some(1000),
        ..Fault::default()
    }) else {
        panic!("the connection ended");
    };
    assert!(text.contains("Content-Length: 1000\r\n"), "{text}");

    let Ending::Open(text) = texts(Fault {
        body: Some(String::new()),
        status: Some(204),
        ..Fault::default()
    }) else {
        panic!("the connection ended");
    };
    assert!(
        text.ends_with("\r\n\r\n") && !text.contains("Length"),
        "{text}"
    );
}

#[test]
fn bodies_and_heads_can_be_endless() {
    let repeat = |times| Fault {
        body_repeat: Some(BodyRepeat {
            text: "[1]".to_owned(),
            times,
        }),
        ..Fault::default()
    };
    let standin = start_with(repeat(Some(100_000)));
    let reply = delete(&standin, FIRST_ID);
    assert_eq!(reply.body.len(), 300_000);
    assert!(reply.body.ends_with("[1][1]"));

    let endless_header = Fault {
        endless_header: true,
        ..Fault::default()
    };
    for fault in [repeat(None), repeat(Some(u64::MAX)), endless_header] {
        let standin = start_with(fault);
        let mut stream = connect(&standin.endpoints().http);
        let request = deletion(&standin, FIRST_ID);
        stream.write_all(request.as_bytes()).expect("a connection");
        let mut flood = vec![0; 20_000_000];
        stream.read_exact(&mut flood).expect("an endless answer");
        drop(stream);
        let nobody = Until {
            open: Some(0),
            ..Until::default()
        };
        assert!(standin.wait(&nobody, PATIENCE));
    }
}

#[test]
fn the_protocol_can_be_broken() {
    let raw = |fault| {
        let (standin, ending) = ending(fault);
        (carried_out(&standin), ending)
    };
    let (acted, ending) = raw(Fault {
        raw: Some("HTTP/0.9 ?".to_owned()),
        then: Some(Then::Fin),
        ..Fault::default()
    });
    assert_eq!((acted, ending), (0, Ending::Fin("HTTP/0.9 ?".to_owned())));
    let (_, ending) = raw(Fault {
        raw_base64: Some(Base64((&b"\0\x01"[..]).into())),
        then: Some(Then::Reset),
        ..Fault::default()
    });
    assert_eq!(ending, Ending::Reset("\0\x01".to_owned()));

    let (acted, Ending::Open(text)) = raw(Fault {
        twice: true,
        informational: 2,
        ..Fault::default()
    }) else {
        panic!("the connection ended");
    };
    assert_eq!(acted, 1);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(text.starts_with("HTTP/1.1 103 "), "{text}");
    assert!(
        text.contains("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
        "{text}"
    );
}

#[test]
fn an_answer_can_come_before_the_request_is_whole() {
    let standin = start_with(Fault {
        early: true,
        ..Fault::default()
    });
    let mut stream = connect(&standin.endpoints().http);
    let request = deletion(&standin, FIRST_ID);
    let (head, body) = request.split_at(request.len() - 5);
    stream.write_all(head.as_bytes()).expect("a connection");
    assert_eq!(read_reply(&mut stream).expect("an answer").status, 200);
    assert_eq!(carried_out(&standin), 0);
    stream.write_all(body.as_bytes()).expect("a connection");
    assert!(standin.wait_received(1, PATIENCE));
    // The connection serves another request.
    stream.write_all(get("/").as_bytes()).expect("a connection");
    assert_eq!(read_reply(&mut stream).expect("an answer").status, 404);
    assert_eq!(carried_out(&standin), 1);
}

#[test]
fn answers_can_be_slow() {
    let timed = |fault| {
        let standin = start_with(fault);
        let begun = Instant::now();
        assert_eq!(delete(&standin, FIRST_ID).status, 200);
        begun.elapsed()
    };
    let delayed = timed(Fault {
        delay_ms: 200,
        ..Fault::default()
    });
    assert!(delayed >= Duration::from_millis(200), "{delayed:?}");
    let trickled = timed(Fault {
        trickle_ms: Some(2),
        ..Fault::default()
    });
    // The head and the body are much longer than 100 bytes.
    assert!(trickled >= Duration::from_millis(200), "{trickled:?}");
}

#[test]
fn connections_can_end_after_a_number_of_answers() {
    for reset in [false, true] {
        let standin = start();
        standin.set(|settings| {
            let every = if reset {
                &mut settings.reset_after_answers
            } else {
                &mut settings.close_after_answers
            };
            *every = Some(2);
        });
        let mut stream = connect(&standin.endpoints().http);
        for n in 0..2 {
            let request = deletion(&standin, FIRST_ID + n);
            stream.write_all(request.as_bytes()).expect("a connection");
            let reply = read_reply(&mut stream).expect("an answer");
            assert_eq!(reply.header("connection"), None);
        }
        let nothing = String::new();
        let expected = if reset {
            Ending::Reset(nothing)
        } else {
            Ending::Fin(nothing)
        };
        assert_eq!(read_ending(stream), expected);
    }
}
