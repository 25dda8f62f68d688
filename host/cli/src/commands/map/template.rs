//! Commands that are made of records: where a record stands in the arguments, or that it is stdin.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;

use sandpool::pool::Command;

use super::records::Framing;

/// The parts of a record that can stand in an argument, with GNU parallel's names for them.
const PARTS: [(&str, Part); 6] = [
    ("{}", Part::Whole),
    ("{.}", Part::WithoutExtension),
    ("{/}", Part::FileName),
    ("{//}", Part::Directory),
    ("{/.}", Part::FileStem),
    ("{#}", Part::Number),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    WithoutExtension,
    FileName,
    Directory,
    FileStem,
    /// The number of the process, from 1 on.
    Number,
}

impl Part {
    fn of(self, record: &[u8], number: u64) -> Vec<u8> {
        let (directory, name) = match record.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (record.get(..at), record.get(at + 1..).unwrap_or_default()),
            None => (None, record),
        };
        // A name that begins with a dot has no extension by that.
        let stem = match name.iter().rposition(|byte| *byte == b'.') {
            None | Some(0) => name,
            Some(at) => name.get(..at).unwrap_or(name),
        };
        match self {
            Self::Whole => record.to_vec(),
            Self::WithoutExtension => {
                record.get(..record.len() - (name.len() - stem.len())).unwrap_or(record).to_vec()
            }
            Self::FileName => name.to_vec(),
            Self::Directory => match directory {
                None => b".".to_vec(),
                Some([]) => b"/".to_vec(),
                Some(directory) => directory.to_vec(),
            },
            Self::FileStem => stem.to_vec(),
            Self::Number => (number + 1).to_string().into_bytes(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Part),
}

impl Piece {
    fn is_of_a_record(&self) -> bool {
        matches!(self, Self::Part(part) if *part != Part::Number)
    }
}

/// The arguments of a program, in which parts of records may stand.
#[derive(Debug, Clone)]
pub(super) struct Template {
    name: String,
    args: Vec<Vec<Piece>>,
    framing: Framing,
}

impl Template {
    pub(super) fn new(name: &str, args: &[String], framing: Framing) -> Self {
        Self { name: name.to_owned(), args: args.iter().map(|arg| pieces(arg)).collect(), framing }
    }

    /// Whether records stand in the arguments, and not on stdin.
    fn takes_records(&self) -> bool {
        self.args.iter().flatten().any(Piece::is_of_a_record)
    }

    /// The arguments for the process with this number, from 0 on. An argument in which a part of a record stands is there once for
    /// each record.
    fn args(&self, number: u64, records: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut args = Vec::new();
        for pieces in &self.args {
            let count = if pieces.iter().any(Piece::is_of_a_record) { records.len() } else { 1 };
            for at in 0..count {
                let record = records.get(at).map_or(&[][..], Vec::as_slice);
                let arg = pieces.iter().flat_map(|piece| match piece {
                    Piece::Text(text) => text.as_bytes().to_vec(),
                    Piece::Part(part) => part.of(record, number),
                });
                args.push(arg.collect());
            }
        }
        args
    }

    /// The command for the process with this number, from 0 on.
    pub(super) fn command(&self, number: u64, records: &[Vec<u8>]) -> Command {
        let args = self.args(number, records);
        let command = Command::new(&self.name).args(args.iter().map(|arg| OsStr::from_bytes(arg)));
        if self.takes_records() { command } else { command.stdin(self.framing.join(records)) }
    }

    /// The command as a shell would take it, for people.
    pub(super) fn shown(&self, number: u64, records: &[Vec<u8>]) -> String {
        let mut line = quoted(&self.name);
        for arg in self.args(number, records) {
            line.push(' ');
            line.push_str(&quoted(&String::from_utf8_lossy(&arg)));
        }
        if !self.takes_records() {
            let bytes: usize = records.iter().map(Vec::len).sum();
            let _ = match records {
                [_] => write!(line, " < record {number} ({bytes} bytes)"),
                _ => write!(line, " < {} records ({bytes} bytes)", records.len()),
            };
        }
        line
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |text: char| text.is_ascii_alphanumeric() || "-_./=:,@%+".contains(text);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Takes an argument apart. Everything that isn't the name of a part is text.
fn pieces(arg: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = arg;
    let mut text = String::new();
    while let Some(first) = rest.chars().next() {
        let part = PARTS.into_iter().find_map(|(name, part)| Some((rest.strip_prefix(name)?, part)));
        match part {
            Some((behind, part)) => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Part(part));
                rest = behind;
            }
            None => {
                text.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            }
        }
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &[&str], records: &[&str]) -> String {
        let args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let records: Vec<_> = records.iter().map(|record| record.as_bytes().to_vec()).collect();
        Template::new("prog", &args, Framing::Lines).shown(6, &records)
    }

    #[test]
    fn the_parts_of_a_record_are_gnu_parallels() {
        for (record, expected) in [
            (
                "dir/sub/file.tar.gz",
                "prog dir/sub/file.tar.gz dir/sub/file.tar file.tar.gz dir/sub file.tar 7",
            ),
            ("file.txt", "prog file.txt file file.txt . file 7"),
            ("dir.d/file", "prog dir.d/file dir.d/file file dir.d file 7"),
            ("/file.c", "prog /file.c /file file.c / file 7"),
            ("a/.hidden", "prog a/.hidden a/.hidden .hidden a .hidden 7"),
            ("", "prog '' '' '' . '' 7"),
        ] {
            assert_eq!(shown(&["{}", "{.}", "{/}", "{//}", "{/.}", "{#}"], &[record]), expected);
        }
    }

    #[test]
    fn text_around_a_part_stays_and_what_is_no_part_is_text() {
        assert_eq!(
            shown(&["--in={}", "{.}.out", "{1}", "{", "a}b", "{}{}"], &["x.c"]),
            "prog --in=x.c x.out '{1}' '{' 'a}b' x.cx.c"
        );
        assert_eq!(shown(&["", "{}"], &["x"]), "prog '' x", "an empty argument is one");
        assert_eq!(shown(&["it's", "{}"], &["two words"]), r"prog 'it'\''s' 'two words'");
    }

    #[test]
    fn several_records_are_several_arguments() {
        assert_eq!(shown(&["-x", "{}", "n{#}", "-i{.}"], &["a.c", "b.c"]), "prog -x a.c b.c n7 -ia -ib");
    }

    #[test]
    fn without_a_part_of_a_record_records_are_stdin() {
        assert_eq!(shown(&["-n", "{#}"], &["one"]), "prog -n 7 < record 6 (3 bytes)");
        assert_eq!(shown(&[], &["one", "two"]), "prog < 2 records (6 bytes)");
    }
}
