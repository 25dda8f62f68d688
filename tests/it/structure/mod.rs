//! The modules of the library, of the command and of the guest SDK import in one direction: each imports only from layers
//! below its own. The tables here say which layer a module is in. In each folder, files and folders that lie side by side import
//! each other without a circle.
//!
//! Sources are read as text, without comments, strings and what is compiled for tests only. A path inside of a macro counts
//! as one outside of it does.

mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use self::source::{Source, absolute, bare, macro_names, paths, re_exports, without_tests};
use crate::support::repository;

/// The library's layers, lowest first. Modules of one layer don't import each other. Modules that exist for tests and
/// benchmarks only, as `lib.rs` says by their `cfg`, have no layer: they may import anything, and nothing imports them.
const LIBRARY: &[&[&str]] = &[
    &["codec", "guest_text", "linux", "nearest", "patient", "sys", "units"],
    &["error", "ipc", "native"],
    &["cache_dirs", "children", "config", "wire"],
    &["jail", "written"],
    &["control"],
    &["child"],
    &["engine", "gateway"],
    &["process", "supervised"],
    &["imports", "pool", "run"],
    &["supervisor"],
    &["init"],
];

/// The command's layers.
const COMMAND: &[&[&str]] = &[
    &["contract"],
    &["json", "output", "toolchain"],
    &["exit_code"],
    &["doctor", "text"],
    &["interrupt"],
    &["commands"],
    &["cli"],
];

/// The layers of the guest SDK. `raw` has the imports and knows nothing of what is made of them.
const SDK: &[&[&str]] = &[
    &["bytes", "deadline"],
    &["raw"],
    &["handles", "io", "limits", "logging"],
    &["error"],
    &["flat", "object", "pickle", "wait"],
    &["codec"],
    &["message", "start", "sync"],
    &["pipe", "queue", "shared", "task"],
    &["collections", "net", "process"],
    &["manager", "pool"],
];

#[test]
fn the_library_imports_in_one_direction() {
    check("host/src", "lib.rs", LIBRARY);
}

#[test]
fn the_command_imports_in_one_direction() {
    check("host/cli/src", "main.rs", COMMAND);
}

#[test]
fn the_guest_sdk_imports_in_one_direction() {
    check("guest-sdk/rust/src", "lib.rs", SDK);
}

/// The files and folders side by side in one folder. A circle among them would be one module in several files.
#[test]
fn no_folder_has_a_circle() {
    let mut circles = Vec::new();
    for (source, root) in [
        ("host/src", "lib.rs"),
        ("host/cli/src", "main.rs"),
        ("guest-sdk/rust/src", "lib.rs"),
        ("guest-sdk/scheduler/src", "lib.rs"),
    ] {
        let read = Crate::read(&repository().join(source), root);
        let folders = read.among_siblings();
        for (folder, imports) in &folders {
            let Some(circle) = circle(imports) else { continue };
            circles.push(format!("in {source}/{}:", folder.join("/")));
            circles.extend(circle.iter().map(|Import { file, line, from, name }| {
                format!("  {source}/{}:{line}: `{from}` imports `{name}`", file.display())
            }));
        }
        let has = |folder: &[&str], from: &str, name: &str| {
            let imports =
                folders.iter().find(|(known, _)| known.iter().eq(folder)).map(|(_, imports)| imports);
            imports.into_iter().flatten().any(|import| import.from == from && import.name == name)
        };
        let are_read = match source {
            "host/src" => {
                has(&["ipc"], "object", "kind") && has(&["process", "component"], "files", "streams")
            }
            "host/cli/src" => {
                has(&["toolchain"], "build", "c") && has(&["commands", "map"], "results", "journal")
            }
            "guest-sdk/rust/src" => has(&["raw"], "mute", "process"),
            _ => has(&[], "scheduler", "entry"),
        };
        assert!(are_read, "not all of {source} was read: {:?}", folders.keys());
    }
    assert!(
        circles.is_empty(),
        "circles of imports: move what two files need into one below both, as `host/src/pool/sink.rs` is below those who fill and \
         empty it, or into one above both, as `host/src/config/file.rs` has what sandboxes read of a file; or pass a value in:\n{}",
        circles.join("\n")
    );
}

/// A package has the files of its own folder only, so that a file from elsewhere would be missing where it is compiled.
#[test]
fn published_crates_include_their_own_files_only() {
    let mut included = 0;
    for folder in
        ["host", "host/cli", "guest-sdk/abi", "guest-sdk/scheduler", "guest-sdk/macros", "guest-sdk/rust"]
    {
        let root = fs::canonicalize(repository().join(folder)).unwrap();
        let mut folders = vec![root.join("src")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read_to_string(&path).unwrap();
                let names = ["include_str!(\"", "include_bytes!(\"", "include!(\""]
                    .iter()
                    .flat_map(|include| text.split(include).skip(1))
                    .filter_map(|rest| rest.split('"').next());
                for name in names {
                    let file = fs::canonicalize(folder.join(name)).unwrap();
                    assert!(file.starts_with(&root), "{} includes {name}", path.display());
                    included += 1;
                }
            }
        }
    }
    assert!(included > 5, "only {included} files are included: is this all?");
}

