use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Review {
    text: String,
    stars: u8,
}

#[derive(Serialize)]
struct Score {
    mood: i32,
}

/// How well the author likes it.
#[sandpool_guest::task]
fn score(review: Review) -> Result<Score, String> {
    if review.stars > 5 {
        return Err(format!("{} stars of 5", review.stars));
    }
    Ok(Score { mood: i32::from(review.stars) + review.text.matches('!').count() as i32 })
}

fn main() {}
