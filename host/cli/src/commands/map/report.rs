//! The report of a map: one line of JSON for each record, with what it took.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;
use sandpool::Error;
use sandpool::pool::{Failure, Usage};
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// A line of the report.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    index: u64,
    attempts: u32,
    /// why there is no result; null for a record that is done
    cause: Option<&'a str>,
    detail: Option<String>,
    /// the exit code of a program
    exit: Option<u8>,
    /// in seconds
    wall: f64,
    /// in seconds
    cpu: Option<f64>,
    /// in bytes
    peak_memory: Option<u64>,
    /// of the result
    bytes: u64,
}

impl<'a> Line<'a> {
    pub(super) fn new(
        index: u64,
        attempts: u32,
        cause: Option<&'a Failure>,
        exit: Option<u8>,
        bytes: u64,
    ) -> Self {
        let detail = cause.map(|cause| match cause {
            Failure::Failed(text) | Failure::Refused(text) => text.raw().to_owned(),
            cause => cause.to_string(),
        });
        let cause = cause.map(Failure::kind);
        Self { index, attempts, cause, detail, exit, wall: 0.0, cpu: None, peak_memory: None, bytes }
    }

    pub(super) fn with(mut self, usage: &Usage) -> Self {
        self.wall = usage.wall.as_secs_f64();
        self.cpu = usage.cpu.map(|time| time.as_secs_f64());
        self.peak_memory = usage.peak_memory;
        self
    }
}

/// The length of a report without a part of a line at its end, which a command may have left that was killed; 0 for what is no
/// file.
pub(super) fn len(path: &Path) -> anyhow::Result<u64> {
    const CHUNK: u64 = 64 << 10;
    let cannot = || format!("cannot read {}", path.display());
    if !path.is_file() {
        return Ok(0);
    }
    let mut file = File::open(path).with_context(cannot)?;
    let mut end = file.metadata().with_context(cannot)?.len();
    let mut chunk = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        chunk.clear();
        file.seek(SeekFrom::Start(start)).with_context(cannot)?;
        (&mut file).take(end - start).read_to_end(&mut chunk).with_context(cannot)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The records that have failed according to a report. The last line about a record counts.
pub(super) fn failed(path: &Path) -> anyhow::Result<Ranges> {
    #[derive(Deserialize)]
    struct Known {
        index: u64,
        cause: Option<String>,
    }

    let cannot = || format!("cannot read {}", path.display());
    let mut reader = BufReader::new(File::open(path).with_context(cannot)?);
    let mut failed = Ranges::default();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        if reader.read_until(b'\n', &mut line).with_context(cannot)? == 0 {
            break;
        }
        match serde_json::from_slice::<Known>(&line) {
            Ok(Known { index, cause: Some(_) }) if index < u64::MAX => failed.insert(index..index + 1),
            Ok(Known { index, .. }) => failed.remove(index),
            // A command that was killed may have left a part of a line.
            Err(_) if !line.ends_with(b"\n") => {}
            Err(_) => {
                return Err(Error::Invalid {
                    what: format!("line {number} of {} is not of a report", path.display()),
                    hint: Some("name a file that --report has written".to_owned()),
                }
                .into());
            }
        }
    }
    Ok(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn the_last_line_about_a_record_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.jsonl");
        let lines = |lines: &[(u64, Option<&str>)]| -> String {
            let line = |(index, cause): &(u64, Option<&str>)| {
                format!("{}\n", serde_json::json!({ "index": index, "cause": cause, "wall": 0.1 }))
            };
            lines.iter().map(line).collect()
        };
        let text = lines(&[(3, Some("exit")), (1, None), (2, Some("trap")), (3, None), (7, Some("exit"))]);
        std::fs::write(&path, format!("{text}{{\"index\":1,\"ca")).unwrap();
        assert_eq!(failed(&path).unwrap().pairs().collect::<Vec<_>>(), [(2, 3), (7, 8)]);
        assert_eq!(len(&path).unwrap(), text.len() as u64);
        std::fs::write(&path, "x".repeat(200_000)).unwrap();
        assert_eq!(len(&path).unwrap(), 0);
        std::fs::write(&path, format!("one\n{}", "x".repeat(200_000))).unwrap();
        assert_eq!(len(&path).unwrap(), 4);
        std::fs::write(&path, format!("{text}no report\n")).unwrap();
        assert!(failed(&path).unwrap_err().to_string().starts_with("line 6 of "));
    }

    /// The end of a last line that was cut is looked for from the end on, in parts.
    #[test]
    fn a_report_is_as_long_as_its_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        assert_eq!(len(&path).unwrap(), 0);
        for whole in [0, 1, 500, 64 << 10, 70_000, 300_000] {
            for rest in [0, 1, 500, 64 << 10, 70_000, 300_000] {
                let mut bytes = vec![b'x'; whole + rest];
                bytes[..whole].last_mut().into_iter().for_each(|last| *last = b'\n');
                std::fs::write(&path, bytes).unwrap();
                assert_eq!(len(&path).unwrap(), whole as u64, "{whole} and {rest}");
            }
        }
    }
}
