//! A plugin that makes plain text look printed.

/// Straight quotation marks become curly ones.
#[sandpool_guest::task]
fn quotes(text: String) -> String {
    let mut printed = String::with_capacity(text.len());
    let mut before = ' ';
    for c in text.chars() {
        let opens = before.is_whitespace() || "([—–".contains(before);
        printed.push(match c {
            '"' if opens => '“',
            '"' => '”',
            '\'' if opens => '‘',
            '\'' => '’',
            other => other,
        });
        before = c;
    }
    printed
}

/// Two hyphens become a dash, and three dots an ellipsis.
#[sandpool_guest::task]
fn dashes(text: String) -> String {
    text.replace("--", "—").replace("...", "…")
}

fn main() {}
