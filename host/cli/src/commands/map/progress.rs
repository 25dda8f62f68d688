//! The progress of a map, for a person who watches: a bar on a terminal, and lines elsewhere.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::text;

/// Whether progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Choice {
    /// A terminal
    Auto,
    /// A terminal, and whoever else reads stderr: a line each second
    Always,
    /// Nobody
    Never,
}

/// How often a bar is drawn, and how often a line is written.
const BAR_TIME: Duration = Duration::from_millis(100);
const LINE_TIME: Duration = Duration::from_secs(1);

/// Figures of a map that is under way.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Records that are done since this command began.
    pub(super) records: u64,
    /// Records among these that have failed.
    pub(super) failed: u64,
    /// The part of the input that is done, from 0 to 1, and the part that was done already when this command began; `None` if the
    /// size of the input isn't known.
    pub(super) part: Option<(f64, f64)>,
}

/// Shows progress.
pub(super) struct Progress {
    display: Display,
    began: Instant,
    shown: Instant,
}

enum Display {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

impl Progress {
    pub(super) fn new(choice: Choice) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let display = match choice {
            Choice::Auto | Choice::Always if is_terminal => Display::Bar(bar()),
            Choice::Always => Display::Lines,
            Choice::Auto | Choice::Never => Display::Nothing,
        };
        let now = Instant::now();
        Self { display, began: now, shown: now }
    }

    /// Time since the progress began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Shows figures, unless others were shown a moment ago.
    pub(super) fn show(&mut self, figures: Figures) {
        let now = Instant::now();
        let pause = if matches!(self.display, Display::Bar(_)) { BAR_TIME } else { LINE_TIME };
        if now - self.shown < pause {
            return;
        }
        self.shown = now;
        let line = line(figures, self.elapsed());
        match &self.display {
            Display::Bar(bar) => {
                // If the size of the input isn't known, the bar stays empty.
                bar.set_position((figures.part.map_or(0.0, |(part, _)| part) * BAR_LEN as f64) as u64);
                bar.set_message(line);
            }
            Display::Lines => text::note(&line),
            Display::Nothing => {}
        }
    }

    /// Writes a line to stderr, above the bar if there is one.
    pub(super) fn note(&self, line: &str) {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| text::note(line)),
            Display::Lines | Display::Nothing => text::note(line),
        }
    }

    /// Writes a line that isn't just for people, and fails if it can't be written.
    pub(super) fn record(&self, line: &str) -> io::Result<()> {
        match &self.display {
            Display::Bar(bar) => bar.suspend(|| text::error_line(line)),
            Display::Lines | Display::Nothing => text::error_line(line),
        }
    }

    /// Ends the display.
    pub(super) fn end(&self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

const BAR_LEN: u64 = 1000;

fn bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(BAR_LEN), ProgressDrawTarget::stderr());
    // An invalid template keeps the default.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// `45 %, 12345 records, 1234/s, 3 failed, 10 s left`
fn line(figures: Figures, elapsed: Duration) -> String {
    let Figures { records, failed, part } = figures;
    let mut line = String::new();
    // Writing to a string can't fail.
    if let Some((part, _)) = part {
        let _ = write!(line, "{:.0} %, ", part * 100.0);
    }
    let _ = write!(line, "{}, {}/s", counted(records), rate(records, elapsed));
    if failed > 0 {
        let _ = write!(line, ", {failed} failed");
    }
    if let Some((part, before)) = part
        && part > before
    {
        let left = elapsed.as_secs_f64() * (1.0 - part) / (part - before);
        let _ = write!(line, ", {} left", clock(left));
    }
    line
}

/// `1 record`, `2 records`
pub(super) fn counted(records: u64) -> String {
    format!("{records} {}", if records == 1 { "record" } else { "records" })
}

/// Records in a second.
pub(super) fn rate(records: u64, elapsed: Duration) -> String {
    let rate = records as f64 / elapsed.as_secs_f64().max(1e-3);
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// `59 s`, `1:05 min`, `2:03 h`
fn clock(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_how_fast_and_how_long_yet() {
        let shown = |records, failed, part| line(Figures { records, failed, part }, Duration::from_secs(10));
        assert_eq!(shown(0, 0, None), "0 records, 0.0/s");
        assert_eq!(shown(1, 0, Some((0.0, 0.0))), "0 %, 1 record, 0.1/s");
        assert_eq!(shown(1, 1, None), "1 record, 0.1/s, 1 failed");
        assert_eq!(shown(1000, 3, Some((0.25, 0.0))), "25 %, 1000 records, 100/s, 3 failed, 30 s left");
        assert_eq!(shown(1000, 0, Some((0.75, 0.5))), "75 %, 1000 records, 100/s, 10 s left");
        assert_eq!((clock(65.4), clock(7400.0)), ("1:05 min".to_owned(), "2:03 h".to_owned()));
    }
}
