//! GREEN-API's own Python SDK must understand every answer of the stand-in. This shows that the
//! tests run against a faithful imitation of the API.

mod support;

use greenapi_standin::{Config, Instance, Standin};

#[test]
fn the_vendors_sdk_understands_every_answer_of_the_stand_in() {
    if support::is_left_out("python") {
        return;
    }
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.clear_instances();
    standin.put_instances([
        Instance {
            name: "authorized".into(),
            ..Instance::new(1_101_000_001, "authorized")
        },
        Instance {
            expired: true,
            ..Instance::new(1_101_000_002, "notAuthorized")
        },
        Instance {
            name: "creating".into(),
            creating: true,
            ..Instance::new(1_101_000_003, "notAuthorized")
        },
    ]);
    let endpoints = standin.endpoints();
    support::run(
        support::python_command()
            .arg(support::root().join("tests/vendor_sdk.py"))
            .env("GREENAPI_URL", &endpoints.http)
            .env("GREENAPI_TOKEN", &endpoints.token),
    );
    assert_eq!(standin.ledger().len(), 1);
}
