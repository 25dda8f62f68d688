//! Open files, their size, and the bytes that are written to them.

use super::{QUOTA, bytes_in, folder, limited};

#[test]
fn too_many_open_files_are_refused() {
    for n in [3, 40] {
        let folder = tempfile::tempdir().unwrap();
        let dir = format!("{}:/rw", folder.path().display());
        let ended = limited(&["--dir", &dir, "--open-files-max", &n.to_string()], &["open"]).expect_code(0);
        let mut lines = ended.stdout.lines();
        // One more is for listing directories. The number is WASI's `EMFILE`.
        assert_eq!(lines.next(), Some(&*format!("refused after {}: 33", n + 1)), "{ended}");
        assert_eq!(lines.next(), Some("and one in place of another"));
    }
}

#[test]
fn what_would_make_a_file_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let dir = format!("{}:/rw", folder.path().display());
    let ended = limited(&["--dir", &dir, "--file-size-max", "64KiB"], &["write"]).expect_code(0);
    ended.expect_stdout(&["refused after 65536: FileTooLarge", "and another file"]);
    assert_eq!(folder.path().join("large").metadata().unwrap().len(), 65_536);
}

#[test]
fn what_a_process_writes_to_too_many_files_is_refused() {
    let (folder, grant) = folder();
    let limits = ["--dir", &grant, "--file-bytes-max", "10500", "--run-file-bytes-max", "1MiB"];
    let ended = limited(&limits, &["write-many"]).expect_code(1).expect_stdout(&[
        &format!("refused after 10: {QUOTA}"),
        "no more: true",
        "less: true",
        "another process: exited: 0",
    ]);
    assert!(
        ended.stderr.ends_with(
            "note: 'MainProcess' was refused more than its limits: bytes of files 10500 B (`file-bytes-max`, 2 times)\n"
        ),
        "{ended}"
    );
    assert_eq!(bytes_in(&folder), 10_000);
}

#[test]
fn what_a_run_writes_to_files_is_refused_whoever_does() {
    let (folder, grant) = folder();
    // Each process writes much less.
    let limits = ["--dir", &grant, "--run-file-bytes-max", "20500", "--file-bytes-max", "5000"];
    let ended =
        limited(&limits, &["write-on"]).expect_stdout(&[&format!("refused after it goes on: {QUOTA}")]);
    assert_eq!(bytes_in(&folder), 20_000, "{ended}");
}

#[test]
fn what_a_file_grows_by_counts_as_written() {
    let (folder, grant) = folder();
    limited(&["--dir", &grant, "--file-bytes-max", "10KiB"], &["grow"])
        .expect_code(0)
        .expect_stdout(&[&format!("refused after 10000: {QUOTA}"), "no more: true"]);
    assert_eq!(bytes_in(&folder), 0);
}

/// Writes are counted before they are done. Of one that is cut short or refused, only that stays counted which was written.
#[test]
fn what_was_not_written_does_not_count() {
    for limit in ["--file-bytes-max", "--run-file-bytes-max"] {
        let (folder, grant) = folder();
        // A whole file, and a write of 1000 bytes that is refused.
        let limits = ["--dir", &grant, "--file-size-max", "64KiB", limit, "66536"];
        limited(&limits, &["write"])
            .expect_code(0)
            .expect_stdout(&["refused after 65536: FileTooLarge", "and another file"]);
        assert_eq!(bytes_in(&folder), 65_537);
    }
    let (_folder, grant) = folder();
    let limits = ["--dir", &grant, "--file-size-max", "64KiB", "--file-bytes-max", "66000"];
    limited(&limits, &["grow"]).expect_code(0).expect_stdout(&["refused after 65000: 22", "no more: false"]);
}
