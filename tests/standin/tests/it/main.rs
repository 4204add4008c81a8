//! The stand-in's own tests, on real sockets: a stand-in that is wrong makes every other test
//! wrong.

mod client;
mod control;
mod documented;
mod faults;
mod http2;
mod traps;
mod ways;
