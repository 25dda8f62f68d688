//! `sandpool bench`: how fast Sandpool is on this machine.
//!
//! ```text
//!  keys     what is measured, how, and what it has to reach; scaling: what costs grow with
//!    │
//!  lab      runs the guest `host/benches/guests`, which measures itself; pools, which are measured here
//!    │
//!  figures  the rounds of one measurement: median, spread, verdict
//!    │
//!  table, scaling, chart, machine   what a person reads
//! ```

mod chart;
mod figures;
mod keys;
mod lab;
mod machine;
mod scaling;
mod sha256;
mod table;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sandpool::Error;

use self::figures::Figures;
use self::keys::{BENCHES, Bench};
use self::lab::Lab;
use self::machine::Watch;
use self::scaling::CURVES;
use crate::exit_code::ExitCode;
use crate::{output, text};

const EXAMPLES: &str = "\
Examples:
  sandpool bench
      Measures everything, in about a minute, and prints a table

  sandpool bench --quick --filter queue --filter pipe
      Measures only works with one of these texts in their names; fewer rounds, and coarser

  sandpool bench --json > figures.json
      Prints one flat object: the name of each figure and its median

  sandpool bench --scaling --svg growth.svg
      Measures how costs grow, with processes, producers, sizes, workers and objects; prints a table, and draws a chart

  sandpool bench --list
      Lists the works, their units and their goals";

/// Measure how fast Sandpool is on this machine.
///
/// Needs a checkout of Sandpool, whose guest for measurements is compiled first if need be. Each figure is the median
/// of several rounds, after one that doesn't count. Other work of the machine changes the figures; the report says how
/// much there was.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    /// Print one flat JSON object with names and medians
    #[arg(long, conflicts_with = "markdown")]
    json: bool,

    /// Print the table in Markdown
    #[arg(long)]
    markdown: bool,

    /// Measure only works with this text in their names; may be given more than once
    #[arg(long, value_name = "NAME")]
    filter: Vec<String>,

    /// Measure roughly: fewer rounds, with a tenth of the work
    #[arg(long)]
    quick: bool,

    /// Number of rounds, after one to warm up [default: 7, or 3 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,

    /// Measure how costs grow, instead of single figures
    #[arg(long, conflicts_with = "markdown")]
    scaling: bool,

    /// Draw a chart of how costs grow as well
    #[arg(long, value_name = "FILE", requires = "scaling")]
    svg: Option<PathBuf>,

    /// List the works, and measure nothing
    #[arg(long)]
    list: bool,

    /// Crate or module of the guest to measure, outside of a checkout of Sandpool
    #[arg(long, value_name = "MODULE|CRATE_DIR")]
    guests: Option<PathBuf>,
}

pub(crate) fn run(args: BenchArgs) -> anyhow::Result<u8> {
    if args.scaling { scaling(&args) } else { bench(&args) }
}

fn bench(args: &BenchArgs) -> anyhow::Result<u8> {
    let chosen = chosen(BENCHES, |bench| bench.key, &args.filter)?;
    if args.list {
        text::print(&table::list(&chosen))?;
        return Ok(ExitCode::Success.code());
    }
    let (lab, progress) = start(args, chosen.len())?;
    let mut watch = Watch::start();
    let mut measured = Vec::new();
    for bench in chosen {
        progress.next(bench.key);
        watch.look();
        measured.push((bench, (bench.measure)(&lab)?));
    }
    progress.bar.finish_and_clear();
    let machine = watch.finish();
    let shown = if args.json {
        figures::json(measured.iter().map(|(bench, figures)| (bench.key.to_owned(), figures.median())))
    } else if args.markdown {
        table::markdown(&measured, &machine, lab.rounds())
    } else {
        table::plain(&measured, &machine, lab.rounds())
    };
    text::print(&shown)?;
    Ok(ExitCode::Success.code())
}