fn check(folder: &str, root: &str, layers: &[&[&str]]) {
    let layer_of = |name: &str| layers.iter().position(|layer| layer.contains(&name));
    let (modules, imports) = read(&repository().join(folder), root);
    let mut wrong = Vec::new();
    for module in &modules {
        let rows = layers.iter().flat_map(|layer| layer.iter()).filter(|name| *name == module).count();
        if rows != 1 {
            wrong.push(format!(
                "{folder}: the module `{module}` is {rows} times in the table of layers: write it once, above all that it \
                 imports"
            ));
        }
    }
    for name in layers.iter().flat_map(|layer| layer.iter()) {
        if !modules.iter().any(|module| module == name) {
            wrong.push(format!("{folder}: the table of layers has `{name}`, which is no module: remove it"));
        }
    }
    for Import { file, line, from, name } in &imports {
        let place = format!("{folder}/{}:{line}: `{from}` imports `{name}`", file.display());
        match (layer_of(from), layer_of(name)) {
            (Some(own), Some(other)) if other < own => {}
            (Some(own), Some(other)) => wrong.push(format!(
                "{place}, of layer {other}, but is of layer {own} itself: move what both need into a module below both, or \
                 have the caller pass it in as a value or a closure"
            )),
            (Some(_), None) => wrong.push(format!(
                "{place}, which is neither a module with a layer nor a re-export of one: name the module that has it; code for \
                 tests only is out of reach"
            )),
            // Told above.
            (None, _) => {}
        }
    }
    assert!(
        wrong.is_empty(),
        "modules import in one direction, as the layers in tests/it/structure/mod.rs say:\n{}",
        wrong.join("\n")
    );
    assert!(imports.len() > 20, "only {} imports were found in {folder}: is this all?", imports.len());
}

/// A path in one module that leads to another beside it.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    file: PathBuf,
    line: usize,
    /// The module that the file belongs to.
    from: String,
    /// The module that the path leads to; at the top of a crate, the path's first name if that is neither one nor a re-export.
    name: String,
}

/// The sources in a folder that aren't for tests only: that of its root, and those of the modules below.
fn sources(folder: &Path, root: &str) -> (Source, BTreeMap<PathBuf, Source>) {
    let mut files = BTreeMap::new();
    list(folder, Path::new(""), &mut files);
    let root = files.remove(Path::new(root)).expect("the root of the folder");
    let mut only_tests: Vec<Vec<String>> = root.tests.iter().map(|name| vec![name.clone()]).collect();
    for (path, source) in &files {
        let module = module_of(path);
        only_tests.extend(source.tests.iter().map(|name| [&*module, std::slice::from_ref(name)].concat()));
    }
    files.retain(|path, _| !only_tests.iter().any(|tests| module_of(path).starts_with(tests)));
    (root, files)
}

/// The modules at the top of a crate, and all that they import of each other.
fn read(folder: &Path, root: &str) -> (Vec<String>, Vec<Import>) {
    let (root, files) = sources(folder, root);
    let mut modules: Vec<String> =
        files.keys().filter_map(|path| module_of(path).into_iter().next()).collect();
    modules.dedup();
    let mut exports = re_exports(&root.text);
    for (path, source) in &files {
        // Such a macro is at the root, wherever it is written.
        let names = macro_names(&source.text).into_iter();
        exports.extend(names.map(|name| (name, module_of(path))));
    }
    let mut imports = Vec::new();
    for (path, source) in &files {
        let module = module_of(path);
        for (line, path_to) in paths(&source.text, &module) {
            let name = path_to[0].clone();
            let name = match exports.get(&name).map(|of| &of[0]) {
                _ if modules.contains(&name) => name,
                Some(of) if modules.contains(of) => of.clone(),
                // Another crate's.
                Some(_) => continue,
                None => name,
            };
            if name != module[0] {
                imports.push(Import { file: path.clone(), line, from: module[0].clone(), name });
            }
        }
    }
    (modules, imports)
}

/// The modules of a crate, by their paths from its root.
struct Crate {
    modules: BTreeMap<Vec<String>, (PathBuf, Source)>,
    /// Names that a module gives to what lies elsewhere, by the path that they make, with the path to there.
    exports: BTreeMap<Vec<String>, Vec<String>>,
}

