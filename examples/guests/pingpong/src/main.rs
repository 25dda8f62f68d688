//! Measures how fast two processes answer each other through a pipe: `pingpong [ROUNDS] [BYTES]`.

use std::time::Instant;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::{Error, Pipe, Process};

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let rounds = argument(1, "ROUNDS", 100_000)?;
    let bytes = argument(2, "BYTES", 8)?;

    let (here, there) = Pipe::duplex()?;
    let player = Process::builder().name("pong").fork(|| -> Result<(), Error> {
        let mut ball = vec![0; bytes];
        loop {
            match there.recv_bytes_into(&mut ball) {
                Ok(len) => there.send_bytes(ball.get(..len).unwrap_or_default())?,
                Err(RecvError::Eof) => return Ok(()),
                Err(other) => return Err(other.into()),
            }
        }
    })?;
    // Closes this process's copy: the only other copy is the other player's, so that the end of that player is
    // noticed here.
    there.close();

    let mut ball = vec![7; bytes];
    let begin = Instant::now();
    for round in 0..rounds {
        here.send_bytes(&ball)?;
        if here.recv_bytes_into(&mut ball)? != bytes {
            return Err(Error::other(format!("the ball of round {round} came back damaged")));
        }
    }
    let elapsed = begin.elapsed().as_secs_f64();
    here.close();
    let status = player.join()?;
    if !status.success() {
        return Err(Error::other(format!("{} failed: {status}", player.name())));
    }
    println!("{:.0} round trips per second", rounds as f64 / elapsed);
    println!("{rounds} rounds with {bytes} bytes each way, {:.2} µs each", elapsed * 1e6 / rounds as f64);
    Ok(())
}

/// A positive number from the command line.
fn argument(index: usize, name: &str, default: usize) -> Result<usize, Error> {
    match std::env::args().nth(index) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::other(format!("{name} is a number from 1 on, not {text}"))),
        },
    }
}
