//! Standard streams that many processes share.

use std::io::Write as _;

use crate::support::{Ended, Run, run_with};

const PROCESSES: usize = 8;
const LINES: usize = 200;

fn ended() -> Ended {
    let (processes, lines) = (PROCESSES.to_string(), LINES.to_string());
    let (run, mut stdin) = Run::start_with_stdin(&mut run_with("stdio", &[&processes, &lines]));
    stdin.write_all(b"for the main process only\nand more\n").unwrap();
    drop(stdin);
    run.finish().expect_code(0)
}

#[test]
fn lines_stay_whole_and_nothing_is_printed_twice() {
    let ended = ended();
    let mut lines: Vec<_> = ended.stdout.lines().collect();
    assert_eq!(
        lines.drain(..4).collect::<Vec<_>>(),
        [
            "once, and then the child",
            "before a spawn, the spawned child",
            "ok: a child's standard input is empty",
            "the main process reads \"for the main process only\\n\"",
        ]
    );
    assert_eq!(lines.pop(), Some("the end"), "a last line without an end is lost");
    assert!(ended.stdout.ends_with("the end"), "an end of line was added");

    let mut next = [0; PROCESSES];
    for line in &lines {
        let words: Vec<_> = line.split(' ').collect();
        let &["line", process, number, text] = words.as_slice() else { panic!("not a whole line: {line:?}") };
        let (process, number): (usize, usize) = (process.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number, next[process], "a line of process {process} is missing or out of order");
        next[process] += 1;
        let letter = char::from(b'a' + u8::try_from(process).unwrap());
        assert_eq!(text.len(), 10 + (number * 37) % 6_000, "{line}");
        assert!(text.chars().all(|found| found == letter), "lines are mixed: {line:?}");
    }
    assert_eq!(next, [LINES; PROCESSES]);
}