impl Crate {
    fn read(folder: &Path, root: &str) -> Self {
        let (of_root, files) = sources(folder, root);
        let files = files.into_iter().map(|(path, source)| (module_of(&path), (path, source)));
        Self::new(files.chain([(Vec::new(), (PathBuf::from(root), of_root))]).collect())
    }

    fn new(modules: BTreeMap<Vec<String>, (PathBuf, Source)>) -> Self {
        let mut exports = BTreeMap::new();
        for (module, (_, source)) in &modules {
            for (name, path) in re_exports(&source.text) {
                let is_relative = matches!(path[0].as_str(), "crate" | "self" | "super");
                let below = [&module[..], &path[..1]].concat();
                let path = match is_relative {
                    true => absolute(&path, module),
                    false if modules.contains_key(&below) => [&module[..], &path].concat(),
                    // Another crate's.
                    false => continue,
                };
                exports.insert([&module[..], &[name]].concat(), path);
            }
        }
        Self { modules, exports }
    }

    /// The module that has what a path leads to, as far as re-exports by name tell.
    fn resolve(&self, mut path: Vec<String>) -> &[String] {
        // Re-exports of one name could lead to each other.
        for _ in 0..16 {
            let found = (1..=path.len()).find_map(|len| {
                let of =
                    self.exports.get(&path[..len]).filter(|_| !self.modules.contains_key(&path[..len]))?;
                Some([&of[..], &path[len..]].concat())
            });
            match found {
                Some(of) => path = of,
                None => break,
            }
        }
        let module = (0..=path.len()).rev().find_map(|len| self.modules.get_key_value(&path[..len]));
        module.map_or(&[], |(module, _)| module)
    }

    /// For each folder, the imports of its files and folders from each other; of several from one to the same, the first.
    fn among_siblings(&self) -> BTreeMap<&[String], Vec<Import>> {
        let mut folders: BTreeMap<_, Vec<Import>> = BTreeMap::new();
        for (own, (file, source)) in &self.modules {
            for (line, path) in paths(&source.text, own) {
                let other = self.resolve(path);
                let common = own.iter().zip(other).take_while(|(one, other)| one == other).count();
                let (Some(from), Some(name)) = (own.get(common), other.get(common)) else { continue };
                let imports = folders.entry(&own[..common]).or_default();
                if !imports.iter().any(|known| known.from == *from && known.name == *name) {
                    let (from, name) = (from.clone(), name.clone());
                    imports.push(Import { file: file.clone(), line, from, name });
                }
            }
        }
        folders
    }
}

/// Imports of which each leads to the file of the next, and the last to that of the first; the shortest such circle.
fn circle(imports: &[Import]) -> Option<Vec<&Import>> {
    let from_here = |first: &'_ Import| {
        let mut ways: Vec<Vec<usize>> = imports
            .iter()
            .enumerate()
            .filter(|(_, import)| std::ptr::eq(*import, first))
            .map(|(at, _)| vec![at])
            .collect();
        let mut seen = BTreeSet::from([first.name.clone()]);
        while let Some(at) = (0..ways.len()).min_by_key(|at| ways[*at].len()) {
            let way = ways.remove(at);
            let end = &imports[way[way.len() - 1]].name;
            if *end == first.from {
                return Some(way);
            }
            for (next, import) in imports.iter().enumerate().filter(|(_, import)| import.from == *end) {
                if import.name == first.from || seen.insert(import.name.clone()) {
                    ways.push([&way[..], &[next]].concat());
                }
            }
        }
        None
    };
    let shortest = imports.iter().filter_map(from_here).min_by_key(Vec::len)?;
    Some(shortest.into_iter().map(|at| &imports[at]).collect())
}

