//! greenapi deletes instances of a GREEN-API partner account, for programs in any language that
//! can call C, and is certain about what it did.
//!
//! # Design
//!
//! One direction:
//!
//! ```text
//! ffi ──▶ client ──▶ engine        the C edge checks, the client schedules and retries
//!            │
//!            ├────▶ transport      one request out, one answer back, over kept connections
//!            ├────▶ answer         a pure function: (HTTP status, body) → what the API said
//!            ├────▶ retry          a pure function: what the attempts of a call amount to
//!            └────▶ account ─▶ session   before a deletion under a session policy
//! ```
//!
//! Everything is one path: a submission goes to the engine's one thread and leaves exactly one
//! result in its `completions`. A blocking call is a submission that is waited for, bulk is many
//! of them, a queue shows the results to an event loop.
//!
//! `unsafe` stands in two places: `ffi`, the edge to C, and `process`, the edge to the
//! operating system. What a fork does to a library with a thread and connections is told there.
#![deny(unsafe_code)]

mod account;
mod answer;
mod ask;
mod bulk;
mod call;
mod client;
mod completions;
mod endpoint;
mod engine;
mod failure;
#[allow(unsafe_code)]
pub mod ffi;
mod instances;
mod journal;
mod list;
mod options;
mod outcome;
mod pace;
mod panics;
#[allow(unsafe_code)]
mod process;
mod queue;
mod retry;
mod schedule;
mod secret;
mod session;
mod status;
mod submission;
mod sync;
mod transport;
mod waiter;
