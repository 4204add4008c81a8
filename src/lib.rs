//! greenapi deletes instances of a GREEN-API partner account, for programs in any language that
//! can call C, and is certain about what it did.
//!
//! # Design
//!
//! One direction:
//!
//! ```text
//! ffi ─▶ bulk, queue, list ─▶ client ─▶ engine      the C edge converts, the client starts calls
//!                                │
//!                                ├────▶ transport   one request out, one response back
//!                                ├────▶ answer      pure: (HTTP status, body) → what the API said
//!                                ├────▶ retry       pure: what the attempts of a call amount to
//!                                ├────▶ account     before a deletion under a session policy
//!                                └────▶ journal     what was done, for the processes after this one
//! ```
//!
//! Everything is one path: a submission goes to the engine's one thread and leaves exactly one
//! result. A blocking call is a submission that is waited for, bulk is many of them, a queue shows
//! the results to an event loop.
//!
//! docs/ARCHITECTURE.md lists every module from the top down; each uses only what stands below it.
//! `unsafe` stands at the edges only: to C and to the operating system.
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
#[allow(unsafe_code)]
mod memory;
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
mod threads;
mod transport;
mod waiter;