fn list(folder: &Path, below: &Path, files: &mut BTreeMap<PathBuf, Source>) {
    for entry in fs::read_dir(folder.join(below)).unwrap() {
        let path = below.join(entry.unwrap().file_name());
        if folder.join(&path).is_dir() {
            list(folder, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(folder.join(&path)).unwrap();
            files.insert(path, without_tests(&bare(&text)));
        }
    }
}

/// The names of the module that a file is, from the top.
fn module_of(file: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        file.with_extension("").iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.pop_if(|last| last == "mod");
    names
}

#[test]
fn each_way_to_write_an_import_is_seen() {
    let text = r##"
        //! [`a`](crate::comment)
        use crate::one; /* crate::comment /* crate::comment */ crate::comment */
        use crate::{two::{x, y}, three::z,
            Four as Five, self};
        pub(in crate::six) fn f<'a>(text: &'a str) -> crate::seven::T {
            let (quote, text) = ('"', "crate::string \" crate::string");
            let raw = r#"crate::string " crate::string"#;
            super::super::eight::f(b'\'', super::near);
            $crate::nine::f(my_crate::x, a::crate_::y)
        }
        mod inner {
            use super::super::{super::ten::{a, b}, super::eleven, near};
        }
        #[cfg(test)]
        mod apart;
        #[cfg(any(test, feature = "testing"))]
        #[allow(unused, reason = "]")]
        pub(crate) fn tests() { crate::test::f() }
        #[cfg(not(test))]
        use super::{super::twelve};
        #[cfg(all(test, target_os = "linux"))]
        mod tests {
            use crate::test;
        }
        use crate::last;
    "##;
    let source = without_tests(&bare(text));
    assert_eq!(source.tests, ["apart"]);
    let own = ["own", "file"].map(str::to_owned);
    let paths_elsewhere = paths(&source.text, &own).into_iter().filter(|(_, path)| path[0] != "own");
    let mut names: Vec<_> = paths_elsewhere.map(|(line, path)| (line, path[0].clone())).collect();
    names.dedup();
    let expected = [
        (3, "one"),
        (4, "two"),
        (4, "three"),
        (4, "Four"),
        (6, "six"),
        (6, "seven"),
        (9, "eight"),
        (10, "nine"),
        (13, "ten"),
        (13, "eleven"),
        (21, "twelve"),
        (26, "last"),
    ];
    assert_eq!(names, expected.map(|(line, name)| (line, name.to_owned())));
    let macros = "#[macro_export]\nmacro_rules! shown { () => {} }\nmacro_rules! hidden { () => {} }";
    assert_eq!(macro_names(macros), ["shown"]);
    let root =
        "mod a; pub mod b { pub use crate::x::Hidden; }\npub use a::{A, c::C, D as E,};\npub use other::F;";
    let exports = re_exports(&without_tests(&bare(root)).text);
    let exports: Vec<_> = exports.iter().map(|(name, of)| (name.as_str(), of.join("::"))).collect();
    let expected = [("A", "a::A"), ("C", "a::c::C"), ("E", "a::D"), ("F", "other::F")];
    assert_eq!(exports, expected.map(|(name, of)| (name, of.to_owned())));
}

#[test]
fn circles_are_found() {
    let text = "use super::near; use crate::ipc::{one, two::x}; use crate::{sys, ipc::{three::{y}, four}}; use super::super::up; \
                mod inner { use super::{own, super::{self as outer, five}}; use super::six::<T>(); }";
    let own = ["ipc", "file"].map(str::to_owned);
    let found: Vec<_> = paths(text, &own).into_iter().map(|(_, path)| path.join("::")).collect();
    let expected = [
        "ipc::near",
        "ipc::one",
        "ipc::two::x",
        "sys",
        "ipc::three::y",
        "ipc::four",
        "up",
        "ipc::file::own",
        "ipc",
        "ipc::five",
        "ipc::file::six",
    ];
    assert_eq!(found, expected);
    let import = |(line, (from, name)): (usize, &(&str, &str))| Import {
        file: PathBuf::from(format!("{from}.rs")),
        line,
        from: (*from).to_owned(),
        name: (*name).to_owned(),
    };
    let imports = |pairs: &[(&str, &str)]| pairs.iter().enumerate().map(import).collect::<Vec<_>>();
    let found = |pairs: &[(&str, &str)]| {
        circle(&imports(pairs)).map(|circle| circle.iter().map(|import| import.line).collect::<Vec<_>>())
    };
    assert_eq!(found(&[("a", "b"), ("b", "c"), ("a", "c"), ("d", "a")]), None);
    assert_eq!(found(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]), Some(vec![2, 3, 4]));
    assert_eq!(found(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "b")]), Some(vec![1, 3]));
}

#[test]
fn siblings_are_found_behind_re_exports() {
    let files = [
        ("lib.rs", "mod a; pub use a::T;"),
        (
            "a/mod.rs",
            "mod b; mod c; pub mod d; pub(crate) use self::b::T; use c::{Inner as Outer, inner}; use other::b;",
        ),
        ("a/b.rs", "use super::Outer;"),
        ("a/c.rs", "fn f() -> crate::T { super::unknown() }"),
        ("a/d/mod.rs", "use super::{d::e, inner::{self, f}};"),
        ("a/d/e.rs", "use super::super::super::a::{b, T};"),
    ];
    let files = files.map(|(file, text)| {
        let module = if file == "lib.rs" { Vec::new() } else { module_of(Path::new(file)) };
        (module, (PathBuf::from(file), without_tests(&bare(text))))
    });
    let read = Crate::new(BTreeMap::from(files));
    let folders = read.among_siblings();
    let found: Vec<_> = folders
        .iter()
        .flat_map(|(folder, imports)| {
            imports.iter().map(|import| format!("{}: {} {}", folder.join("::"), import.from, import.name))
        })
        .collect();
    assert_eq!(found, ["a: b c", "a: c b", "a: d c", "a: d b"]);
}
