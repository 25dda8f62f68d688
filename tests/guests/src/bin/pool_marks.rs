//! Each task that can be cancelled has a mark of its own, whatever becomes of the worker that has taken it.

use sandpool_guest::pool::futures::Executor;
use sandpool_guest::{Event, Pool};
use sandpool_test_guests::{Outcome, check, eventually, same};

const TASKS: u64 = 40;

fn wait_and_crash(go: Event) -> u64 {
    match go.wait() {
        Ok(()) => std::process::exit(9),
        Err(_) => 0,
    }
}

fn wait((go, n): (Event, u64)) -> u64 {
    go.wait().map_or(0, |()| n)
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let executor = Executor::build(Pool::builder().processes(1))?;
    for round in 0..3 {
        let (crash, go) = (Event::new()?, Event::new()?);
        let first = executor.submit(wait_and_crash, crash.clone())?;
        let others =
            (0..TASKS).map(|n| executor.submit(wait, (go.clone(), n))).collect::<Result<Vec<_>, _>>()?;
        eventually("it runs", || Ok(first.running()))?;
        crash.set()?;
        check("one breaks", first.result().is_err())?;
        // Tasks that its worker had taken are given out again, before others.
        eventually("the next runs", || Ok(others.first().is_some_and(|next| next.running())))?;
        let late =
            (0..2 * TASKS).map(|n| executor.submit(wait, (go.clone(), n))).collect::<Result<Vec<_>, _>>()?;
        check("no other runs", others.iter().skip(1).chain(&late).all(|future| !future.running()))?;
        // Those that wait can be cancelled, all of them, and no other is by that.
        check("all that wait are cancelled", late.iter().all(|future| future.cancel()))?;
        check("and no other", others.iter().all(|future| !future.cancelled()))?;
        go.set()?;
        let results = others.into_iter().map(|future| future.result()).collect::<Result<Vec<_>, _>>()?;
        same("whose results are theirs", results, (0..TASKS).collect())?;
        same("as many as were", executor.pool().stats().cancelled, 2 * TASKS * (round + 1))?;
    }
    Ok(())
}
