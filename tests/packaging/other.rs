//! Another static library in Rust, which both.c links together with greenapi.

#[no_mangle]
pub extern "C" fn other_answer(number: i32) -> i32 {
    // Unwinding is where two copies of Rust's standard library would interfere.
    std::panic::catch_unwind(|| match number {
        0 => std::panic::resume_unwind(Box::new("zero")),
        number => number,
    })
    .unwrap_or(-1)
}
