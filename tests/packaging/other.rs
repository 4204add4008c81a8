//! Another static library in Rust, for a program that links both.

#[no_mangle]
pub extern "C" fn other_answer(number: i32) -> i32 {
    // It unwinds, because that is where two copies of Rust's standard library would meet.
    std::panic::catch_unwind(|| match number {
        0 => std::panic::resume_unwind(Box::new("zero")),
        number => number,
    })
    .unwrap_or(-1)
}
