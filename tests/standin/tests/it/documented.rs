//! The answers that GREEN-API documents, and those that its users reported.

use std::io::Write;
use std::time::Duration;

use greenapi_standin::{Instance, Operation, FIRST_ID};
use serde_json::json;

use crate::client::*;

#[test]
fn an_instance_is_deleted_once() {
    let standin = start();
    let gone = json!({"code": 404, "description": "Not found"});

    let reply = delete(&standin, FIRST_ID);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json(), json!({"deleteInstanceAccount": true}));
    assert_eq!(delete(&standin, FIRST_ID).json(), gone);
    assert_eq!(delete(&standin, 7).json(), gone);
    assert_eq!(delete(&standin, 7).status, 200);
    delete(&standin, FIRST_ID + 1);

    let ledger = serde_json::to_value(standin.ledger()).expect("JSON");
    assert_eq!(
        ledger,
        json!([
            {"id": FIRST_ID, "state": "authorized", "n": 1},
            {"id": FIRST_ID + 1, "state": "notAuthorized", "n": 2},
        ])
    );
    let requests = standin.requests();
    assert_eq!(requests[&FIRST_ID].received, 2);
    assert_eq!(requests[&FIRST_ID].carried_out, 1);
    assert_eq!(requests[&7].carried_out, 0);
    assert_eq!(standin.arrivals().len(), 5);
}

#[test]
fn the_token_is_one_decoded_segment() {
    let standin = start();
    standin.set(|settings| settings.prefix = "/corp/api".to_owned());
    let url = &standin.endpoints().http;
    let body = format!("{{\"idInstance\": {FIRST_ID}}}");
    let path = |token: &str| format!("/corp/api/partner/deleteInstanceAccount/{token}");

    let reply = ask(url, &post(&path("gac.wrong"), &body));
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        json!({"code": 401, "description": "Unauthorized"})
    );
    assert!(standin.ledger().is_empty());

    let encoded = standin.endpoints().token.replace('.', "%2e");
    let reply = ask(url, &post(&path(&encoded), &body));
    assert_eq!(reply.json(), json!({"deleteInstanceAccount": true}));
    assert_eq!(standin.stats().last_prefix, "/corp/api");
}

#[test]
fn an_invalid_request_is_refused_with_an_http_status() {
    let standin = start();
    let url = &standin.endpoints().http;
    let good = deletion(&standin, FIRST_ID);

    let page = ask(url, &good.replace("partner", "partners"));
    assert_eq!(page.status, 404);
    assert!(page.body.starts_with("<html>"), "{page:?}");
    assert_eq!(ask(url, &good.replace("POST", "PUT")).status, 404);

    for bad in [
        good.replace("application/json", "text/plain"),
        good.replace("idInstance", "idinstance"),
        good.replace("{\"", "{{"),
    ] {
        let reply = ask(url, &bad);
        assert_eq!(reply.status, 400, "{bad}");
        reply.json();
    }
    assert_eq!(ask(url, "nonsense\r\n\r\n").status, 400);
    assert!(standin.ledger().is_empty());
}

#[test]
fn the_list_has_every_instance_and_the_deleted_ones() {
    let standin = start();
    let path = format!("/partner/getInstances/{}", standin.endpoints().token);
    standin.fill(FIRST_ID, 1000, None);
    delete(&standin, FIRST_ID + 500);

    let list = ask(&standin.endpoints().http, &get(&path)).json();
    let list = list.as_array().expect("an array");
    assert_eq!(list.len(), 1000);
    let deleted: Vec<_> = list
        .iter()
        .filter(|item| item["deleted"] == true)
        .map(|item| &item["idInstance"])
        .collect();
    assert_eq!(deleted, [FIRST_ID + 500]);
    assert_eq!(list[0]["typeInstance"], "whatsapp");

    standin.clear_instances();
    let list = ask(&standin.endpoints().http, &get(&path));
    assert_eq!(list.json(), json!([]));
    standin.set(|settings| settings.list_forbidden = true);
    assert_eq!(ask(&standin.endpoints().http, &get(&path)).status, 403);
    let wrong = ask(&standin.endpoints().http, &get("/partner/getInstances/x"));
    assert_eq!(wrong.status, 401);
}

/// Calls an instance method.
fn instance_method(standin: &greenapi_standin::Standin, instance: &Instance, name: &str) -> Reply {
    let path = format!("/waInstance{}/{name}/{}", instance.id, instance.token());
    ask(&standin.endpoints().http, &get(&path))
}

