//! greenapi deletes instances of a GREEN-API partner account, for programs in any language that
//! can call C, and is certain about what it did: each result states whether the instance was
//! deleted, was not, or may have been.
//!
//! # Design
//!
//! Dependencies go in one direction only:
//!
//! ```text
//! ffi ─▶ bulk, queue, list ─▶ client ─▶ engine      the C boundary converts, the client starts calls
//!                                │
//!                                ├────▶ transport   one request out, one response back
//!                                ├────▶ answer      pure: (HTTP status, body) → a verdict
//!                                ├────▶ retry       pure: the attempts of a call → its outcome
//!                                ├────▶ account     what a session policy asks before a deletion
//!                                └────▶ journal     a record of deletions for later processes
//! ```
//!
//! All calls take the same path: a submission goes to the engine's one thread and produces exactly
//! one result. A blocking call is a submission whose caller waits for the result, a bulk call is
//! many such submissions, and a queue lets an event loop take the results.
//!
//! docs/ARCHITECTURE.md lists every module from the top down; a module uses only modules below it.
//! `unsafe` is allowed only where the library meets C and the operating system.
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
mod json;
mod list;
#[allow(unsafe_code)]
mod memory;
mod options;
mod outcome;
mod pace;
mod panics;
mod pieces;
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