fn scaling(args: &BenchArgs) -> anyhow::Result<u8> {
    let chosen = chosen(CURVES, |curve| curve.key, &args.filter)?;
    if args.list {
        text::print(&scaling::list(&chosen))?;
        return Ok(ExitCode::Success.code());
    }
    let (lab, progress) = start(args, chosen.iter().map(|curve| (curve.points)().len()).sum())?;
    let mut watch = Watch::start();
    let mut measured = Vec::new();
    for curve in chosen {
        let mut points = Vec::new();
        for point in (curve.points)() {
            progress.next(&format!("{}, {}: {}", curve.key, curve.grows, (curve.label)(point)));
            let before = watch.look();
            let figures = (curve.measure)(&lab, point)?;
            // The processors may have been moved meanwhile.
            let apart = before.zip(watch.look()).filter(|_| curve.unit != "KiB");
            points.push((
                point,
                match apart {
                    None => figures,
                    Some((before, after)) => {
                        let most = figures::number(before.max(after));
                        figures.with_remark(format!("processors {most} ns apart"))
                    }
                },
            ));
        }
        measured.push((curve, points));
    }
    progress.bar.finish_and_clear();
    let machine = watch.finish();
    let shown = if args.json {
        figures::json(scaling::flat(&measured))
    } else {
        scaling::plain(&measured, &machine, lab.rounds())
    };
    text::print(&shown)?;
    if let Some(path) = &args.svg {
        let drawn = chart::draw(&measured, &machine);
        output::write(path, drawn.as_bytes())?;
    }
    Ok(ExitCode::Success.code())
}

fn start(args: &BenchArgs, steps: usize) -> anyhow::Result<(Lab, Progress)> {
    let progress = Progress::new(steps);
    let rounds = args.rounds.map_or(if args.quick { 3 } else { 7 }, usize::from);
    Ok((Lab::new(args.guests.as_deref(), rounds, args.quick, &progress.bar)?, progress))
}

/// The figures that were measured.
type Measured = (&'static Bench, Figures);

/// Applies the filters: keeps everything that has a filter in its name, unless the filter is the whole name of one.
fn chosen<T>(all: &'static [T], key: fn(&T) -> &str, filters: &[String]) -> anyhow::Result<Vec<&'static T>> {
    let is_named = |filter: &String, one: &T| {
        if all.iter().any(|one| key(one) == filter) {
            key(one) == filter
        } else {
            key(one).contains(filter.as_str())
        }
    };
    for filter in filters {
        if !all.iter().any(|one| is_named(filter, one)) {
            return Err(unknown(filter, all.iter().map(key)).into());
        }
    }
    let is_chosen = |one: &&T| filters.is_empty() || filters.iter().any(|filter| is_named(filter, one));
    Ok(all.iter().filter(is_chosen).collect())
}

/// The error for a filter that matches nothing, with the nearest names.
fn unknown<'a>(filter: &str, names: impl Iterator<Item = &'a str>) -> Error {
    let likeness = |name: &str| strsim::jaro_winkler(name, filter);
    let nearest = names.max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default();
    Error::Invalid {
        what: format!("nothing that is measured has {} in its name", filter),
        hint: Some(format!("the nearest is {nearest}; --list shows all")),
    }
}

/// Shows at a terminal which figure is being measured.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new(steps: usize) -> Self {
        let target = if io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
        // An invalid template keeps the default.
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos} of {len}: {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Self { bar }
    }

    fn next(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.inc(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn keys(filters: &[&str]) -> Vec<&'static str> {
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        chosen(BENCHES, |bench| bench.key, &filters).unwrap().iter().map(|bench| bench.key).collect()
    }

    #[test]
    fn filters_are_parts_of_names_or_whole_ones() {
        assert_eq!(keys(&[]).len(), BENCHES.len());
        assert_eq!(keys(&["lock"]), ["lock_uncontended_ns", "lock_contended2_ns"]);
        assert_eq!(keys(&["pipe", "value"]), ["pipe_rtt_us", "value_inc_contended2_ns"]);
        assert_eq!(keys(&["pool_map_chunk1_us_per_task"]), ["pool_map_chunk1_us_per_task"]);
    }

    #[test]
    fn an_unknown_name_is_told_the_nearest() {
        let error = chosen(BENCHES, |bench| bench.key, &["qeue_small".to_owned()]).map(|_| ()).unwrap_err();
        let error = error.downcast::<Error>().unwrap();
        assert!(error.hint().unwrap().contains("queue_small_us_per_msg"), "{error:?}");
    }
}
