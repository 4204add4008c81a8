//! Fuzzes the parsers of the list and of the instance methods with any bytes in any pieces.
#![no_main]

#[path = "../../../src/instances.rs"]
mod instances;
#[path = "../../../src/json.rs"]
mod json;
#[path = "../../../src/secret.rs"]
mod secret;
#[path = "../../../src/session.rs"]
mod session;
#[path = "../../../src/status.rs"]
mod status;

/// The parts of other modules of the library that these modules need.
mod endpoint {
    pub const LENGTH_LIMIT: usize = 4096;
}
mod options {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Session {
        Ignore,
        RequireLoggedOut,
        LogOut,
        TryLogOut,
    }
}
mod outcome {
    pub fn sanitize(text: &str, _: &[&crate::secret::Secret]) -> String {
        text.to_owned()
    }
}

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (piece, http_status, bytes) = input;
    let read = |piece: usize| {
        let mut reader = instances::ListReader::default();
        let mut items = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while let Some(item) = reader.next(&mut piece)? {
                items.push(item);
            }
        }
        reader
            .is_whole()
            .then_some(items)
            .ok_or(instances::NotAList)
    };
    // The list must not depend on how the bytes are cut, and only JSON may be accepted as a list.
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(usize::from(piece).max(1)));
    if whole.is_ok() {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("a list is JSON");
        assert!(value.is_array());
    }
    let _ = (
        session::read_code(bytes),
        session::read_logout(bytes, &[]),
        session::read_refusal(http_status, http_status, bytes, &[]),
    );
    if let Some(session::Said::Reply(reply)) = session::read_state(bytes, &[]) {
        let known = session::Known {
            logout: session::Logout::Not,
            time: true,
            fresh: true,
        };
        let permits = match &reply {
            session::Reply::CannotBeAsked(obstacle, _) => *obstacle == session::Obstacle::Deleted,
            reply => reply.state() == instances::State::NotAuthorized,
        };
        let next = session::next(options::Session::LogOut, &reply, known);
        let deletes = matches!(next, session::Next::Delete(_));
        assert_eq!(deletes, permits);
    }
});
