//! The logs of guests, as `multiprocessing` has them.

use std::fs::File;

use crate::support::{Ended, finish, run_with};

#[track_caller]
fn logged(mode: &str) -> Ended {
    finish(&mut run_with("logging", &[mode])).expect_code(0)
}

/// The lines on stderr that say this of their sender.
fn of<'e>(ended: &'e Ended, sender: &str) -> Vec<&'e str> {
    let sender = format!("{sender}] ");
    let says = |line: &&str| {
        let said = line.strip_prefix('[').and_then(|line| line.split_once('/'));
        said.is_some_and(|(_, said)| said.starts_with(&sender))
    };
    ended.stderr.lines().filter(says).collect()
}

#[test]
fn nothing_is_shown_unless_asked_for() {
    let ended = logged("off");
    assert_eq!((ended.stderr.as_str(), ended.all("ok: ").len()), ("", 3), "{ended}");
}

#[test]
fn a_line_is_shown_if_it_matters_as_much_as_the_level() {
    let ended = logged("levels");
    let lines = [
        (5, "SUBDEBUG", "sub_debug"),
        (10, "DEBUG", "debug"),
        (20, "INFO", "info"),
        (25, "SUBWARNING", "sub_warning"),
        (30, "WARNING", "warning"),
        (40, "ERROR", "error"),
        (50, "CRITICAL", "critical 1"),
        (15, "Level 15", "15"),
        (30, "WARNING", "of a macro-  7"),
    ];
    let mut expected = Vec::new();
    for (from, head) in [
        (30, None),
        (20, Some("INFO")),
        (5, Some("SUBDEBUG")),
        (51, Some("Level 51")),
        (25, Some("SUBWARNING")),
    ] {
        expected.extend(head.map(|level| format!("[Level 255/MainProcess] from {level} on")));
        let shown = lines.iter().filter(|(level, ..)| *level >= from);
        expected.extend(shown.map(|(_, name, message)| format!("[{name}/MainProcess] {message}")));
    }
    assert_eq!(ended.stderr.lines().collect::<Vec<_>>(), expected, "{ended}");
}

#[test]
fn processes_say_that_they_begin_and_end() {
    let ended = logged("processes");
    let begins = |name: &str| format!("[INFO/{name}] child process calling self.run()");
    let shuts_down = |name: &str| format!("[INFO/{name}] process shutting down");
    let exits = |name: &str, code: u8| format!("[INFO/{name}] process exiting with exitcode {code}");
    let whole = |name: &str, code| vec![begins(name), shuts_down(name), exits(name, code)];
    let with = |name: &str, says: &str| {
        let mut whole = whole(name, 0);
        whole.insert(1, format!("[INFO/{name}] {says}"));
        whole
    };
    assert_eq!(of(&ended, "well"), with("well", "hello"), "{ended}");
    assert_eq!(of(&ended, "code"), whole("code", 44), "{ended}");
    assert_eq!(of(&ended, "error"), whole("error", 1), "{ended}");
    assert_eq!(of(&ended, "panics"), whole("panics", 1), "{ended}");
    assert_eq!(of(&ended, "exits"), [begins("exits")], "{ended}");
    assert_eq!(of(&ended, "spawned"), with("spawned", "7"), "{ended}");
    // A name can't forge a line, nor steer a terminal.
    let escaped = r"\u{1b}[2J\n[INFO/MainProcess] forged\u{202e}";
    assert_eq!(of(&ended, escaped), whole(escaped, 0), "{ended}");
    let parent = of(&ended, "parent");
    for says in ["calling terminate() for daemon daemon", "calling join() for process daemon"] {
        assert!(parent.contains(&format!("[INFO/parent] {says}").as_str()), "{ended}");
    }
    let main = of(&ended, "MainProcess");
    assert_eq!(main.first(), Some(&"[INFO/MainProcess] process shutting down"), "{ended}");
    assert!(!ended.stderr.contains(['\u{1b}', '\u{202e}']), "{ended}");
}

