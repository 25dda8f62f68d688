//! A task that judges how hard a text is to read.

use serde::Serialize;

/// A text of fewer words can't be judged.
const WORDS_MIN: usize = 3;

/// The facts about a text.
#[derive(Serialize)]
struct Reading {
    /// the year of school in which children read such a text with ease
    grade: f64,
    words: u32,
}

/// The school grade of a text, by the formula of Flesch and Kincaid. A text of one or two words has none.
#[sandpool_guest::task]
fn readability(text: String) -> Result<Reading, String> {
    let words: Vec<_> =
        text.split(|c: char| !c.is_alphabetic() && c != '\'').filter(|w| !w.is_empty()).collect();
    if words.len() < WORDS_MIN {
        return Err(format!("{} words are too few to judge", words.len()));
    }
    let sentences = text.matches(['.', '?', '!']).count().max(1);
    let syllables: usize = words.iter().map(|word| syllables(word)).sum();
    let per_sentence = words.len() as f64 / sentences as f64;
    let per_word = syllables as f64 / words.len() as f64;
    Ok(Reading { grade: 0.39 * per_sentence + 11.8 * per_word - 15.59, words: words.len() as u32 })
}

/// About how many syllables a word has: its groups of vowels, without an `e` at the end that is silent.
fn syllables(word: &str) -> usize {
    let word = word.to_lowercase();
    let is_vowel = |c: char| "aeiouy".contains(c);
    let groups = word.split(|c| !is_vowel(c)).filter(|group| !group.is_empty()).count();
    let is_silent = word.ends_with('e') && !word.ends_with("le") && groups > 1;
    (groups - usize::from(is_silent)).max(1)
}

fn main() {}