#[test]
fn a_logout_ends_the_session() {
    let standin = start();
    standin.set(|settings| settings.rate_interval_ms = 0);
    let prompt = Instance::new(1, "authorized");
    let slow = Instance {
        logout_after_ms: 300,
        ..Instance::new(2, "authorized")
    };
    let stubborn = Instance {
        refuse_logout: true,
        ..Instance::new(3, "authorized")
    };
    standin.put_instances([prompt.clone(), slow.clone(), stubborn.clone()]);
    let state = |instance| instance_method(&standin, instance, "getStateInstance").json();
    let logout = |instance| instance_method(&standin, instance, "logout").json();

    assert_eq!(state(&prompt), json!({"stateInstance": "authorized"}));
    assert_eq!(logout(&prompt), json!({"isLogout": true}));
    assert_eq!(state(&prompt), json!({"stateInstance": "notAuthorized"}));

    assert_eq!(logout(&slow), json!({"isLogout": true}));
    assert_eq!(state(&slow), json!({"stateInstance": "authorized"}));
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(state(&slow), json!({"stateInstance": "notAuthorized"}));

    assert_eq!(logout(&stubborn), json!({"isLogout": false}));
    assert_eq!(state(&stubborn), json!({"stateInstance": "authorized"}));

    delete(&standin, 1);
    assert_eq!(state(&prompt), json!({"stateInstance": "starting"}));
    assert_eq!(instance_method(&standin, &prompt, "logout").status, 400);
    let impostor = Instance {
        api_token: Some("wrong".to_owned()),
        ..slow
    };
    let refused = instance_method(&standin, &impostor, "getStateInstance");
    assert_eq!(refused.status, 401);
}

#[test]
fn instance_methods_are_limited_to_one_a_second_each() {
    let standin = start();
    let [first, second] = [1, 2].map(|id| Instance::new(id, "authorized"));
    standin.put_instances([first.clone(), second.clone()]);
    let status = |instance, name| instance_method(&standin, instance, name).status;

    assert_eq!(status(&first, "getStateInstance"), 200);
    assert_eq!(status(&first, "logout"), 200);
    assert_eq!(status(&second, "getStateInstance"), 200);
    assert_eq!(status(&first, "getStateInstance"), 429);
    assert_eq!(standin.stats().rate_violations, 1);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(status(&first, "getStateInstance"), 200);
    assert_eq!(standin.stats().requests[&Operation::State], 4);
}

#[test]
fn requests_may_come_in_any_pieces() {
    let standin = start();
    let mut stream = connect(&standin.endpoints().http);

    // Sends two and a half requests at once, and the rest byte by byte.
    let text: String = (0..3).map(|n| deletion(&standin, FIRST_ID + n)).collect();
    let (early, late) = text.split_at(text.len() - 100);
    stream.write_all(early.as_bytes()).expect("a connection");
    for byte in late.as_bytes().chunks(1) {
        stream.write_all(byte).expect("a connection");
    }
    for _ in 0..3 {
        let reply = read_reply(&mut stream).expect("an answer");
        assert_eq!(reply.json(), json!({"deleteInstanceAccount": true}));
    }

    let chunked = deletion(&standin, FIRST_ID + 3)
        .replace("Content-Length: 26", "Transfer-Encoding: chunked")
        .replace("{\"idInst", "8\r\n{\"idInst\r\n12;x=y\r\n")
        + "\r\n0\r\nTrailer: t\r\n\r\n";
    stream.write_all(chunked.as_bytes()).expect("a connection");
    let reply = read_reply(&mut stream).expect("an answer");
    assert_eq!(reply.json(), json!({"deleteInstanceAccount": true}));

    assert_eq!(standin.ledger().len(), 4);
    assert_eq!(standin.stats().connections.accepted, 1);
    let closing = get("/").replace("Host", "Connection: close\r\nHost");
    assert!(standin.stats().last_head.contains("chunked"));
    stream.write_all(closing.as_bytes()).expect("a connection");
    let Ending::Fin(last) = read_ending(stream) else {
        panic!("the connection stayed open");
    };
    assert!(last.contains("Connection: close"), "{last}");
}

/// The answer of an instance, which is expired, deleted or starting, to the method `name`.
fn refusal(instance: Instance, name: &str) -> (u16, String) {
    let standin = start();
    standin.put_instances([instance.clone()]);
    let reply = instance_method(&standin, &instance, name);
    (reply.status, reply.body)
}

