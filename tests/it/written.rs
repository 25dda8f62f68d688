//! Files that the host writes: guests can't have it write to others.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Ended, finish, guest, repository, run, sandpool};

const USAGE: i32 = 2;
const RECORDS_FAILED: i32 = 118;
const STOPPED: i32 = 119;
const INTERNAL: i32 = 125;

/// A folder with an input, a directory to grant, one elsewhere, and a file that nobody may write to.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        for name in ["grant", "grant/sub", "elsewhere", "elsewhere/deep"] {
            fs::create_dir(place.path(name)).unwrap();
        }
        fs::write(place.path("in"), "a\nb\n").unwrap();
        fs::write(place.path("victim"), "precious").unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn link(&self, to: &str, name: &str) {
        symlink(to, self.path(name)).unwrap();
    }

    fn map(&self, module: &Path, task: &str) -> Command {
        let mut command = sandpool();
        command.current_dir(&self.folder).args(["map", "--input", "in", "--task", task]).arg(module);
        command
    }

    fn upper(&self) -> Command {
        self.map(&guest("tasks"), "upper")
    }

    /// All names in the folder, with what is in files.
    fn all(&self) -> Vec<(PathBuf, Option<String>)> {
        let mut all = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                all.push((entry.path(), fs::read_to_string(entry.path()).ok()));
            }
        }
        all.sort();
        all
    }

    /// The command is refused, and has changed nothing.
    #[track_caller]
    fn refuses(&self, command: &mut Command) -> Ended {
        let before = self.all();
        let ended = finish(command).expect_code(USAGE);
        assert_eq!(self.all(), before, "{ended}");
        ended
    }
}

#[test]
fn a_task_cannot_have_the_journal_written_through_a_link() {
    let place = Place::new();
    let link = repository().join("tests/cases/link.wat");
    let ended = place.refuses(place.map(&link, "link").args(["--dir", "grant", "--output", "grant/x"]));
    assert!(
        ended.stderr.contains("grant/x cannot be written safely: its path leads through grant,"),
        "{ended}"
    );
    assert!(ended.stderr.contains("hint: name a file elsewhere, or grant the directory with :ro"), "{ended}");
}

#[test]
fn a_path_through_what_guests_may_write_to_is_refused_whatever_it_looks_like() {
    let place = Place::new();
    place.link("grant", "to-grant");
    place.link("to-grant/sub", "to-sub");
    // As a guest has left it.
    place.link("../elsewhere", "grant/out");
    place.link("grant/out", "to-out");
    fs::write(place.path("grant/old"), "old").unwrap();
    let absolute = place.path("grant/x");
    for path in [
        "grant/x",
        "grant/old",
        "./grant/sub/x",
        "elsewhere/../grant/x",
        "elsewhere/deep/../../grant/sub/../x",
        "grant/sub/../../elsewhere/x",
        "to-grant/x",
        "to-sub/x",
        "to-sub/../x",
        "grant/out/x",
        "to-out/x",
        absolute.to_str().unwrap(),
    ] {
        for grants in [&["--dir", "grant"][..], &["--dir", "elsewhere:/e:ro", "--dir", "to-grant:/g"]] {
            place.refuses(place.upper().args(grants).args(["--output", path]));
            place.refuses(place.upper().args(grants).args(["--output", "out", "--errors", path]));
        }
    }
    // Guests can change none of these.
    for path in ["out", "elsewhere/x", "grant/../y", "grant/../elsewhere/../z"] {
        finish(place.upper().args(["--dir", "grant", "--output", path])).expect_code(0);
        assert_eq!(place.read(path), "A\nB\n");
    }
    finish(place.upper().args(["--dir", "grant:/g:ro", "--output", "grant/x"])).expect_code(0);
    assert_eq!(place.read("grant/x"), "A\nB\n");
}

#[test]
fn a_directory_that_is_mounted_twice_is_the_same() {
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-ec", script]);
        command
    };
    if !in_namespace("true").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: nothing can be mounted here");
        return;
    }
    let place = Place::new();
    for (what, on, grant) in [
        ("grant", "elsewhere", "grant"),
        ("grant/sub", "elsewhere", "grant"),
        ("grant/sub", "elsewhere", "elsewhere"),
        ("elsewhere", "grant/sub", "grant"),
    ] {
        let map = place.upper();
        let words = std::iter::once(map.get_program()).chain(map.get_args());
        let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
        for output in ["elsewhere/x", "grant/sub/x"] {
            let script = format!(
                "mount --bind {what} {on}; exec {} --dir {grant}:/g --output {output}",
                words.join(" ")
            );
            let mut command = in_namespace(&script);
            let ended = place.refuses(command.current_dir(&place.folder));
            assert!(ended.stderr.contains("cannot be written safely"), "{script}: {ended}");
        }
    }
}

#[test]
fn links_are_not_written_through() {
    let place = Place::new();
    for flag in ["--output", "--errors"] {
        place.link("victim", "out");
        let ended = finish(place.upper().args([flag, "out"])).expect_code(INTERNAL);
        assert!(ended.stderr.contains("cannot write out: it is a symbolic link; name the file"), "{ended}");
        fs::remove_file(place.path("out")).unwrap();
        place.link("nothing", "out");
        finish(place.upper().args([flag, "out"])).expect_code(INTERNAL);
        assert!(!place.path("nothing").exists());
        fs::remove_file(place.path("out")).unwrap();
    }
    // The journal, and the file that it was written to before it had its name.
    fs::write(place.path("in"), "a\nfail\n").unwrap();
    let map = || {
        let mut command = place.map(&guest("tasks"), "behave");
        command.args(["--output", "out"]);
        command
    };
    for name in ["out.sandpool", "out.sandpool.tmp"] {
        place.link("victim", name);
    }
    let ended = finish(map().arg("--resume")).expect_code(INTERNAL);
    assert!(ended.stderr.contains("cannot read out.sandpool: it is a symbolic link"), "{ended}");
    finish(&mut map()).expect_code(STOPPED);
    assert!(place.read("out.sandpool").contains("\"done\":1"), "it is a file now");
    finish(map().args(["--resume", "--on-error", "skip"])).expect_code(RECORDS_FAILED);
    assert_eq!((place.read("victim"), place.read("out")), ("precious".to_owned(), "a\n".to_owned()));
}

