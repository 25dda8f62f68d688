//! A plugin that removes text that not everybody should read.

/// Addresses of electronic mail become `[address]`.
#[sandpool_guest::task]
fn mask_addresses(text: String) -> String {
    let is_address =
        |word: &str| word.split_once('@').is_some_and(|(who, host)| !who.is_empty() && host.contains('.'));
    mask(&text, "[address]", |c| c.is_alphanumeric() || "@.+-_".contains(c), is_address)
}

/// Numbers of five digits or more become `[number]`.
#[sandpool_guest::task]
fn mask_numbers(text: String) -> String {
    mask(&text, "[number]", |c| c.is_ascii_digit(), |word| word.len() >= 5)
}

/// Puts `instead` in place of each run of certain characters that looks like text to remove.
fn mask(
    text: &str,
    instead: &str,
    is_part: impl Fn(char) -> bool,
    is_to_go: impl Fn(&str) -> bool,
) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = is_part(first);
        let (run, behind) = rest.split_at(rest.find(|c| is_part(c) != is_word).unwrap_or(rest.len()));
        // A full stop ends the sentence, not the word.
        let word = run.trim_end_matches('.');
        if is_word && is_to_go(word) {
            masked.push_str(instead);
            masked.push_str(run.get(word.len()..).unwrap_or_default());
        } else {
            masked.push_str(run);
        }
        rest = behind;
    }
    masked
}

fn main() {}
