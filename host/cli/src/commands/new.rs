//! `sandpool new`: the crate of a new guest.

use std::path::{Path, PathBuf};
use std::{fs, io};

use sandpool::Error;

use crate::exit_code::ExitCode;
use crate::{output, text};

const EXAMPLES: &str = "\
Examples:
  sandpool new squares && sandpool run squares
      Makes a program with several processes, then compiles and runs the program

  sandpool new --tasks reviews && printf 'to be or\\nnot to be\\n' | sandpool map reviews --task words
      Makes a crate of tasks, then runs one of the tasks over two lines

  sandpool new --name first .
      Makes the crate in this directory, which must be empty";

/// Make the crate of a new guest: a program, or tasks, to begin with.
///
/// The crate compiles and runs as it is made: with `sandpool run`, or with `sandpool map` for tasks.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NewArgs {
    /// Directory of the crate; a new one, or an empty one
    dir: PathBuf,

    /// Name of the crate [default: the name of the directory]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Make tasks, which `sandpool map` and applications call, instead of a program
    #[arg(long)]
    tasks: bool,
}

/// The files of a crate, in which `{name}` and `"{sdk}"` are yet to be filled in.
struct Template {
    manifest: &'static str,
    main: &'static str,
}

const PROGRAM: Template = Template {
    manifest: include_str!("../../templates/program/manifest.toml"),
    main: include_str!("../../templates/program/main.rs"),
};

const TASKS: Template = Template {
    manifest: include_str!("../../templates/tasks/manifest.toml"),
    main: include_str!("../../templates/tasks/main.rs"),
};

/// Where the SDK is in the checkout that compiled this command.
const SDK_OF_CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk/rust");

/// The SDK of this version of Sandpool, as a registry names it.
const SDK_VERSION: &str = concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

pub(crate) fn run(args: NewArgs) -> anyhow::Result<u8> {
    let name = match args.name {
        Some(name) => name,
        None => name_of(&args.dir)?,
    };
    check_name(&name)?;
    check_free(&args.dir)?;
    let template = if args.tasks { TASKS } else { PROGRAM };
    let sdk = sdk_of_checkout();
    let manifest =
        template.manifest.replace("{name}", &name).replace("\"{sdk}\"", &dependency(sdk.as_deref()));
    make(
        &args.dir,
        &[("Cargo.toml", &manifest), ("src/main.rs", template.main), (".gitignore", "/target\n")],
    )?;

    let (what, next) = if args.tasks {
        (
            "tasks",
            format!("printf 'to be or\\nnot to be\\n' | sandpool map {} --task words", quoted(&args.dir)),
        )
    } else {
        ("a program with several processes", format!("sandpool run {}", quoted(&args.dir)))
    };
    text::note(&format!("created the crate `{name}`: {what}, in {}", args.dir.join("src/main.rs").display()));
    if sdk.is_none() {
        text::note(&format!(
            "note: the crate takes sandpool-guest {SDK_VERSION} from the registry, because the checkout that this \
             command was compiled in is not there"
        ));
    }
    text::note(&format!("next: {next}"));
    Ok(ExitCode::Success.code())
}

/// The name of a directory, which need not exist yet.
fn name_of(dir: &Path) -> Result<String, Error> {
    // `.` and `..` name a directory by its place.
    let whole = if dir.file_name().is_none() { dir.canonicalize().ok() } else { None };
    let name = whole.as_deref().unwrap_or(dir).file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Error::Invalid {
        what: format!("{} does not name the crate", dir.display()),
        hint: Some("give the crate a name with --name NAME".to_owned()),
    })
}

/// Names that cargo gives to folders beside a program, and those of crates that a guest depends on, or that Rust has.
const TAKEN: [&str; 13] = [
    "alloc",
    "build",
    "core",
    "deps",
    "examples",
    "incremental",
    "proc-macro",
    "sandpool-abi",
    "sandpool-guest",
    "sandpool-guest-macros",
    "sandpool-scheduler",
    "std",
    "test",
];

/// Words of Rust, which no crate can have for a name.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

/// Refuses names that cargo refuses or warns about. Letters are those of ASCII, as registries require.
fn check_name(name: &str) -> Result<(), Error> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let why = if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        "a name begins with a letter from a to z"
    } else if !name.chars().all(is_of_name) {
        "a name has letters from a to z, digits, `-` and `_`"
    } else if KEYWORDS.contains(&name) {
        "it is a word of Rust"
    } else if TAKEN.contains(&&*name.replace('_', "-")) {
        "Rust, cargo or Sandpool has something of that name"
    } else {
        return Ok(());
    };
    Err(Error::Invalid {
        what: format!("a crate cannot have the name `{name}`: {why}"),
        hint: Some("give the crate another name with --name NAME".to_owned()),
    })
}

