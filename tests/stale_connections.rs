//! A server that closes each connection right after its answer, without announcing it, makes many
//! HTTP clients fail. Here all of 3,000 calls in a row must succeed.

mod support;

use greenapi_standin::{Config, Standin};
use support::abi::{c_string, delete_instance, options, Client};

const CALLS: i64 = 3_000;
const FIRST: i64 = 3_000_000_000;

fn closing_server(reset: bool) -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, CALLS as u32, None);
    standin.set(|settings| match reset {
        true => settings.reset_after_answers = Some(1),
        false => settings.close_after_answers = Some(1),
    });
    standin
}

/// Every call must succeed. An attempt that is lost because the connection was closed meanwhile was
/// not carried out, so its retry still finds the instance.
fn check(standin: &Standin, statuses: &[i32]) {
    let wrong = statuses.iter().filter(|status| **status != 0).count();
    assert_eq!(wrong, 0, "of {CALLS} calls failed");
    assert_eq!(standin.ledger().len(), CALLS as usize);
}

#[test]
fn the_one_call_survives_closed_connections() {
    let standin = closing_server(false);
    let endpoints = standin.endpoints();
    let statuses: Vec<i32> = (FIRST..FIRST + CALLS)
        .map(|id| delete_instance(&endpoints.http, &endpoints.token, id).0)
        .collect();
    check(&standin, &statuses);
}

#[test]
fn a_client_survives_closed_and_reset_connections_over_http_and_https() {
    for (tls, reset) in [(false, false), (false, true), (true, false), (true, true)] {
        let standin = closing_server(reset);
        let endpoints = standin.endpoints();
        let ca_file = support::abi::c_string(&endpoints.ca_file.display().to_string());
        let mut options = options();
        options.ca_file = ca_file.as_ptr();
        let url = if tls {
            &endpoints.https_h1
        } else {
            &endpoints.http
        };
        let client = Client::new(url, &endpoints.token, Some(&options)).unwrap();
        let statuses: Vec<i32> = (FIRST..FIRST + CALLS)
            .map(|id| client.delete_instance(id).status)
            .collect();
        check(&standin, &statuses);
    }
}

#[test]
fn a_bulk_deletion_survives_closed_connections() {
    let standin = closing_server(false);
    let endpoints = standin.endpoints();
    let client = Client::new(&endpoints.http, &endpoints.token, None).unwrap();
    let ids: Vec<i64> = (FIRST..FIRST + CALLS).collect();
    let statuses: Vec<i32> = client
        .delete_instances(&ids)
        .iter()
        .map(|result| result.status)
        .collect();
    check(&standin, &statuses);
}

/// Without waiting for SETTINGS, a burst would exceed the server's limit of streams or open more
/// connections.
#[test]
fn a_burst_on_a_new_connection_obeys_the_servers_limit_of_streams() {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.set(|settings| settings.max_concurrent_streams = 4);
    standin.fill(FIRST, 64, Some("notAuthorized"));
    let ca_file = c_string(&standin.endpoints().ca_file.display().to_string());
    let mut options = options();
    options.ca_file = ca_file.as_ptr();
    let client = Client::new(
        &standin.endpoints().https,
        &standin.endpoints().token,
        Some(&options),
    );
    let ids: Vec<i64> = (FIRST..FIRST + 64).collect();
    for result in client.unwrap().delete_instances(&ids) {
        assert_eq!((result.status, result.attempts), (0, 1), "{result:?}");
    }
    assert_eq!(standin.stats().connections.accepted, 1);
}
