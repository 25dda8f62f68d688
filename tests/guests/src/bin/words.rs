//! The module of the examples in the README and the guides.

/// How many words a line has.
#[sandpool_guest::task]
fn words(line: String) -> usize {
    line.split_whitespace().count()
}

fn main() {}
