//! A panic inside the library becomes `INTERNAL`, prints nothing, and leaves the library usable.
//! The tests build the library with a feature, for tests only, that makes certain ids panic.

mod support;

use std::env;
use std::process::Command;

use greenapi_standin::{Config, Standin};
use support::abi::{Client, Queue};

const AT_THE_BOUNDARY: i64 = 9_999_999_998;
const IN_A_CALL: i64 = 9_999_999_999;
const AFTER_SENDING: i64 = 9_999_999_997;
const CHILD: &str = "GREENAPI_TEST_PANICS";

#[test]
fn panics_become_internal_and_print_nothing() {
    let built = support::target().join("test-scratch/panics");
    support::run(
        Command::new(env!("CARGO"))
            .current_dir(support::root())
            .args([
                "build",
                "--lib",
                "--features",
                "inject-panics",
                "--target-dir",
            ])
            .arg(&built),
    );
    let said = support::run(
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "in_a_process_of_its_own", "--nocapture"])
            .env(CHILD, "yes")
            .env("GREENAPI_TEST_LIBRARY", built.join("debug/libgreenapi.so")),
    );
    assert_eq!(String::from_utf8_lossy(&said.stderr), "");
}

/// The test above runs this one in a child process, whose output it reads.
#[test]
fn in_a_process_of_its_own() {
    if env::var_os(CHILD).is_none() {
        return;
    }
    let standin = Standin::start(Config::default()).unwrap();
    let endpoints = standin.endpoints();
    standin.fill(1, 100, None);
    let client = Client::new(&endpoints.http, &endpoints.token, None).unwrap();
    let queue = Queue::new();
    for id in 1..=20 {
        for panicking in [AT_THE_BOUNDARY, IN_A_CALL] {
            let result = client.delete_instance(panicking);
            assert_eq!((result.status, result.attempts), (40, 0), "{result:?}");
        }
        let result = client.delete_instance(AFTER_SENDING);
        assert_eq!((result.status, result.attempts), (40, 1), "{result:?}");
        assert_eq!(queue.submit(&client, IN_A_CALL, 5), 0);
        assert_eq!(queue.submit(&client, 2 * id, 6), 0);
        let mut statuses: Vec<(u64, i32)> = Vec::new();
        while statuses.len() < 2 {
            let taken = queue.take(2, -1);
            statuses.extend(taken.iter().map(|result| (result.tag, result.status)));
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [(5, 40), (6, 0)]);
        assert_eq!(client.delete_instance(2 * id - 1).status, 0);
    }
}
