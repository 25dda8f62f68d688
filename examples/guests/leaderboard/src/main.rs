//! `leaderboard [PLAYERS [GAMES]]`: players who are processes of their own play games, and keep one leaderboard.

use sandpool_guest::{Dict, Error, List, Manager, Process};
use serde::{Deserialize, Serialize};

/// The row of a player on the leaderboard.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Score {
    games: u64,
    points: u64,
    best: u64,
}

/// Deals points: a value of the program's own type, which lives in the manager's process.
struct Dealer {
    state: u64,
    dealt: u64,
}

#[sandpool_guest::managed]
impl Dealer {
    fn new(seed: u64) -> Self {
        Self { state: seed, dealt: 0 }
    }

    /// The points of the next game.
    fn deal(&mut self) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let points = self.state >> 57;
        self.dealt += points;
        points
    }

    /// All points that were dealt.
    fn dealt(&self) -> u64 {
        self.dealt
    }
}

fn play(
    name: &str,
    games: u64,
    dealer: &DealerProxy,
    scores: &Dict<String, Score>,
    leaders: &List<String>,
) -> Result<(), Error> {
    for _ in 0..games {
        let points = dealer.deal()?;
        // One step: no other player's change falls in between.
        scores.update(name, Score::default(), |score| {
            score.games += 1;
            score.points += points;
            score.best = score.best.max(points);
        })?;
    }
    // A player that is done adds a line, once.
    leaders.append(&name.to_owned())?;
    Ok(())
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<u64>());
    let players = arguments.next().transpose()?.unwrap_or(4);
    let games = arguments.next().transpose()?.unwrap_or(1000);

    let manager = Manager::builder().register::<Dealer>().start()?;
    let dealer = DealerProxy::new(&manager, 7)?;
    let scores = manager.dict::<String, Score>()?;
    let finished = manager.list::<String>()?;

    let processes = (1..=players)
        .map(|number| {
            let (dealer, scores, finished) = (&dealer, &scores, &finished);
            Process::fork(move || play(&format!("player {number}"), games, dealer, scores, finished))
        })
        .collect::<Result<Vec<_>, _>>()?;
    for process in &processes {
        process.join()?;
    }

    let mut board = scores.items()?;
    board.sort_by_key(|(name, score)| (std::cmp::Reverse(score.points), name.clone()));
    for (name, Score { games, points, best }) in &board {
        println!("{name}: {points} points in {games} games, {best} at best");
    }
    let all: u64 = board.iter().map(|(_, score)| score.points).sum();
    println!(
        "{} players are done, and {all} points of {} are on the board",
        finished.len()?,
        dealer.dealt()?
    );
    manager.shutdown()?;
    Ok(())
}
