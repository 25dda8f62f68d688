//! A plugin that does everything that no plugin should do.

/// Never comes to an end.
#[sandpool_guest::task]
fn spin(text: String) -> String {
    loop {
        std::hint::black_box(&text);
    }
}

/// Takes all memory that it can get.
#[sandpool_guest::task]
fn hoard(text: String) -> String {
    let mut hoard = vec![text];
    loop {
        hoard.push(" ".repeat(1 << 20));
    }
}

/// Reads who has an account on this machine.
#[sandpool_guest::task]
fn peek(_text: String) -> Result<String, &'static str> {
    std::fs::read_to_string("/etc/passwd").map_err(|_| "there is no /etc/passwd here")
}

/// Makes the text a hundred thousand times as long.
#[sandpool_guest::task]
fn flood(text: String) -> String {
    text.repeat(100_000)
}

/// Panics.
#[sandpool_guest::task]
fn crash(text: String) -> String {
    panic!("{} bytes are too many for me", text.len())
}

fn main() {}
