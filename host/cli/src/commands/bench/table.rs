//! Figures as a table that a person reads.

use std::fmt::Write as _;

use super::Measured;
use super::figures::{Goal, Verdict, number};
use super::keys::Bench;
use super::machine::Machine;
use crate::text;

/// Lists what can be measured.
pub(super) fn list(benches: &[&Bench]) -> String {
    let rows = benches
        .iter()
        .map(|bench| [bench.key.to_owned(), bench.unit.to_owned(), goal(bench.goal), bench.work.to_owned()]);
    text::columns("", &rows.collect::<Vec<_>>())
}

const HEAD: [&str; 6] = ["figure", "median", "spread", "unit", "goal", ""];

pub(super) fn plain(measured: &[Measured], machine: &Machine, rounds: usize) -> String {
    let head = HEAD.map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(measured.iter().map(row)).collect();
    format!(
        "{}\n{}\n\n{}{}",
        machine.describe(),
        machine.method(rounds),
        text::columns("", &rows),
        remarks(measured)
    )
}

pub(super) fn markdown(measured: &[Measured], machine: &Machine, rounds: usize) -> String {
    let line = |cells: [String; 6]| format!("| {} |\n", cells.join(" | "));
    let mut out = format!("{}; {}.\n\n", machine.describe(), machine.method(rounds));
    out.push_str(&line(HEAD.map(str::to_owned)));
    out.push_str("| --- | ---: | ---: | --- | --- | --- |\n");
    out.extend(measured.iter().map(|measured| {
        let mut cells = row(measured);
        if let Some(key) = cells.first_mut() {
            *key = format!("`{key}`");
        }
        line(cells)
    }));
    out.push_str(&remarks(measured));
    out
}

fn row((bench, figures): &Measured) -> [String; 6] {
    let verdict = match bench.goal.verdict(figures) {
        Verdict::Reached => "reached",
        Verdict::Missed => "MISSED",
        Verdict::Unknown => "?",
    };
    [
        bench.key.to_owned(),
        number(figures.median()),
        format!("{} – {}", number(figures.least()), number(figures.greatest())),
        bench.unit.to_owned(),
        goal(bench.goal),
        verdict.to_owned(),
    ]
}

fn goal(goal: Goal) -> String {
    match goal {
        Goal::AtMost(most) => format!("≤ {most}"),
        Goal::AtLeast(least) => format!("≥ {least}"),
        Goal::TimesFloor(times) => format!("≤ {times} × floor"),
        Goal::TimesReference(times) => format!("≥ {times} × private"),
    }
}

fn remarks(measured: &[Measured]) -> String {
    let mut out = String::new();
    // Writing to a string can't fail.
    for (bench, figures) in measured {
        if let Some(remark) = &figures.remark {
            let _ = write!(out, "\n{}: {remark}", bench.key);
        }
    }
    if measured.iter().any(|(bench, _)| matches!(bench.goal, Goal::TimesFloor(_))) {
        out.push_str("\n× floor: of a bare fork and wait, which `tests/peers/run` measures beside");
    }
    if out.is_empty() { out } else { out + "\n" }
}
