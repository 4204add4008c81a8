//! The list of instances by the C interface, against the stand-in.

mod support;

use greenapi_standin::{Config, Instance, Standin};
use support::abi::{options, Client, List, RawInstance, RawOptions};

fn standin() -> Standin {
    let standin = Standin::start(Config::default()).expect("the stand-in starts");
    standin.clear_instances();
    standin
}

fn client(standin: &Standin, change: impl FnOnce(&mut RawOptions)) -> Client {
    let mut options = options();
    change(&mut options);
    let endpoints = standin.endpoints();
    Client::new(&endpoints.http, &endpoints.token, Some(&options)).expect("a client")
}

#[test]
fn every_field_and_the_end() {
    let standin = standin();
    standin.put_instances([
        Instance {
            name: "Ünïcode\n🦀".into(),
            ..Instance::new(1, "authorized")
        },
        Instance {
            deleted: true,
            time_deleted: Some("2999-06-12T15:43:31".into()),
            type_instance: "telegram".into(),
            ..Instance::new(2, "authorized")
        },
        Instance {
            expired: true,
            is_free: true,
            is_partner: false,
            tariff: "DEVELOPER".into(),
            ..Instance::new(3, "authorized")
        },
    ]);
    let client = client(&standin, |_| {});
    for (flags, states) in [(0, [0, 0, 0]), (1, [2, 0, 9])] {
        let list = List::of(&client, flags).expect("a list");
        let (all, end) = list.all();
        assert_eq!((end.status, end.id, end.tag), (0, 0, 0), "{end:?}");
        assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(all.iter().map(|one| one.state).collect::<Vec<_>>(), states);
        assert_eq!(
            all.iter().map(|one| one.flags).collect::<Vec<_>>(),
            [8, 9, 6]
        );
        assert_eq!(RawInstance::text(&all[0].name), "Ünïcode\n🦀");
        assert_eq!(RawInstance::text(&all[1].kind), "telegram");
        assert_eq!(RawInstance::text(&all[2].tariff), "DEVELOPER");
        assert_eq!((all[0].deleted, all[0].created), (0, 1_709_704_097));
        assert_eq!(all[1].deleted, 32_486_197_411);
        assert!(list.is_readable(0) && list.take(1, -1).is_empty());
    }
}
