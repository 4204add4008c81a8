//! The tests of the stand-in itself, on real sockets. If the stand-in is wrong, the tests of the
//! library prove nothing.

mod client;
mod control;
mod documented;
mod faults;
mod http2;
mod traps;
mod ways;
