//! Runs after all other tests and prints what was not tested: languages that were left out on
//! purpose, and tests that this machine cannot run (mostly for lack of privileges).

mod support;

fn main() {
    match std::env::var("GREENAPI_TEST_WITHOUT") {
        Ok(left_out) if !left_out.trim().is_empty() => {
            println!("\nLEFT OUT by GREENAPI_TEST_WITHOUT: {left_out}\n");
        }
        _ => println!("\nEvery language was tested: Rust, C, C++, Python, Go.\n"),
    }
    for note in support::take_left_out() {
        println!(
            "LEFT OUT because this machine cannot run it: {}",
            note.trim()
        );
    }
}
