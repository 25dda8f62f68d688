//! The pages for people are true: their programs run and print what the pages show, and their links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Ended, finish, guest, repository, run, run_with, sandpool, sandpool_bin};

const TUTORIAL: &str = "host/docs/from-multiprocessing.md";
const PROGRAMS: &str = "tests/guests/src/bin/tutorial";

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A block of code of a page: its language, with all that stands beside that, and its text.
struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(Block { language: language.to_owned(), text: text.join("\n") });
        }
    }
    blocks
}

/// A page without its blocks of code.
fn prose(page: &str) -> String {
    let mut inside = false;
    let lines = page.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Text in which white space is no difference.
fn normalised(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A program of the tutorial, in both languages, and what it prints.
struct Program {
    name: String,
    python: String,
    prints: String,
}

/// The programs of the tutorial. Each Rust block is a program of `tests/guests`, and each of these is in the tutorial.
fn programs() -> Vec<Program> {
    let entries = fs::read_dir(repository().join(PROGRAMS)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let sources: Vec<_> = paths
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, normalised(&fs::read_to_string(path).unwrap()))
        })
        .filter(|(name, _)| name != "main")
        .collect();

    let blocks = blocks(&read(TUTORIAL));
    let programs: Vec<_> = blocks
        .chunks(3)
        .map(|blocks| {
            let [python, rust, prints] = blocks else { panic!("{TUTORIAL}: a program without its output") };
            let languages = [python, rust, prints].map(|block| block.language.as_str());
            assert_eq!(languages, ["python", "rust", "text"], "{TUTORIAL}, at\n{}", python.text);
            let name = sources.iter().find(|(_, source)| *source == normalised(&rust.text));
            let Some((name, _)) = name else { panic!("{PROGRAMS} does not have the program\n{}", rust.text) };
            Program { name: name.clone(), python: python.text.clone(), prints: prints.text.clone() }
        })
        .collect();

    let shown: BTreeSet<_> = programs.iter().map(|program| &program.name).collect();
    let there: BTreeSet<_> = sources.iter().map(|(name, _)| name).collect();
    assert_eq!(shown, there, "the programs of {TUTORIAL} and {PROGRAMS}");
    assert_eq!(shown.len(), programs.len(), "{TUTORIAL} has a program twice");
    programs
}

/// Fails unless this is all that was printed, on either stream.
#[track_caller]
fn expect_output(name: &str, ended: Ended, prints: &str) {
    let ended = ended.expect_code(0);
    assert_eq!(format!("{}{}", ended.stdout, ended.stderr).trim_end(), prints, "{name}: {ended}");
}

/// The grants of the one program of the tutorial that reaches the outside.
const LISTENER: [&str; 4] = ["--listen", "tcp:127.0.0.1:*", "--connect", "tcp:127.0.0.1:*"];

#[test]
fn rust_programs_of_the_tutorial_print_what_it_shows() {
    for program in programs() {
        let grants: &[&str] = if program.name == "listener" { &LISTENER } else { &[] };
        let mut run = run(guest("tutorial"));
        run.args(grants).args(["--", &program.name]);
        expect_output(&program.name, finish(&mut run), &program.prints);
    }
}

#[test]
fn python_programs_of_the_tutorial_print_what_it_shows() {
    let there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    assert!(
        there,
        "python3 is not installed, and the tutorial has programs in Python: on Debian, `apt-get install python3`"
    );
    let folder = tempfile::tempdir().unwrap();
    for program in programs() {
        // A process that is spawned imports its program by this name. `-I`: whatever else the environment says.
        let path = folder.path().join("program.py");
        fs::write(&path, &program.python).unwrap();
        let ended = finish(Command::new("python3").args(["-I", "-B"]).arg(&path));
        expect_output(&program.name, ended, &program.prints);
    }
}

/// The pages whose commands are run, where these modules are.
const WITH_COMMANDS: [&str; 4] =
    ["README.md", "host/docs/records.md", "host/docs/untrusted.md", "host/docs/from-parallel.md"];
/// Guests, and the names that they have on the pages.
const MODULES: [(&str, &str); 4] =
    [("readme", "squares"), ("words", "words"), ("rogue", "rogue"), ("command", "tool")];