#[test]
fn pools_say_what_they_do_with_their_workers() {
    let ended = logged("pools");
    let main: Vec<_> = of(&ended, "MainProcess")
        .into_iter()
        .map(|line| line.split_once(" (pid").map_or(line, |(start, _)| start))
        .collect();
    let of_one = [
        "[DEBUG/MainProcess] added worker PoolWorker-1",
        "[DEBUG/MainProcess] cleaning up worker PoolWorker-1",
        "[SUBWARNING/MainProcess] worker PoolWorker-1",
        "[DEBUG/MainProcess] added worker PoolWorker-2",
        "[DEBUG/MainProcess] closing pool",
        "[DEBUG/MainProcess] joining pool",
    ];
    assert_eq!(main[..6], of_one, "{ended}");
    assert_eq!(main[6..12], of_one, "{ended}");
    for says in [
        "[DEBUG/MainProcess] trying task 0 again",
        "[SUBWARNING/MainProcess] killed worker PoolWorker-1: its task takes longer than 20ms",
        "[DEBUG/MainProcess] terminating pool: the pool was terminated",
    ] {
        assert!(main.contains(&says), "no {says:?}\n{ended}");
    }
    assert!(ended.stderr.contains(") was lost: trapped: "), "{ended}");
    for says in [
        "[INFO/PoolWorker-1] task 1",
        "[INFO/PoolWorker-2] task 3",
        "[INFO/PoolWorker-2] child process calling self.run()",
        "[DEBUG/PoolWorker-2] worker exiting after 1 tasks",
        "[INFO/PoolWorker-2] process exiting with exitcode 0",
    ] {
        let found = ended.stderr.lines().filter(|line| *line == says).count();
        // By fork and by spawn; one more may begin behind the worker that takes too long.
        assert!(found >= 2, "{says:?}\n{ended}");
    }
}

#[test]
fn what_is_started_has_the_level_of_who_starts_it() {
    let ended = logged("inherited");
    let mut found: Vec<_> = ended.stderr.lines().collect();
    let mut expected = [
        "[Level 17/Process-1] forked in Process-1",
        "[Level 16/of the child] more of a child",
        "[Level 17/Process-2] spawned",
        "[Level 17/Process-2:1] spawned by it",
        "[Level 17/PoolWorker-1] a task of Fork",
        "[Level 17/PoolWorker-1] a task of Spawn",
        "[Level 17/ScopedWorker-1] scoped in ScopedWorker-1",
    ];
    // The lines of this crate's processes matter more than that.
    found.retain(|line| !line.starts_with("[INFO/") && !line.starts_with("[SUBWARNING/"));
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected, "{ended}");
}

/// Each line of many processes that write at once is whole, wherever stderr goes.
#[test]
fn lines_are_whole() {
    let path = std::env::temp_dir().join(format!("sandpool-logging-{}", std::process::id()));
    for to_file in [false, true] {
        let mut command = run_with("logging", &["storm"]);
        let stderr = if to_file {
            let file = File::create(&path).unwrap();
            let status = command.stdin(std::process::Stdio::null()).stderr(file).status().unwrap();
            assert!(status.success(), "{status}");
            std::fs::read_to_string(&path).unwrap()
        } else {
            finish(&mut command).expect_code(0).stderr
        };
        let mut seen = [0; 4];
        for line in stderr.lines() {
            let whole = line.strip_prefix("[WARNING/writer-").and_then(|line| line.split_once("] "));
            let (writer, text) = whole.unwrap_or_else(|| panic!("{line:?}"));
            let seen: &mut usize = &mut seen[writer.parse::<usize>().unwrap()];
            let expected = format!("{seen} {}", "x".repeat(100 + *seen % 7 * 300));
            assert_eq!(text, expected, "to a file: {to_file}");
            *seen += 1;
        }
        assert_eq!(seen, [500; 4], "to a file: {to_file}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_program_has_lines_handled_by_itself() {
    let ended = logged("handlers");
    let handled: Vec<_> = ended.all("ok: ");
    let expected = [
        "WARNING of MainProcess: a warning",
        "INFO of forked: child process calling self.run()",
        "INFO of forked: hello",
        "INFO of forked: process shutting down",
        "INFO of forked: process exiting with exitcode 0",
        "INFO of MainProcess: both",
    ];
    assert_eq!(handled, expected, "{ended}");
    let written: Vec<_> = ended.stderr.lines().collect();
    let expected = [
        "[INFO/MainProcess] both",
        "[INFO/MainProcess] stderr only",
        "[INFO/MainProcess] process shutting down",
    ];
    assert_eq!(written, expected, "{ended}");
}
