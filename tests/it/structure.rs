//! The modules of the library, of the command and of the guest SDK import in one direction: each imports only from layers
//! below its own. The tables here say which layer a module is in. Files of the arena import each other without a circle.
//!
//! Sources are read as text, without comments, strings and what is compiled for tests only. A path inside of a macro counts
//! as one outside of it does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    &["flat", "object", "wait"],
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

/// The files and folders of the arena. A circle among them would be one module in several files.
#[test]
fn the_arena_has_no_circle() {
    let imports = inside("host/src", &["ipc"]);
    let has =
        |from: &str, name: &str| imports.iter().any(|import| import.from == from && import.name == name);
    assert!(has("object", "kind") && has("queue", "object") && has("arena", "layout"), "not all was read");
    if let Some(circle) = circle(&imports) {
        let steps: Vec<_> = circle
            .iter()
            .map(|Import { file, line, from, name }| {
                format!("host/src/ipc/{}:{line}: `{from}` imports `{name}`", file.display())
            })
            .collect();
        panic!(
            "a circle of imports: move what two files need into one below both, as the words that processes share are in \
             `layout` and `states`, or into one above both:\n{}",
            steps.join("\n")
        );
    }
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
        "modules import in one direction, as the layers in tests/it/structure.rs say:\n{}",
        wrong.join("\n")
    );
    assert!(imports.len() > 20, "only {} imports were found in {folder}: is this all?", imports.len());
}

