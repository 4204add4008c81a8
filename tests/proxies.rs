//! Deletions through HTTP, HTTPS and SOCKS5 proxies, with and without a login, set by the option
//! and by the environment.

mod support;

use greenapi_standin::{Config, Fault, Rule, Standin, Target};
use support::abi::{c_string, options, Client, RawResult};
use support::Driver;

const FIRST: i64 = 7_000_000_000;
const USER: &str = "m1k4x2";
const PASSWORD: &str = "p@ss/w0rd:x";

fn standin() -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.fill(FIRST, 10, Some("authorized"));
    standin
}

fn delete(standin: &Standin, url: &str, proxy: &str, session: u32) -> RawResult {
    delete_trying(standin, url, proxy, session, 0)
}

fn delete_trying(
    standin: &Standin,
    url: &str,
    proxy: &str,
    session: u32,
    max_retries: u32,
) -> RawResult {
    let ca_file = c_string(&standin.endpoints().ca_file.display().to_string());
    let proxy = c_string(proxy);
    let mut options = options();
    options.ca_file = ca_file.as_ptr();
    options.proxy = proxy.as_ptr();
    options.max_retries = max_retries;
    options.session = session;
    let client = Client::new(url, &standin.endpoints().token, Some(&options)).unwrap();
    client.delete_instance(FIRST)
}

fn proxies(standin: &Standin) -> [String; 4] {
    let endpoints = standin.endpoints();
    [
        endpoints.proxy_http.clone(),
        endpoints.proxy_https.clone(),
        endpoints.proxy_socks5.clone(),
        endpoints.proxy_socks5.replace("socks5h", "socks5"),
    ]
}

fn used(standin: &Standin) -> u64 {
    let stats = standin.stats();
    let requests = stats.proxies.values();
    requests.map(|proxy| proxy.tunnels + proxy.forwarded).sum()
}

#[test]
fn every_kind_of_proxy_reaches_every_address() {
    for kind in 0..4 {
        for session in [0, 2] {
            let standin = standin();
            let endpoints = standin.endpoints();
            for url in [&endpoints.http, &endpoints.https, &endpoints.https_h1] {
                standin.reset();
                standin.fill(FIRST, 1, Some("authorized"));
                let proxy = &proxies(&standin)[kind];
                let before = used(&standin);
                let result = delete(&standin, url, proxy, session);
                assert_eq!(result.status, 0, "{url} through {proxy}: {result:?}");
                assert!(used(&standin) > before, "{url} did not go through {proxy}");
            }
        }
    }
}

#[test]
fn only_the_proxy_sees_its_login() {
    let standin = standin();
    standin.set(|settings| {
        settings.proxy_user = Some(USER.into());
        settings.proxy_password = Some(PASSWORD.into());
    });
    let https = standin.endpoints().https.clone();
    for (index, proxy) in proxies(&standin).iter().enumerate() {
        let with = |login: &str| proxy.replacen("://", &format!("://{login}@"), 1);
        for wrong in [proxy.clone(), with("m1k4x2:wr0ng")] {
            let refused = || {
                let stats = standin.stats();
                stats
                    .proxies
                    .values()
                    .map(|proxy| proxy.unauthorized)
                    .sum::<u64>()
            };
            // A wrong login is not retried, neither before nor in a deletion: the proxy might lock
            // the account.
            let before = refused();
            let result = delete_trying(&standin, &https, &wrong, 1, 3);
            assert_eq!(result.status, 21, "{index}: {result:?}");
            assert!(
                result.message().starts_with("Check the proxy"),
                "{index}: {result:?}"
            );
            let result = delete_trying(&standin, &https, &wrong, 0, 3);
            assert_eq!(result.status, 21, "{index}: {result:?}");
            assert!(
                result.message().starts_with("Check the proxy"),
                "{index}: {result:?}"
            );
            assert_eq!(refused() - before, 2, "{index}: {result:?}");
            for secret in [PASSWORD, "wr0ng", USER] {
                assert!(!support::shows(&result.message(), secret), "{result:?}");
            }
        }
        standin.reset();
        standin.fill(FIRST, 1, None);
        let result = delete(&standin, &https, &with("m1k4x2:p%40ss%2Fw0rd%3Ax"), 0);
        assert_eq!(result.status, 0, "{index}: {result:?}");
        standin.reset();
        standin.set(|settings| {
            settings.proxy_user = Some(USER.into());
            settings.proxy_password = Some(PASSWORD.into());
        });
        standin.fill(FIRST, 1, None);
    }
}

