//! Traps three functions deep, in the main process or in a child: `trap_backtrace [main|child|panic]`.

use sandpool_guest::Process;
use sandpool_test_guests::{Outcome, argument};

#[sandpool_guest::main]
fn main() -> Outcome {
    let place: String = argument(0, "main".to_owned());
    match place.as_str() {
        "child" => {
            let status = Process::fork(outermost_function)?.join()?;
            println!("child: {status}");
        }
        "panic" => panic!("on purpose"),
        _ => outermost_function(),
    }
    Ok(())
}

#[inline(never)]
fn outermost_function() {
    middle_function(std::hint::black_box(3));
    // After the call, so that it is no tail call, which would leave no frame.
    println!("not reached");
}

#[inline(never)]
fn middle_function(depth: u32) {
    innermost_function(depth);
    println!("not reached either");
}

#[inline(never)]
fn innermost_function(depth: u32) {
    if std::hint::black_box(depth) > 0 {
        std::process::abort();
    }
}
