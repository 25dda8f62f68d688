//! Simulates how a rod cools whose ends are kept cold: `simulation [PROCESSES] [CELLS] [STEPS]`.
//!
//! Each process has a strip of the rod. At each step, neighbours tell each other the cells at their common border, through
//! two queues; all processes compute the next state of their cells, and wait for each other at a barrier. At some of the
//! steps, the last process to arrive there puts the strips together and prints a line, before any process goes on.
//!
//! All values are whole numbers, so that the lines are the same with any number of processes.

mod rod;

use sandpool_guest::{Barrier, Error, Process, Queue, cpu_count, wait};

/// How many lines are printed after the first.
const LINES: u64 = 12;

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |what: &str, default: u64| match arguments.next() {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::other(format!(
                "usage: simulation [PROCESSES] [CELLS] [STEPS]: {what} is a number from 1 on"
            ))),
        },
    };
    let processes = usize::try_from(number("PROCESSES", cpu_count().max(2) as u64)?)?;
    let cells = usize::try_from(number("CELLS", 1024)?)?;
    let steps = number("STEPS", 20_000)?;

    let rod = rod::new(cells);
    println!("{}", rod::line(0, &rod));
    let strips: Vec<_> = rod.chunks(cells.div_ceil(processes)).collect();
    let world = World::new(strips.len(), steps)?;

    let workers = strips
        .into_iter()
        .enumerate()
        .map(|(number, strip)| {
            // Daemonic, so that they end with the main process should one of them fail.
            let worker = Process::builder().name(format!("strip-{}", number + 1)).daemon();
            worker.fork(|| world.simulate(number, strip.to_vec()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    supervise(workers)
}

/// Waits until all workers have ended. A worker that fails never comes to the barrier again, so the others wait in
/// vain.
fn supervise(mut workers: Vec<Process>) -> Result<(), Error> {
    while !workers.is_empty() {
        let sentinels: Vec<_> = workers.iter().map(Process::sentinel).collect();
        wait(&sentinels, None)?;
        for worker in &workers {
            if let Some(status) = worker.exit_status().filter(|status| !status.success()) {
                return Err(Error::other(format!("{} failed: {status}", worker.name())));
            }
        }
        workers.retain(|worker| worker.exit_status().is_none());
    }
    Ok(())
}

/// The objects that all processes share.
struct World {
    steps: u64,
    barrier: Barrier,
    /// The borders between each strip and the next one.
    borders: Vec<Border>,
    /// Strips by their number, for the process that prints a line.
    states: Queue<(usize, Vec<i64>)>,
}

/// The last cell of the one side, and the first cell of the other.
struct Border {
    rightwards: Queue<i64>,
    leftwards: Queue<i64>,
}

impl World {
    fn new(strips: usize, steps: u64) -> Result<Self, Error> {
        let border = |_| Ok(Border { rightwards: Queue::new()?, leftwards: Queue::new()? });
        Ok(Self {
            steps,
            barrier: Barrier::new(strips)?,
            borders: (1..strips).map(border).collect::<Result<_, Error>>()?,
            states: Queue::new()?,
        })
    }

    /// Simulates one strip until the end.
    fn simulate(&self, number: usize, mut strip: Vec<i64>) -> Result<(), Error> {
        let left = number.checked_sub(1).and_then(|border| self.borders.get(border));
        let right = self.borders.get(number);
        for step in 1..=self.steps {
            if let (Some(border), Some(cell)) = (left, strip.first()) {
                border.leftwards.put(cell)?;
            }
            if let (Some(border), Some(cell)) = (right, strip.last()) {
                border.rightwards.put(cell)?;
            }
            let before = left.map_or(Ok(rod::COLD), |border| border.rightwards.get())?;
            let after = right.map_or(Ok(rod::COLD), |border| border.leftwards.get())?;
            strip = rod::next(before, &strip, after);

            if step * LINES / self.steps > (step - 1) * LINES / self.steps {
                self.states.put(&(number, strip.clone()))?;
                self.barrier.wait_with(|| self.report(step))?;
            } else {
                self.barrier.wait()?;
            }
        }
        Ok(())
    }

    /// Prints a line. All strips are there, because all have arrived at the barrier.
    fn report(&self, step: u64) -> Result<(), Error> {
        let mut strips =
            (0..=self.borders.len()).map(|_| self.states.try_get()).collect::<Result<Vec<_>, _>>()?;
        strips.sort_unstable_by_key(|(number, _)| *number);
        let rod: Vec<_> = strips.into_iter().flat_map(|(_, strip)| strip).collect();
        println!("{}", rod::line(step, &rod));
        Ok(())
    }
}
