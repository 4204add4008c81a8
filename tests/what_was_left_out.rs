//! The last of the tests says what was left out: languages on purpose, and what this machine
//! cannot tell (most often for want of privileges).

mod support;

fn main() {
    match std::env::var("GREENAPI_TEST_WITHOUT") {
        Ok(left_out) if !left_out.trim().is_empty() => {
            println!("\nLEFT OUT, as GREENAPI_TEST_WITHOUT says: {left_out}\n");
        }
        _ => println!("\nEvery language was tested: Rust, C, C++, Python, Go.\n"),
    }
    for note in support::take_left_out() {
        println!("LEFT OUT, because this machine cannot: {}", note.trim());
    }
}