/// A path in one module of a crate that leads to another.
#[derive(Debug, PartialEq, Eq)]
struct Import {
    file: PathBuf,
    line: usize,
    /// The module at the top of the crate that the file belongs to.
    from: String,
    /// The module at the top that the path leads to, or the path's first name if that is neither one nor a re-export.
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
        exports.extend(names.map(|name| (name, module_of(path)[0].clone())));
    }
    let mut imports = Vec::new();
    for (path, source) in &files {
        let module = module_of(path);
        for (line, name) in names_at_root(&source.text, module.len()) {
            let name = match exports.get(&name) {
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

/// The imports of the files and folders of a module from each other.
fn inside(crate_folder: &str, module: &[&str]) -> Vec<Import> {
    let folder = module.iter().fold(repository().join(crate_folder), |folder, name| folder.join(name));
    let (_, files) = sources(&folder, "mod.rs");
    let names: Vec<String> = files.keys().map(|path| module_of(path)[0].clone()).collect();
    let mut imports = Vec::new();
    for (path, source) in &files {
        let own = module_of(path);
        for (line, name) in names_in(&source.text, module, own.len()) {
            if name != own[0] && names.contains(&name) {
                imports.push(Import { file: path.clone(), line, from: own[0].clone(), name });
            }
        }
    }
    imports
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

/// A file's text without comments, strings and tests, and the modules in files of their own that are for tests only.
struct Source {
    text: String,
    tests: Vec<String>,
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

/// The text with nothing in its comments, strings and characters but line ends.
fn bare(text: &str) -> String {
    let mut bare = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_in_word = bare.ends_with(is_of_word);
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = (!is_in_word).then(|| raw_string(rest)).flatten() {
            len
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' && (rest.starts_with("'\\") || rest.chars().nth(2) == Some('\'')) {
            quoted(rest, '\'')
        } else {
            bare.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let (hidden, behind) = rest.split_at(len);
        bare.push(' ');
        bare.extend(hidden.chars().filter(|c| *c == '\n'));
        rest = behind;
    }
    bare
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a comment that may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    for (at, _) in text.char_indices() {
        if text[at..].starts_with("/*") {
            depth += 1;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return at + 2;
            }
        }
    }
    text.len()
}

/// The length of a raw string, if there is one here.
fn raw_string(text: &str) -> Option<usize> {
    let raw = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let begin = text.len() - raw.len() + hashes + 1;
    raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len()))
}

/// The length of a string or a character, in which a backslash hides what follows it.
fn quoted(text: &str, quote: char) -> usize {
    let mut is_hidden = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if is_hidden => is_hidden = false,
            '\\' => is_hidden = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Takes out all items that are compiled for tests only.
fn without_tests(text: &str) -> Source {
    let mut source = Source { text: String::new(), tests: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find("#[cfg(") {
        let (before, found) = rest.split_at(at);
        source.text.push_str(before);
        let (attribute, mut behind) = found.split_at(bracketed(found));
        let is_for_tests =
            attribute.split(|c| !is_of_word(c)).any(|word| word == "test") && !attribute.contains("not(test");
        if !is_for_tests {
            source.text.push_str(attribute);
            rest = behind;
            continue;
        }
        while behind.trim_start().starts_with("#[") {
            behind = &behind[bracketed(behind)..];
        }
        let (item, behind) = behind.split_at(item(behind));
        if let Some(name) = item.trim().strip_suffix(';').and_then(|item| item.split_once("mod ")) {
            source.tests.push(name.1.trim().to_owned());
        }
        let hidden = &rest[at..rest.len() - behind.len()];
        source.text.extend(hidden.chars().filter(|c| *c == '\n'));
        rest = behind;
    }
    source.text.push_str(rest);
    source
}

/// The length of an attribute, with what is before it.
fn bracketed(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '[' => depth += 1,
            ']' if depth == 1 => return at + 1,
            ']' => depth -= 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of an item or a statement: to its semicolon, or to the end of its braces.
fn item(text: &str) -> usize {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return at,
            '}' if depth == 1 => return at + 1,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The names that a root gives to what its modules have, with the first name of where each comes from.
fn re_exports(root: &str) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    let mut rest = root;
    while !rest.is_empty() {
        let (found, behind) = rest.split_at(item(rest).max(1).min(rest.len()));
        // The braces of a list end it for `item`, before the semicolon.
        if let Some((_, path)) = found.split_once("use ")
            && !found.contains("mod ")
        {
            let names = |part: &str| part.rsplit([':', ' ']).next().unwrap_or_default().to_owned();
            let head = path.split("::").next().unwrap_or_default().trim();
            let names = path.split(['{', '}', ',', ';']).map(|part| names(part.trim()));
            exports.extend(names.filter(|name| !name.is_empty()).map(|name| (name, head.to_owned())));
        }
        rest = behind;
    }
    exports
}

/// The macros that a file exports.
fn macro_names(text: &str) -> Vec<String> {
    let exported = text.split("#[macro_export]").skip(1);
    let names = exported.filter_map(|item| item.split_once("macro_rules! "));
    names.map(|(_, name)| name.chars().take_while(|c| is_of_word(*c)).collect()).collect()
}

/// The first names, and their lines, of all paths that lead to the root of the crate, out of a file that is a module this
/// deep.
fn names_at_root(text: &str, depth: usize) -> Vec<(usize, String)> {
    names_in(text, &[], depth)
}

/// The names, and their lines, of all of a module that paths lead to, out of a file that is a module this deep below it.
fn names_in(text: &str, module: &[&str], depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // For each open brace whether it is that of a module.
    let mut braces = Vec::new();
    let mut line = 1;
    for (at, c) in text.char_indices() {
        let (before, rest) = text.split_at(at);
        match c {
            '\n' => line += 1,
            '{' => {
                let mut words = before.trim_end().rsplit(|c| !is_of_word(c));
                braces.push(words.nth(1) == Some("mod"));
            }
            '}' => drop(braces.pop()),
            'c' | 's' if !before.ends_with(|c| is_of_word(c) || c == ':') => {
                let ups = depth + braces.iter().filter(|is_module| **is_module).count();
                let names = match rest.strip_prefix("crate::") {
                    Some(path) => names_below(path, module),
                    None if rest.starts_with("super::") => first_names(rest, ups),
                    None => Vec::new(),
                };
                found.extend(names.into_iter().map(|name| (line, name)));
            }
            _ => {}
        }
    }
    found
}

/// The first names below a module of a path from the root, or of a list of them.
fn names_below(path: &str, module: &[&str]) -> Vec<String> {
    let Some((first, rest)) = module.split_first() else { return first_names(path, 0) };
    let path = path.trim_start();
    if let Some(list) = path.strip_prefix('{') {
        return parts(list).into_iter().flat_map(|part| names_below(part, module)).collect();
    }
    let behind = path.strip_prefix(first).and_then(|path| path.strip_prefix("::"));
    behind.map_or_else(Vec::new, |path| names_below(path, rest))
}

/// The first names of a path, or of a list of them, that lies this deep below the root.
fn first_names(path: &str, depth: usize) -> Vec<String> {
    let path = path.trim_start();
    if let Some(list) = path.strip_prefix('{') {
        return parts(list).into_iter().flat_map(|part| first_names(part, depth)).collect();
    }
    match path.strip_prefix("super::") {
        Some(rest) if depth > 0 => first_names(rest, depth - 1),
        _ if depth > 0 => Vec::new(),
        _ => {
            let name: String = path.chars().take_while(|c| is_of_word(*c)).collect();
            if name.is_empty() || name == "self" { Vec::new() } else { vec![name] }
        }
    }
}

/// The parts of a list whose brace is open already.
fn parts(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut depth) = (0, 0);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[begin..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts
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
    let names = names_at_root(&source.text, 2);
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
    let exports: Vec<_> = exports.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
    assert_eq!(exports, [("A", "a"), ("C", "a"), ("E", "a"), ("F", "other")]);
}

#[test]
fn circles_are_found() {
    let text = "use super::near; use crate::ipc::{one, two::x}; use crate::{sys, ipc::{three::{y}, four}}; use super::super::up;";
    let names = names_in(text, &["ipc"], 1).into_iter().map(|(_, name)| name);
    assert_eq!(names.collect::<Vec<_>>(), ["near", "one", "two", "three", "four", "super"]);
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
