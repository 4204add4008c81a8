//! The journal's messages. The journal's path is at the end of each, where it can be cut to fit.

use super::file::{OpenFailure, WriteFailure};
use super::index::{Deletion, Past, Refusal};
use super::record::write_time;
use crate::outcome::{Outcome, MESSAGE_SIZE};
use crate::process::file::{is_broken_disk, is_disk_full};
use crate::process::is_exhaustion;
use crate::secret::Secret;
use crate::status::Status;

/// A path in the form that messages show: printable, not too long, and without the token.
pub fn printable(path: &str, token: &Secret) -> String {
    const LONGEST: usize = 80;
    let path = path.replace(char::is_control, "?");
    tail(&token.redact(&path), LONGEST)
}

/// The last `limit` bytes of a path, because paths differ mostly at their ends.
fn tail(text: &str, limit: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= limit {
        return text.into();
    }
    let mut start = text.len() - limit.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    format!("{ELLIPSIS}{}", &text[start..])
}

/// Appends the path to a message, cut to the room that is left.
fn with_path(message: String, path: &str) -> String {
    let room = (MESSAGE_SIZE - 1).saturating_sub(message.len());
    message + &tail(path, room)
}

/// Cuts an address, so that a message has room for two addresses and a path.
fn short(address: &str) -> String {
    const LONGEST: usize = 50;
    match address.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &address[..end]),
        None => address.into(),
    }
}

/// Why a journal of `address` could not be opened. `token` is hidden in both addresses.
pub fn refused(path: &str, address: &str, token: &Secret, failure: OpenFailure) -> Outcome {
    use OpenFailure::*;
    let mut status = Status::InvalidArgument;
    let message = match failure {
        NotAFile(what) => format!("journal: give the path of a file, which need not exist yet: {what} is at "),
        Held => "journal: end the other process, or give another file: another process holds ".into(),
        Refused(Refusal::NotAJournal) => "journal: give the path of a journal or of a new file: line 1 is not that of a journal: ".into(),
        Refused(Refusal::OtherAddress(other)) => format!("journal: give {} a journal of its own: this one belongs to {}: ", short(&token.redact(address)), short(&token.redact(&other))),
        Refused(Refusal::LaterVersion(version)) => format!("journal: use a newer greenapi: version {version} of the format is unknown to {}: ", env!("CARGO_PKG_VERSION")),
        Refused(Refusal::Damaged(line)) => format!("journal: restore it from a backup, or begin a new one: line {line} is damaged, so no line is trusted: "),
        Refused(Refusal::NoMemory) => {
            status = Status::OutOfResources;
            "journal: free memory: there is not enough to read ".into()
        }
        Refused(Refusal::Failed(error)) | Failed(error) => {
            if is_exhaustion(&error) || is_disk_full(&error) || is_broken_disk(&error) {
                status = Status::OutOfResources;
                format!("journal: free resources or check the disk ({error}): it could not be opened: ")
            } else {
                format!("journal: give a path that can be written to ({error}): ")
            }
        }
    };
    Outcome::new(status, with_path(message, path))
}

/// The outcome of a call whose record could not be written.
pub fn not_noted(path: &str, failure: &WriteFailure) -> Outcome {
    let error = &failure.error;
    if !failure.can_pass {
        return broken(path, &error.to_string());
    }
    let advice = match is_disk_full(error) {
        true => "Free room on the journal's disk",
        false => "Check the journal's disk",
    };
    out_of_resources(
        format!("{advice} and call again: the deletion could not be recorded ({error}), so no request was sent. The journal is "),
        path,
    )
}

/// The outcome of all calls after a journal has failed.
pub fn broken(path: &str, why: &str) -> Outcome {
    out_of_resources(
        format!("Check the journal's disk, free all clients of the journal and open it anew: it can no longer be trusted ({why}), so no request was sent: "),
        path,
    )
}

/// The outcome of a call whose record was not durable before the deadline.
pub fn late(path: &str) -> Outcome {
    out_of_resources(
        "Check the journal's disk and call again: it did not write a record in time, so no request was sent. The journal is ".into(),
        path,
    )
}

fn out_of_resources(message: String, path: &str) -> Outcome {
    Outcome::new(Status::OutOfResources, with_path(message, path))
}

pub fn no_memory() -> Outcome {
    Outcome::new(
        Status::OutOfResources,
        "Free memory and call again: there is none for a record in the journal, so no request was sent.",
    )
}

/// The outcome of a call for an instance that is gone according to the journal; else `None`.
pub fn answer(past: &Past) -> Option<Outcome> {
    let Deletion::Gone { status, code, at } = past.deletion else {
        return None;
    };
    let mut time = String::new();
    write_time(at, &mut time);
    let time = time.replace('T', " ").replace(".000Z", " UTC");
    let status = Status::from_repr(status).unwrap_or(Status::Gone);
    let mut outcome = Outcome::new(
        status,
        match status {
            Status::Ok => format!("The instance was deleted at {time}, according to the journal; this call sent nothing."),
            _ => format!("The instance is gone: according to the journal an earlier call most likely deleted it, and found it missing at {time}; this call sent nothing."),
        },
    );
    outcome.code = code;
    Some(outcome)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::record::LAST_MOMENT;
    use super::*;

    /// A message that had to be cut would lose the end of the path.
    #[test]
    fn every_message_fits_with_its_longest_values() {
        let token = Secret::new("gac.0123456789abcdef");
        let address = "https://".to_owned() + &"a".repeat(253) + ":65535/" + &"p".repeat(500);
        for name in ["x", "ü", "🦀", "a\n"] {
            let name = name.repeat(300) + "end.journal";
            let path = printable(&name, &token);
            let mut outcomes = vec![
                late(&path),
                broken(&path, "another program has changed it"),
                refused(
                    &path,
                    &address,
                    &token,
                    OpenFailure::NotAFile("a character device"),
                ),
                refused(&path, &address, &token, OpenFailure::Held),
            ];
            let refusals = [
                Refusal::NotAJournal,
                Refusal::OtherAddress(address.clone()),
                Refusal::LaterVersion(u32::MAX),
                Refusal::Damaged(u64::MAX),
                Refusal::NoMemory,
            ];
            outcomes.extend(
                refusals.map(|one| refused(&path, &address, &token, OpenFailure::Refused(one))),
            );
            // Every error that the system has, as their texts differ in length.
            for number in 1..134 {
                let error = || io::Error::from_raw_os_error(number);
                outcomes.push(refused(
                    &path,
                    &address,
                    &token,
                    OpenFailure::Failed(error()),
                ));
                outcomes.extend([true, false].map(|can_pass| {
                    let error = error();
                    not_noted(&path, &WriteFailure { error, can_pass })
                }));
            }
            for outcome in outcomes {
                let message = outcome.message;
                assert!(message.ends_with("end.journal"), "{message}");
            }
        }
        let gone = [Status::Ok as i32, Status::Gone as i32, i32::MAX].map(|status| {
            let (code, at) = (i32::MIN, LAST_MOMENT);
            let deletion = Deletion::Gone { status, code, at };
            answer(&Past {
                deletion,
                ..Past::default()
            })
            .expect("it is gone")
        });
        for outcome in gone.into_iter().chain([no_memory()]) {
            assert!(outcome.message.ends_with('.'), "{}", outcome.message);
        }
    }
}
