//! The journal: what a client did, told to the processes after it (docs/JOURNAL.md).

#![allow(dead_code)] // Until the client has it.

mod index;
mod record;