/// A server that learned the login repeats it in its answer to the list.
#[test]
fn no_message_of_a_session_question_shows_the_login() {
    let standin = standin();
    standin.set(|settings| {
        settings.proxy_user = Some(USER.into());
        settings.proxy_password = Some(PASSWORD.into());
    });
    standin.add_faults([Rule {
        method: Target::List,
        fault: Fault {
            status: Some(400),
            body: Some(format!("{USER} and {PASSWORD} are refused")),
            ..Fault::default()
        },
        ..Rule::default()
    }]);
    let proxy = &proxies(&standin)[0];
    let proxy = proxy.replacen("://", "://m1k4x2:p%40ss%2Fw0rd%3Ax@", 1);
    let http = standin.endpoints().http.clone();
    let result = delete(&standin, &http, &proxy, 1);
    assert_eq!(result.status, 16, "{result:?}");
    assert!(result.message().contains("are refused"), "{result:?}");
    for secret in [PASSWORD, USER] {
        assert!(!support::shows(&result.message(), secret), "{result:?}");
    }
}

#[test]
fn an_unreachable_proxy_means_that_nothing_was_sent() {
    let standin = standin();
    let refused = standin.trap("refused").to_owned();
    let https = standin.endpoints().https.clone();
    let port = refused.rsplit(':').next().expect("a port");
    for session in [0, 1] {
        let result = delete(&standin, &https, &refused, session);
        assert_eq!((result.status, result.attempts), (21, 0), "{result:?}");
        for named in ["at the proxy", port] {
            assert!(result.message().contains(named), "{result:?}");
        }
    }
}

/// The driver runs in a process of its own, which starts with the environment under test.
#[test]
fn the_environment_names_a_proxy_and_exceptions() {
    let drivers = Driver::of("c");
    let Some(driver) = drivers.iter().find(|driver| driver.mode == "client") else {
        return;
    };
    let standin = standin();
    let endpoints = standin.endpoints();
    let mut id = FIRST;
    let mut went_through = |url: &str, variables: &[(&'static str, String)]| {
        let mut environment = vec![
            ("GREENAPI_URL", url.to_owned()),
            ("GREENAPI_TOKEN", endpoints.token.clone()),
            ("GREENAPI_CA_FILE", endpoints.ca_file.display().to_string()),
        ];
        environment.extend_from_slice(variables);
        let before = used(&standin);
        id += 1;
        let lines = driver.delete(&environment, &[id]);
        assert_eq!(lines[0].status, Some(0), "{lines:?}");
        used(&standin) > before
    };
    let proxy = endpoints.proxy_http.clone();
    assert!(went_through(
        &endpoints.https,
        &[("HTTPS_PROXY", proxy.clone())]
    ));
    assert!(went_through(
        &endpoints.https,
        &[("https_proxy", proxy.clone())]
    ));
    assert!(went_through(
        &endpoints.https,
        &[("ALL_PROXY", endpoints.proxy_socks5.clone())]
    ));
    let except = ("NO_PROXY", "localhost".to_owned());
    assert!(!went_through(
        &endpoints.https,
        &[("HTTPS_PROXY", proxy.clone()), except]
    ));
    // A proxy that cannot be used is an error: the call does not go around the proxy.
    let mut environment = vec![
        ("GREENAPI_URL", endpoints.https.clone()),
        ("GREENAPI_TOKEN", endpoints.token.clone()),
        ("GREENAPI_CA_FILE", endpoints.ca_file.display().to_string()),
    ];
    environment.push(("HTTPS_PROXY", proxy.replacen("http", "gopher", 1)));
    let lines = driver.delete(&environment, &[FIRST]);
    assert_eq!(lines[0].status, Some(21), "{lines:?}");
    assert!(lines[0].message.contains("HTTPS_PROXY"), "{lines:?}");
    // Plain HTTP never uses a proxy of the environment, which would read the token.
    let all = [
        ("HTTP_PROXY", proxy.clone()),
        ("ALL_PROXY", proxy.clone()),
        ("http_proxy", proxy),
    ];
    assert!(!went_through(&endpoints.http, &all));
}
