//! Reports progress on stderr: a bar on a terminal, a few lines in a file.

use std::io::{IsTerminal, Write, stderr};

/// Characters of the bar.
const WIDTH: usize = 30;

pub(crate) struct Progress {
    total: usize,
    done: usize,
    shown: Option<usize>,
    /// Percent from one report to the next.
    step: usize,
    terminal: bool,
}

impl Progress {
    pub(crate) fn new(total: usize) -> Self {
        let terminal = stderr().is_terminal();
        let mut progress =
            Self { total, done: 0, shown: None, step: if terminal { 1 } else { 25 }, terminal };
        progress.advance(0);
        progress
    }

    /// Notes this number of further bytes.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.done += bytes;
        // The last step is left to `finish`: the workers still have what was handed out last.
        let percent = (self.done * 100).checked_div(self.total).unwrap_or(0).min(99);
        let reached = percent - percent % self.step;
        if self.shown.is_none_or(|shown| reached > shown) {
            self.show(reached);
        }
    }

    pub(crate) fn finish(mut self) {
        self.show(100);
        if self.terminal {
            let _ = stderr().write_all(b"\n");
        }
    }

    fn show(&mut self, percent: usize) {
        self.shown = Some(percent);
        let line = if self.terminal {
            let filled = percent * WIDTH / 100;
            format!("\rcounting [{}{}] {percent:>3} %", "#".repeat(filled), "-".repeat(WIDTH - filled))
        } else {
            format!("counting: {percent} %\n")
        };
        // Progress that nobody can see is no reason to fail.
        let _ = stderr().write_all(line.as_bytes());
    }
}