#[test]
fn manual_pages_are_not_written_through_links() {
    let place = Place::new();
    place.link("../victim", "elsewhere/sandpool-map.1");
    let man = || finish(sandpool().args(["man", "elsewhere"]).current_dir(&place.folder));
    let ended = man().expect_code(INTERNAL);
    assert!(ended.stderr.contains("cannot write elsewhere/sandpool-map.1: it is a symbolic link"), "{ended}");
    assert_eq!(place.read("victim"), "precious");
    fs::remove_file(place.path("elsewhere/sandpool-map.1")).unwrap();
    man().expect_code(0);
    assert!(place.read("elsewhere/sandpool-map.1").contains(".TH"));
    assert!(place.read("elsewhere/sandpool.1").contains(".TH"));
}

/// Runs a script of the shell in the folder, with the command and its arguments in place of `MAP`.
#[track_caller]
fn script(place: &Place, task: &str, text: &str) -> Ended {
    let map = place.map(&guest("tasks"), task);
    let words = std::iter::once(map.get_program()).chain(map.get_args());
    let words: Vec<_> = words.map(|word| word.to_str().unwrap()).collect();
    let mut command = Command::new("sh");
    finish(command.current_dir(&place.folder).args(["-c", &text.replace("MAP", &words.join(" "))]))
}

#[test]
fn a_path_of_a_descriptor_means_the_descriptor() {
    for (text, log) in [
        ("MAP --output /dev/stdout >>log", "before\nA\nB\n"),
        ("MAP --output /dev/fd/1 >>log", "before\nA\nB\n"),
        ("MAP --output /proc/self/fd/1 >>log", "before\nA\nB\n"),
        ("MAP --output /dev/fd/7 7>>log", "before\nA\nB\n"),
        ("{ echo first; MAP --output /dev/stdout; echo last; } >log", "first\nA\nB\nlast\n"),
        ("{ echo first; MAP --output /dev/fd/3 3>&1; echo last; } >log", "first\nA\nB\nlast\n"),
    ] {
        let place = Place::new();
        fs::write(place.path("log"), "before\n").unwrap();
        script(&place, "upper", text).expect_code(0);
        assert_eq!(place.read("log"), log, "{text}");
        let names = fs::read_dir(&place.folder).unwrap().count();
        assert_eq!(names, 5, "{text}: nothing lies beside");
    }
    let place = Place::new();
    fs::write(place.path("in"), "a\nfail\n").unwrap();
    fs::write(place.path("log"), "before\n").unwrap();
    let text = "MAP --on-error record --errors /dev/stderr --output out 2>>log";
    script(&place, "behave", text).expect_code(RECORDS_FAILED);
    let log = place.read("log");
    let lines: Vec<_> = log.lines().collect();
    assert_eq!((lines.len(), lines[0]), (3, "before"), "{log}");
    assert!(log.contains(r#"{"index":1,"cause":"error""#) && log.contains("2 records in "), "{log}");
}

#[test]
fn a_descriptor_that_nobody_gave_is_refused() {
    let place = Place::new();
    // Those from 3 on are the command's own.
    for path in
        ["/dev/fd/0", "/dev/stdin", "/dev/fd/3", "/dev/fd/4", "/dev/fd/5", "/dev/fd/200", "/dev/fd/1x"]
    {
        let ended = finish(place.upper().args(["--output", path])).expect_code(INTERNAL);
        assert!(ended.stderr.contains(&format!("cannot write {path}")), "{ended}");
    }
    let ended = finish(place.upper().args(["--output", "/dev/stdout", "--resume"])).expect_code(USAGE);
    assert!(ended.stderr.contains("--resume needs an output that is a file"), "{ended}");
    let both = finish(place.upper().args(["--output", "/dev/null", "--errors", "/dev/stderr"]));
    both.expect_code(0);
}

/// The code in the cache is run, with all rights that a supervisor has.
#[test]
fn the_cache_is_not_granted_for_writing() {
    let place = Place::new();
    fs::create_dir(place.path("grant/deep")).unwrap();
    let of_cache = |cache: &str, grant: &str| {
        let mut command = run(guest("hello"));
        command
            .current_dir(&place.folder)
            .args(["--dir", grant])
            .env("SANDPOOL_CACHE_DIR", place.path(cache));
        command
    };
    place.link("../elsewhere", "grant/to-elsewhere");
    for cache in ["grant/cache", "grant/deep/cache", "grant/to-elsewhere/cache"] {
        let ended = finish(&mut of_cache(cache, "grant")).expect_code(USAGE);
        assert!(ended.stderr.contains("guests may write to "), "{ended}");
        assert!(ended.stderr.contains("SANDPOOL_CACHE_DIR"), "{ended}");
        finish(&mut of_cache(cache, "grant:/g:ro")).expect_code(0);
        finish(&mut of_cache(cache, "grant/sub")).expect_code(0);
    }
    // A pool has the same grants.
    let mut map = place.upper();
    map.args(["--dir", "grant"]).env("SANDPOOL_CACHE_DIR", place.path("grant/cache"));
    finish(&mut map).expect_code(USAGE);
}
