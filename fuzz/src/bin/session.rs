//! What reads the list of instances and the answers of their methods: any bytes, in any pieces.
#![no_main]

#[path = "../../../src/secret.rs"]
mod secret;
#[path = "../../../src/session.rs"]
mod session;

/// As much of the library's own modules as `session` needs.
mod options {
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Session {
        Ignore,
        RequireLoggedOut,
        LogOut,
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
        let mut reader = session::ListReader::default();
        for piece in bytes.chunks(piece) {
            reader.feed(piece)?;
        }
        reader.finish()
    };
    // However the bytes are cut, the list is the same, and it is one only where it is JSON.
    let whole = read(bytes.len().max(1));
    assert_eq!(whole, read(usize::from(piece).max(1)));
    if whole.is_ok() {
        let value: serde_json::Value = serde_json::from_slice(bytes).expect("a list is JSON");
        assert!(value.is_array());
    }
    let _ = (
        session::read_code(bytes),
        session::read_logout(http_status, bytes),
    );
    if let Some(state) = session::read_state(bytes) {
        for policy in [
            options::Session::Ignore,
            options::Session::RequireLoggedOut,
            options::Session::LogOut,
        ] {
            let next = session::next(policy, &state, None, true);
            let deletes = next == session::Next::Delete;
            assert_eq!(
                deletes,
                policy == options::Session::Ignore || state == "notAuthorized"
            );
        }
    }
});