#[test]
fn commands_of_the_pages_print_what_they_show() {
    let folder = tempfile::tempdir().unwrap();
    for (module, name) in MODULES {
        fs::copy(guest(module), folder.path().join(name).with_extension("wasm")).unwrap();
    }
    // The command that is tested, whatever its name and whatever else is on the path.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink(fs::canonicalize(sandpool_bin()).unwrap(), bin.join("sandpool")).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());

    let mut commands = 0;
    for page in WITH_COMMANDS {
        for block in blocks(&read(page)).into_iter().filter(|block| block.language == "console") {
            let mut lines = block.text.lines().peekable();
            while let Some(line) = lines.next() {
                let command = line.strip_prefix("$ ").unwrap_or_else(|| panic!("{page}: no command: {line}"));
                let shown: Vec<_> =
                    std::iter::from_fn(|| lines.next_if(|line| !line.starts_with("$ "))).collect();
                // Without the jail, which not every machine has whole.
                let command =
                    command.replace("--profile untrusted", "--profile untrusted --require-jail none");
                let shell = ["-c", command.as_str()];
                let ended =
                    finish(Command::new("sh").args(shell).current_dir(folder.path()).env("PATH", &path));
                let printed = format!("{}{}", ended.stdout, ended.stderr);
                let mut printed = printed.lines();
                for line in shown {
                    assert!(
                        printed.any(|there| there == line),
                        "{page}: {command}: {line:?} is not in {ended}"
                    );
                }
                commands += 1;
            }
        }
    }
    assert!(commands > 4, "only {commands} commands were found");
}

/// The pages that show guests, and the language of these blocks. The documentation's tests compile other blocks of some
/// pages, and would take a guest for a program of an application.
const WITH_GUESTS: [(&str, &str); 7] = [
    ("README.md", "rust,ignore"),
    ("guest-sdk/README.md", "rust"),
    ("host/docs/ipc.md", "rust"),
    ("host/docs/managers.md", "rust"),
    ("host/docs/pools.md", "rust,ignore"),
    ("host/docs/process-model.md", "rust"),
    ("host/docs/records.md", "rust"),
];
const GUESTS_OF_PAGES: &str = "tests/guests/src/bin/pages";

#[test]
fn the_guests_of_the_pages_are_compiled() {
    let programs = fs::read_dir(repository().join(GUESTS_OF_PAGES)).unwrap();
    let mut sources: Vec<_> = programs
        .map(|program| program.unwrap().path())
        .filter(|program| !program.ends_with("main.rs"))
        .collect();
    sources
        .extend(["words.rs", "readme.rs"].map(|name| repository().join("tests/guests/src/bin").join(name)));
    let mut unseen: BTreeSet<_> = sources.iter().collect();
    for (page, language) in WITH_GUESTS {
        let mut guests =
            blocks(&read(page)).into_iter().filter(|block| block.language == language).peekable();
        assert!(guests.peek().is_some(), "{page} shows no guest");
        for guest in guests {
            let text = normalised(&guest.text);
            let has = |source: &&PathBuf| normalised(&fs::read_to_string(source).unwrap()).contains(&text);
            let source = sources.iter().find(has);
            unseen.remove(
                source.unwrap_or_else(|| panic!("{page}: no guest of the tests has\n{}", guest.text)),
            );
        }
    }
    assert!(unseen.is_empty(), "no page shows {unseen:?}");
}

