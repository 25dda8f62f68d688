//! Finds chapters of a text that tell the same story: `parallels FILE [PROCESSES]`.
//!
//! Each worker of a pool reads the text once, in its initializer. A task is a chapter: which of the chapters before it
//! is most like it? The answers are printed as they are found.

use std::cell::OnceCell;
use std::collections::HashMap;

use sandpool_guest::{Error, Pool, cpu_count};

/// The number of pairs that are printed.
const SHOWN: usize = 8;

thread_local! {
    /// The chapters, in each worker.
    static CHAPTERS: OnceCell<Vec<Chapter>> = const { OnceCell::new() };
}

/// A chapter as a direction in a space that has a dimension for each word.
struct Chapter {
    title: String,
    /// Numbers of words, in their order, with the weight of each.
    words: Vec<(u32, f64)>,
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or_else(|| Error::other("usage: parallels FILE [PROCESSES]"))?;
    let processes = arguments.next().map_or(Ok(cpu_count()), |text| text.parse())?;

    let count = titles(&std::fs::read_to_string(&path)?).count();
    let pool = Pool::builder().processes(processes).initializer(load, path).build()?;
    let mut pairs = Vec::new();
    for pair in pool.imap_unordered(nearest_before, 1..count)? {
        pairs.extend(pair?);
    }
    pool.close();
    pool.join()?;

    pairs.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    for (likeness, one, other) in pairs.iter().take(SHOWN) {
        println!("{:5.1} %  {other} and {one}", likeness * 100.0);
    }
    println!("{count} chapters compared");
    Ok(())
}

/// Reads the text: the initializer of each worker.
fn load(path: String) -> Result<(), std::io::Error> {
    let chapters = chapters(&std::fs::read_to_string(path)?);
    // `load` is called once in each worker.
    CHAPTERS.with(|all| drop(all.set(chapters)));
    Ok(())
}

/// Returns the earlier chapter that is most like this one: the likeness, and the titles of both.
fn nearest_before(index: usize) -> Option<(f64, String, String)> {
    CHAPTERS.with(|all| {
        let (before, chapter) =
            all.get()?.get(..=index)?.split_last().map(|(last, before)| (before, last))?;
        let likeness = before.iter().map(|other| (cosine(&chapter.words, &other.words), other));
        let (likeness, other) = likeness.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        Some((likeness, chapter.title.clone(), other.title.clone()))
    })
}

/// A line such as `1 Samuel 17` begins a chapter.
fn titles(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| is_title(line))
}

fn is_title(line: &str) -> bool {
    let begins = line.starts_with(|first: char| first.is_ascii_uppercase() || first.is_ascii_digit());
    begins
        && line.rsplit_once(' ').is_some_and(|(_, number)| number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Cuts the text into chapters. A word has the more weight, the fewer chapters have it.
fn chapters(text: &str) -> Vec<Chapter> {
    let mut numbers = HashMap::<&str, u32>::new();
    let mut counts = Vec::<(String, HashMap<u32, f64>)>::new();
    for line in text.lines() {
        if is_title(line) {
            counts.push((line.to_owned(), HashMap::new()));
        } else if let Some((_, chapter)) = counts.last_mut() {
            for word in
                line.split(|letter: char| !letter.is_ascii_alphabetic()).filter(|word| !word.is_empty())
            {
                let next = numbers.len() as u32;
                *chapter.entry(*numbers.entry(word).or_insert(next)).or_default() += 1.0;
            }
        }
    }
    let mut having = vec![0.0_f64; numbers.len()];
    counts.iter().flat_map(|(_, words)| words.keys()).for_each(|word| having[*word as usize] += 1.0);
    let all = counts.len() as f64;
    let weighted = counts.into_iter().map(|(title, words)| {
        let mut words: Vec<_> = words
            .into_iter()
            .map(|(word, count)| (word, count * (all / having[word as usize]).ln()))
            .collect();
        words.sort_unstable_by_key(|(word, _)| *word);
        let length =
            words.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        words.iter_mut().for_each(|(_, weight)| *weight /= length);
        Chapter { title, words }
    });
    weighted.collect()
}

/// The likeness of two directions: 0 if no word is in both, 1 if all are, as often.
fn cosine(one: &[(u32, f64)], other: &[(u32, f64)]) -> f64 {
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    let mut sum = 0.0;
    while let (Some((a, x)), Some((b, y))) = (left.peek(), right.peek()) {
        if a == b {
            sum += x * y;
        }
        if a <= b {
            left.next();
        }
        if b <= a {
            right.next();
        }
    }
    sum
}