/// Refuses a directory that has something in it.
fn check_free(dir: &Path) -> Result<(), Error> {
    let refused = |why| {
        Err(Error::Invalid {
            what: format!("{} {why}", dir.display()),
            hint: Some("name a new directory, or an empty one".to_owned()),
        })
    };
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => refused("is not empty"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => refused("is not a directory"),
        Err(source) => Err(Error::Write { path: dir.to_owned(), source }),
    }
}

/// The SDK of the checkout that this command was compiled in. A command from elsewhere has none.
fn sdk_of_checkout() -> Option<String> {
    let sdk = fs::canonicalize(SDK_OF_CHECKOUT).ok()?;
    sdk.join("Cargo.toml").is_file().then_some(sdk)?.into_os_string().into_string().ok()
}

/// The manifest's word for the SDK: a path if there is one, otherwise a version.
fn dependency(path: Option<&str>) -> String {
    match path {
        // A string of JSON is one of TOML.
        Some(path) => format!("{{ path = {} }}", serde_json::Value::from(path)),
        None => format!("\"{SDK_VERSION}\""),
    }
}

/// Makes files, and the directories for them. After a failure, nothing is left of them.
fn make(dir: &Path, files: &[(&str, &str)]) -> Result<(), Error> {
    let mut made = Made(Vec::new());
    for (name, content) in files {
        let path = dir.join(name);
        let folder = path.parent().unwrap_or(dir);
        made.folder(folder).map_err(|source| Error::Write { path: folder.to_owned(), source })?;
        made.0.push(path.clone());
        output::write(&path, content.as_bytes())?;
    }
    made.0.clear();
    Ok(())
}

/// Files and directories that were made, and are removed when this is dropped.
struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory, and those above it.
    fn folder(&mut self, path: &Path) -> io::Result<()> {
        if path.as_os_str().is_empty() || path.is_dir() {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.folder(above)?;
        }
        match fs::create_dir(path) {
            Ok(()) => self.0.push(path.to_owned()),
            // The path leads back, as `new/..` does.
            Err(_) if path.is_dir() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // A directory goes only if it is empty.
            let _ = fs::remove_file(path).or_else(|_| fs::remove_dir(path));
        }
    }
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '+' | ',' | ':' | '@' | '%');
    if path.chars().all(is_plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn names_are_those_that_cargo_takes() {
        for name in ["a", "my-task", "my_task", "Task2", "r2d2-"] {
            check_name(name).unwrap();
        }
        for name in [
            "",
            "2d",
            "-x",
            "_",
            "ä",
            "a b",
            "a.b",
            "a/b",
            "fn",
            "gen",
            "test",
            "deps",
            "sandpool_guest",
            "sandpool-scheduler",
        ] {
            let error = check_name(name).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("a crate cannot have the name `{name}`: ")),
                "{error}"
            );
            assert!(error.hint().unwrap().contains("--name"));
        }
    }

    #[test]
    fn a_directory_names_the_crate() {
        for dir in ["squares", "/tmp/x/squares", "squares/", "squares/."] {
            assert_eq!(name_of(Path::new(dir)).unwrap(), "squares");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(name_of(Path::new(".")).unwrap(), here.file_name().unwrap().to_str().unwrap());
        assert!(name_of(Path::new("/")).unwrap_err().hint().unwrap().contains("--name"));
    }

    #[test]
    fn without_a_checkout_the_sdk_is_a_version() {
        assert_eq!(dependency(None), format!("{SDK_VERSION:?}"));
        assert_eq!(dependency(Some("/a \"b\"")), r#"{ path = "/a \"b\"" }"#);
        assert!(env!("CARGO_PKG_VERSION").starts_with(&format!("{SDK_VERSION}.")));
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("a/../b/c");
        // The second file would lie below the first.
        let error = make(&dir, &[("one", "1"), ("one/two", "2")]).unwrap_err();
        assert!(error.to_string().contains("one"), "{error}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        // Of an existing directory, only the files that were made are removed.
        fs::create_dir(folder.path().join("b")).unwrap();
        make(&dir, &[("one", "1"), ("one/two", "2")]).unwrap_err();
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        make(&dir, &[("one", "1"), ("two/three", "3")]).unwrap();
        assert_eq!(fs::read_to_string(dir.join("two/three")).unwrap(), "3");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("a/b-c_1.2")), "a/b-c_1.2");
        assert_eq!(quoted(Path::new("it's here")), r"'it'\''s here'");
    }
}
