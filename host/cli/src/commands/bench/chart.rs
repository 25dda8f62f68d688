//! Curves as a chart, in SVG. Each has a panel, with both axes logarithmic, so that a constant cost is a flat line, and a linear
//! one rises as much as it goes to the right.

use std::fmt::Write as _;

use super::figures::{Figures, number};
use super::machine::Machine;
use super::scaling::Measured;

const COLUMNS: usize = 2;
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 250.0;
const TOP: f64 = 70.0;
/// The part of a panel that its curve occupies.
const LEFT: f64 = 84.0;
const RIGHT: f64 = WIDTH - 40.0;
const UPPER: f64 = 64.0;
const LOWER: f64 = HEIGHT - 46.0;

pub(super) fn draw(measured: &[Measured], machine: &Machine) -> String {
    let rows = measured.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, TOP + HEIGHT * rows as f64);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"Helvetica, Arial, sans-serif\" font-size=\"11\" fill=\"#111111\">\n\
         <title>How costs grow</title>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"30\" font-size=\"18\" font-weight=\"bold\">How costs grow</text>\n\
         <text x=\"20\" y=\"50\" fill=\"#444444\">{}; both axes logarithmic; medians, and the spread of their rounds</text>\n",
        escaped(&machine.describe())
    );
    for (index, (curve, points)) in measured.iter().enumerate() {
        let (x, y) = ((index % COLUMNS) as f64 * WIDTH, TOP + (index / COLUMNS) as f64 * HEIGHT);
        // Writing to a string can't fail.
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
        let _ = writeln!(
            out,
            "<text x=\"20\" y=\"16\" font-size=\"13\" font-weight=\"bold\">{} ({})</text>\n\
             <text x=\"20\" y=\"32\" fill=\"#444444\">{}</text>\n\
             <text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#444444\">{}</text>",
            escaped(curve.key),
            curve.unit,
            escaped(curve.work),
            (LEFT + RIGHT) / 2.0,
            LOWER + 34.0,
            escaped(curve.grows)
        );
        let labels: Vec<_> = points.iter().map(|(point, _)| (curve.label)(*point)).collect();
        panel(&mut out, points, &labels);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn panel(out: &mut String, points: &[(u64, Figures)], labels: &[String]) {
    // The axis covers at least a decade, so that noise looks like noise.
    let all = |figures: &Figures| figures.reference.map_or(figures.least(), |to| to.min(figures.least()));
    let least = points.iter().map(|(_, figures)| all(figures)).fold(f64::INFINITY, f64::min).log10();
    let greatest = points.iter().map(|(_, figures)| figures.greatest()).fold(0.0, f64::max).log10();
    let margin = ((1.4 - (greatest - least)) / 2.0).max(0.2);
    let (low, high) = (least - margin, greatest + margin);
    let y = |value: f64| LOWER - (value.log10() - low) / (high - low) * (LOWER - UPPER);
    // A point may be 0.
    let at = |point: u64| (point.max(1) as f64).log10();
    let (first, last) =
        (points.first().map_or(0.0, |one| at(one.0)), points.last().map_or(1.0, |one| at(one.0)));
    let is_narrow = points.iter().any(|(point, _)| *point == 0);
    let x = |index: usize, point: u64| {
        let part = if is_narrow || last <= first {
            index as f64 / (points.len().max(2) - 1) as f64
        } else {
            (at(point) - first) / (last - first)
        };
        LEFT + part * (RIGHT - LEFT)
    };

    let (left, right) = (LEFT - 20.0, RIGHT + 20.0);
    for power in (low.ceil() as i32)..=(high.floor() as i32) {
        let value = 10_f64.powi(power);
        let here = y(value);
        let label = if power >= 0 {
            format!("{value:.0}")
        } else {
            format!("{value:.*}", power.unsigned_abs() as usize)
        };
        let _ = writeln!(
            out,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{here:.1}\" y2=\"{here:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#444444\">{label}</text>",
            left - 4.0,
            here + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<line x1=\"{left}\" x2=\"{right}\" y1=\"{LOWER}\" y2=\"{LOWER}\" stroke=\"#111111\"/>"
    );
    let line = |what: fn(&Figures) -> Option<f64>| -> String {
        let values = points.iter().enumerate().filter_map(|(index, (point, figures))| {
            what(figures).map(|value| format!("{:.1},{:.1}", x(index, *point), y(value)))
        });
        values.collect::<Vec<_>>().join(" ")
    };
    if points.iter().any(|(_, figures)| figures.reference.is_some()) {
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#999999\" stroke-dasharray=\"4 3\"/>\n\
             <text x=\"{LEFT}\" y=\"{UPPER}\" fill=\"#777777\">dashed: copied twice by one process</text>",
            line(|figures| figures.reference)
        );
    }
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#3b6ea5\" stroke-width=\"2\"/>",
        line(|figures| Some(figures.median()))
    );
    for (index, ((point, figures), label)) in points.iter().zip(labels).enumerate() {
        let (here, median) = (x(index, *point), y(figures.median()));
        let (from, to) = (y(figures.least()), y(figures.greatest()));
        let _ = writeln!(
            out,
            "<line x1=\"{here:.1}\" x2=\"{here:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\" stroke=\"#3b6ea5\"/>\n\
             <circle cx=\"{here:.1}\" cy=\"{median:.1}\" r=\"3.5\" fill=\"#3b6ea5\"/>\n\
             <text x=\"{here:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text x=\"{here:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            to.min(median) - 7.0,
            number(figures.median()),
            LOWER + 16.0,
            escaped(label)
        );
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn a_reference_is_a_dashed_line() {
        let points = [1, 8].map(|at| (at, Figures::new([at as f64]).unwrap()));
        let beside = points.clone().map(|(at, figures)| (at, figures.against(0.5)));
        let drawn = [points, beside].map(|points| {
            let mut out = String::new();
            panel(&mut out, &points, &["1".to_owned(), "8".to_owned()]);
            (out.matches("<polyline ").count(), out.contains("dashed"))
        });
        assert_eq!(drawn, [(1, false), (2, true)]);
    }

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a < b & c"), "a &lt; b &amp; c");
    }
}