#[test]
fn the_guests_of_the_pages_print_what_they_show() {
    let printed = |name| finish(&mut run_with("pages", &[name])).expect_code(0);
    printed("child").expect_stdout(&["hello from child", "child: exited: 0"]);
    printed("money").expect_stdout(&["50"]);
    printed("partial").expect_stdout(&[]);
    printed("pipe").expect_stdout(&["1", "2", "3"]);
    let logged = printed("logging").stderr;
    let shown = blocks(&read("host/docs/process-model.md"));
    let shown =
        shown.iter().find(|block| block.language == "text" && block.text.starts_with("[INFO/")).unwrap();
    let mut logged = logged.lines();
    for line in shown.text.lines() {
        assert!(logged.any(|logged| logged == line), "{line:?} isn't logged");
    }
    let data = tempfile::tempdir().unwrap();
    let mut run = run(guest("pages"));
    run.arg("--dir").arg(format!("{}:/data", data.path().display())).args(["--", "temporary"]);
    finish(&mut run).expect_code(0).expect_stdout(&["6"]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
}

/// Every block of every page says by its language how it is known to be right.
#[test]
fn every_block_of_the_pages_is_looked_at() {
    let compiled_with_the_documentation = read("tests/pages.rs");
    for path in pages() {
        let text = fs::read_to_string(&path).unwrap();
        let page = fs::canonicalize(&path).unwrap();
        let page = page.strip_prefix(fs::canonicalize(repository()).unwrap()).unwrap().to_str().unwrap();
        for block in blocks(&text) {
            let language = block.language.as_str();
            let is_looked_at = match language {
                // Run by a test, or not to be run: then it is shown as `text`.
                "console" => WITH_COMMANDS.contains(&page),
                "rust,no_run" => compiled_with_the_documentation.contains(page),
                // The tests of connections run their page's.
                "python" => page == TUTORIAL || page == "host/docs/connections.md",
                "rust" | "rust,ignore" => page == TUTORIAL || WITH_GUESTS.contains(&(page, language)),
                // Commands with names that stand for others.
                "sh" => {
                    flags_exist(page, &block.text);
                    true
                }
                // The tests of guests in C compile it.
                "c" => page == "guest-sdk/c/README.md",
                "text" | "json" | "toml" => true,
                _ => false,
            };
            assert!(
                is_looked_at,
                "{page}: no test looks at a block of `{}`:\n{}",
                block.language, block.text
            );
        }
    }
}

/// Fails unless the commands have these subcommands and flags.
#[track_caller]
fn flags_exist(page: &str, commands: &str) {
    for command in commands.replace("\\\n", " ").lines().flat_map(|line| line.split("sandpool ").skip(1)) {
        let command = command.split(['#', '|', '>', '&', '"']).next().unwrap();
        let command = command.split(" -- ").next().unwrap();
        let mut words = command.split_whitespace();
        let Some(subcommand) = words.next() else { continue };
        let help = finish(sandpool().args([subcommand, "--help"])).expect_code(0).stdout;
        for flag in words.filter(|word| word.starts_with("--")) {
            let is_known = help.split(|c: char| !c.is_ascii_lowercase() && c != '-').any(|word| word == flag);
            assert!(is_known, "{page}: `sandpool {subcommand}` has no {flag}");
        }
    }
}

/// All pages for people.
fn pages() -> Vec<PathBuf> {
    let root = repository();
    let mut pages = Vec::new();
    let mut folders = vec![root.join("host/docs"), root.join("examples")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    let others = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "guest-sdk/README.md",
        "guest-sdk/abi/README.md",
        "guest-sdk/c/README.md",
        "guest-sdk/macros/README.md",
    ];
    pages.extend(others.map(|page| root.join(page)));
    pages
}

/// Returns the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim()
        .chars()
        .filter(|character| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

fn anchors(page: &str) -> BTreeSet<String> {
    let prose = prose(page);
    prose
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(line.trim_start_matches('#')))
        .collect()
}

/// Where the links of a page lead: `[text](target)`, also across lines.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page);
    let targets = prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
    targets.collect()
}

#[test]
fn every_link_of_the_pages_leads_somewhere() {
    let mut links_found = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in links(&page) {
            if link.starts_with("https://") {
                continue;
            }
            links_found += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: there is no {link}", path.display());
            if !fragment.is_empty() {
                let anchors = anchors(&fs::read_to_string(&target).unwrap());
                assert!(anchors.contains(fragment), "{}: {link} has no such heading", path.display());
            }
        }
    }
    assert!(links_found > 50, "only {links_found} links were found");
}

#[test]
fn the_book_has_every_page() {
    let listed: BTreeSet<_> = links(&read("host/docs/SUMMARY.md")).into_iter().collect();
    let pages = fs::read_dir(repository().join("host/docs")).unwrap();
    let names = pages.map(|page| page.unwrap().path()).filter(|page| has_extension(page, "md"));
    let there: BTreeSet<_> = names
        .map(|page| page.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "SUMMARY.md")
        .collect();
    assert_eq!(listed, there, "the pages that SUMMARY.md lists, and those in host/docs");
}

fn has_extension(path: &Path, wanted: &str) -> bool {
    path.extension().is_some_and(|extension| extension == wanted)
}
