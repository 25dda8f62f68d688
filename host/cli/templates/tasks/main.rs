//! Tasks. `sandpool map` calls a task with each record of a file; an application calls tasks through a pool.

use serde::{Deserialize, Serialize};

/// How many words a line has.
#[sandpool_guest::task]
fn words(line: String) -> usize {
    line.split_whitespace().count()
}

#[derive(Deserialize)]
struct Review {
    text: String,
    stars: u8,
}

#[derive(Serialize)]
struct Score {
    mood: i32,
}

/// How well the author of a review likes the thing. An error fails this review and no other.
#[sandpool_guest::task]
fn score(review: Review) -> Result<Score, String> {
    if review.stars > 5 {
        return Err(format!("{} stars of 5", review.stars));
    }
    Ok(Score {
        mood: i32::from(review.stars) + review.text.matches('!').count() as i32,
    })
}

fn main() {}
