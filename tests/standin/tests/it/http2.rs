//! The API over HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use greenapi_standin::{Fault, Rule, Stage, Standin, Then, FIRST_ID};
use h2::client::{ResponseFuture, SendRequest};
use h2::Reason;
use http::{Request, StatusCode};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::client::*;

/// A connection, and the task that drives it and ends with its result.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

async fn connect_h2(standin: &Standin) -> Client {
    let address = authority(&standin.endpoints().https).replace("localhost", "127.0.0.1");
    let tcp = TcpStream::connect(address).await.expect("a connection");
    let connector = TlsConnector::from(std::sync::Arc::new(tls_config(standin, &["h2"])));
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = connector.connect(name, tcp).await.expect("a handshake");
    let (requests, connection) = h2::client::handshake(tls).await.expect("HTTP/2");
    Client {
        requests,
        connection: tokio::spawn(connection),
    }
}

impl Client {
    async fn send(&mut self, standin: &Standin, id: i64) -> ResponseFuture {
        let token = &standin.endpoints().token;
        let request = Request::post(format!(
            "https://localhost/partner/deleteInstanceAccount/{token}"
        ))
        .header("content-type", "application/json")
        .body(())
        .expect("a request");
        let mut requests = self.requests.clone().ready().await.expect("a connection");
        let (response, mut body) = requests.send_request(request, false).expect("a stream");
        let text = format!("{{\"idInstance\":{id}}}");
        body.send_data(text.into(), true).expect("a stream");
        response
    }

    async fn delete(
        &mut self,
        standin: &Standin,
        id: i64,
    ) -> Result<(StatusCode, String), h2::Error> {
        let response = self.send(standin, id).await.await?;
        let status = response.status();
        let mut body = response.into_body();
        let mut text = Vec::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            text.extend_from_slice(&piece);
        }
        Ok((status, String::from_utf8_lossy(&text).into_owned()))
    }
}

#[tokio::test]
async fn a_deletion_gets_the_documented_answer() {
    let standin = start();
    let mut client = connect_h2(&standin).await;
    let (status, body) = client.delete(&standin, FIRST_ID).await.expect("an answer");
    assert_eq!(status, 200);
    assert_eq!(body, r#"{"deleteInstanceAccount":true}"#);
    assert_eq!(standin.ledger().len(), 1);
    let stats = standin.stats();
    assert_eq!(stats.tls.alpn["h2"], 1);
    assert_eq!(stats.http_versions["HTTP/2"], 1);
    assert!(stats
        .last_head
        .contains("content-type: application/json\r\n"));
}

#[tokio::test]
async fn streams_can_be_reset_or_refused_and_answers_overridden() {
    let standin = start();
    standin.add_faults([
        Rule {
            times: Some(1),
            ..rule(Fault {
                h2_reset: Some(7),
                ..Fault::default()
            })
        },
        Rule {
            times: Some(1),
            ..rule(Fault {
                status: Some(502),
                informational: 2,
                trickle_ms: Some(1),
                delay_ms: 10,
                ..Fault::default()
            })
        },
    ]);
    let mut client = connect_h2(&standin).await;
    let error = client
        .delete(&standin, FIRST_ID)
        .await
        .expect_err("a reset");
    assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    assert!(standin.ledger().is_empty());
    let (status, body) = client.delete(&standin, FIRST_ID).await.expect("an answer");
    assert_eq!(status, 502);
    assert!(body.ends_with("</html>\r\n"));
    let (status, _) = client.delete(&standin, FIRST_ID).await.expect("an answer");
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_stalled_stream_does_not_affect_other_streams() {
    let standin = start();
    standin.add_faults([Rule {
        times: Some(1),
        ..rule(Fault {
            stage: Some(Stage::Acted),
            then: Some(Then::Stall),
            ..Fault::default()
        })
    }]);
    let mut client = connect_h2(&standin).await;
    let stalled = client.send(&standin, FIRST_ID).await;
    let other = client.delete(&standin, FIRST_ID + 1).await;
    assert_eq!(other.expect("an answer").0, 200);
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, stalled).await.is_err());
    assert_eq!(standin.ledger().len(), 2);
}

#[tokio::test]
async fn connections_end_in_the_given_way() {
    let goaway = Fault {
        h2_goaway: Some(11),
        ..Fault::default()
    };
    let half = Fault {
        stage: Some(Stage::HalfBody),
        then: Some(Then::Reset),
        ..Fault::default()
    };
    let received = Fault {
        stage: Some(Stage::Received),
        ..Fault::default()
    };
    for (fault, reason, acted) in [
        (goaway, Some(Reason::ENHANCE_YOUR_CALM), 0),
        (half, None, 1),
        (received, None, 0),
    ] {
        let standin = start_with(fault);
        let mut client = connect_h2(&standin).await;
        let error = client.delete(&standin, FIRST_ID).await.expect_err("an end");
        assert_eq!(error.reason(), None, "the stream was reset");
        assert_eq!(standin.ledger().len(), acted);
        let end = tokio::time::timeout(PATIENCE, client.connection).await;
        let end = end.expect("an end").expect("a task");
        let error = end.err().filter(h2::Error::is_go_away);
        assert_eq!(error.and_then(|error| error.reason()), reason);
    }

    // An orderly end comes after the answer.
    let standin = start_with(Fault {
        then: Some(Then::Fin),
        ..Fault::default()
    });
    let mut client = connect_h2(&standin).await;
    let answer = client.delete(&standin, FIRST_ID).await;
    assert_eq!(answer.expect("an answer").0, 200);
    let end = tokio::time::timeout(PATIENCE, client.connection).await;
    end.expect("an end").expect("a task").expect("no error");
}

#[tokio::test]
async fn thousands_can_be_held_at_once() {
    let standin = start_with(Fault {
        hold: true,
        ..Fault::default()
    });
    standin.set(|settings| settings.max_concurrent_streams = 5000);
    standin.fill(1, 2000, None);
    let mut client = connect_h2(&standin).await;
    let mut responses = Vec::new();
    for id in 1..=2000 {
        responses.push(client.send(&standin, id).await);
    }
    // Blocking this thread would also block the client's connection.
    let standin = tokio::task::spawn_blocking(move || {
        assert!(standin.wait_received(2000, PATIENCE));
        assert_eq!(standin.stats().in_flight, 2000);
        standin.release();
        standin
    })
    .await
    .expect("a task");
    for response in responses {
        assert_eq!(response.await.expect("an answer").status(), 200);
    }
    assert_eq!(standin.ledger().len(), 2000);
}
