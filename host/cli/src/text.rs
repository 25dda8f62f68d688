//! Text that a person reads: errors, tables, sizes and times.

use std::io;
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::time::Duration;

use sandpool::command_support::write_all;
use sandpool::{Error, GuestText};

use crate::exit_code::ExitCode;
use crate::toolchain;

/// Writes lines to stdout. A reader that stops early, such as `head`, is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let out = io::stdout().lock();
    match write_all(out.as_fd(), lines(text).as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one line to stderr and escapes it, whatever its source: no other code sees the line before a terminal does. If stderr is
/// gone, nobody is left to tell.
pub(crate) fn note(line: &str) {
    let _ = error_line(line);
}

/// Writes one line to stderr, as [`note`] does, and returns the error: for lines that are output rather than comfort.
pub(crate) fn error_line(line: &str) -> io::Result<()> {
    let err = io::stderr().lock();
    write_all(err.as_fd(), format!("{}\n", GuestText::from(line)).as_bytes())
}

/// Writes several lines to stderr at once, because guests print to stderr as well.
pub(crate) fn note_lines(text: &str) {
    let err = io::stderr().lock();
    let _ = write_all(err.as_fd(), lines(text).as_bytes());
}

/// Makes each line fit for a terminal; tabs stay.
fn lines(text: &str) -> String {
    let mut shown = String::new();
    for part in text.split_inclusive(['\n', '\t']) {
        let fit = part.trim_end_matches(['\n', '\t']);
        shown.push_str(&GuestText::from(fit).to_string());
        shown.push_str(part.get(fit.len()..).unwrap_or_default());
    }
    shown
}

/// Prints an error, and returns its exit code.
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    note(&format!("error: {error:#}"));
    let hint = error.chain().find_map(|cause| match cause.downcast_ref::<Error>() {
        Some(error) => Some(error.hint()),
        None => cause.downcast_ref::<toolchain::Error>().map(|error| Some(error.hint())),
    });
    if let Some(Some(hint)) = hint {
        note(&format!("hint: {hint}"));
    }
    ExitCode::from_error(error).code()
}

/// Reports a panic, which is a bug of ours: one line about it, and the exit code for that.
pub(crate) fn report_panic(info: &PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|at| format!(" at {}:{}", at.file(), at.line())).unwrap_or_default();
    note(&format!("error: internal error: {what}{place}; please report this"));
    if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
        note_lines(&std::backtrace::Backtrace::force_capture().to_string());
    }
    std::process::exit(ExitCode::Internal.code().into());
}

/// Rows in aligned columns, each line after `indent`. No cell adds a line of its own.
pub(crate) fn columns<const N: usize>(indent: &str, rows: &[[String; N]]) -> String {
    let fit = |row: &[String; N]| row.each_ref().map(|cell| GuestText::from(cell.as_str()).to_string());
    let rows: Vec<_> = rows.iter().map(fit).collect();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{indent}{}", cells.collect::<Vec<_>>().join("  ")).trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// `900 B`, `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit as f64),
        None => format!("{bytes} B"),
    }
}

/// `1.25 s`, `3.4 ms`.
pub(crate) fn duration(time: Duration) -> String {
    if time >= Duration::from_secs(1) {
        format!("{:.2} s", time.as_secs_f64())
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align() {
        let rows = [
            ["a".to_owned(), "bé".to_owned(), "c".to_owned()],
            ["aaa".to_owned(), "b".to_owned(), String::new()],
        ];
        assert_eq!(columns(" ", &rows), " a    bé  c\n aaa  b\n");
    }

    #[test]
    fn nothing_but_lines_reaches_a_terminal() {
        assert_eq!(lines("a\x1b[2J\n\n\tb\r\u{9b}\u{202e}\n"), "a\\u{1b}[2J\n\n\tb\\r\\u{9b}\\u{202e}\n");
        assert_eq!(lines("no end\x7f"), "no end\\u{7f}");
        assert_eq!(columns("", &[["a\nb".to_owned(), "c".to_owned()]]), "a\\nb  c\n");
    }

    #[test]
    fn sizes_and_times_have_units() {
        assert_eq!(bytes(900), "900 B");
        assert_eq!(bytes(1536 << 10), "1.5 MiB");
        assert_eq!(duration(Duration::from_micros(3400)), "3.4 ms");
        assert_eq!(duration(Duration::from_millis(61_250)), "61.25 s");
    }
}