#[test]
fn expired_deleted_and_starting_instances_answer_as_the_vendor_says() {
    let new = || Instance::new(1, "authorized");
    let expired = Instance {
        expired: true,
        ..new()
    };
    let creating = Instance {
        creating: true,
        ..new()
    };
    let starting = Instance {
        starting: true,
        ..new()
    };
    let refusing = Instance {
        refuses: Some("no".into()),
        ..new()
    };
    let forgotten = Instance {
        deleted: true,
        time_deleted: Some("2024-01-01T00:00:00".into()),
        ..new()
    };
    const STARTING: &str = "instance in starting process try later";
    const EXPIRED: &str = "Instance account is expired. Renew your instance from personal area";
    let rows = [
        (&expired, "getStateInstance", 400, EXPIRED),
        (&expired, "logout", 400, EXPIRED),
        (&creating, "getStateInstance", 200, "null"),
        (&creating, "logout", 400, STARTING),
        (&starting, "getStateInstance", 400, STARTING),
        (
            &starting,
            "logout",
            400,
            "instance is starting or not authorized",
        ),
        (
            &refusing,
            "getStateInstance",
            200,
            r#"{"reason":"no","status":false}"#,
        ),
    ];
    for (instance, name, status, body) in rows {
        let expected = (status, body.to_owned());
        assert_eq!(refusal(instance.clone(), name), expected, "{name}");
    }
    assert_eq!(refusal(forgotten, "getStateInstance").0, 401);

    let standin = start();
    standin.set(|settings| settings.rate_interval_ms = 0);
    let soon = Instance {
        ready_after_ms: 100,
        ..starting
    };
    standin.put_instances([soon.clone()]);
    assert_eq!(
        instance_method(&standin, &soon, "getStateInstance").status,
        400
    );
    std::thread::sleep(Duration::from_millis(150));
    assert_eq!(
        instance_method(&standin, &soon, "getStateInstance").status,
        200
    );
}

#[test]
fn the_list_shows_a_deleted_instance_for_three_months() {
    let standin = start();
    standin.clear_instances();
    let gone = |id, time: &str| Instance {
        deleted: true,
        time_deleted: Some(time.to_owned()),
        ..Instance::new(id, "authorized")
    };
    standin.put_instances([
        Instance::new(1, "authorized"),
        gone(2, "2023-01-01T00:00:00"),
        gone(3, "2999-01-01T00:00:00"),
    ]);
    let path = format!("/partner/getInstances/{}", standin.endpoints().token);
    let list = ask(&standin.endpoints().http, &get(&path)).json();
    let list = list.as_array().expect("an array");
    assert_eq!(list.len(), 2);
    assert_eq!(list[0]["timeDeleted"], "0001-01-01T00:00:00");
    assert_eq!(list[1]["timeDeleted"], "2999-01-01T00:00:00");
    assert!(list[0]["typeAccount"].is_string() && list[0]["partnerUserUiid"].is_string());
}

#[test]
fn a_created_instance_can_be_deleted() {
    let standin = start();
    standin.set(|settings| settings.rate_interval_ms = 0);
    let url = &standin.endpoints().http;
    let path = format!("/partner/createInstance/{}", standin.endpoints().token);
    let made = ask(url, &post(&path, r#"{"name":"new","typeInstance":"v3"}"#)).json();
    let id = made["idInstance"].as_i64().expect("an id");
    let token = made["apiTokenInstance"].as_str().expect("a token");
    // The methods of MAX instances accept an optional `/v3`.
    for prefix in ["", "/v3"] {
        let path = format!("{prefix}/waInstance{id}/getStateInstance/{token}");
        let state = ask(url, &get(&path)).json();
        assert_eq!(state, json!({"stateInstance": "notAuthorized"}));
    }
    delete(&standin, id);
    assert_eq!(standin.ledger().len(), 1);
    assert_eq!(ask(url, &post(&path, "[")).status, 400);
}

#[test]
fn another_prefix_or_pool_answers_404() {
    let standin = start();
    standin.set(|settings| settings.instance_prefix = Some("/pool/{pool}".to_owned()));
    let instance = Instance::new(7_103_000_001, "authorized");
    standin.put_instances([instance.clone()]);
    let state = |prefix: &str| {
        let (id, token) = (instance.id, instance.token());
        let path = format!("{prefix}/waInstance{id}/getStateInstance/{token}");
        ask(&standin.endpoints().http, &get(&path)).status
    };
    assert_eq!(state("/pool/7103"), 200);
    for prefix in ["", "/pool/1101", "/pool"] {
        assert_eq!(state(prefix), 404, "{prefix}");
    }
    let token = &standin.endpoints().token;
    let elsewhere = format!("/x/partner/getInstances/{token}");
    assert_eq!(ask(&standin.endpoints().http, &get(&elsewhere)).status, 404);
}
