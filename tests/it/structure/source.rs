//! A source file, read as text: without comments, strings and tests, the paths that the file has and the names that it gives.

use std::collections::BTreeMap;

/// A file's text without comments, strings and tests, and the modules in files of their own that are for tests only.
pub(super) struct Source {
    pub(super) text: String,
    pub(super) tests: Vec<String>,
}

/// The text with nothing in its comments, strings and characters but line ends.
pub(super) fn bare(text: &str) -> String {
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
pub(super) fn without_tests(text: &str) -> Source {
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

/// The names that a module gives to what lies elsewhere, each with the path to there, as it is written.
pub(super) fn re_exports(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut exports = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        // The braces of a list end it for `item`, before the semicolon.
        let (found, behind) = rest.split_at(item(rest).max(1).min(rest.len()));
        if let Some(path) = used(found) {
            exports.extend(expanded(path).into_iter().map(|(path, name)| (name, path)));
        }
        rest = behind;
    }
    exports
}

/// The path of an item that is a `use`.
fn used(item: &str) -> Option<&str> {
    let mut item = item.trim_start();
    while item.starts_with('#') {
        item = item[bracketed(item)..].trim_start();
    }
    if let Some(public) = item.strip_prefix("pub") {
        let scope = public.trim_start().strip_prefix('(').and_then(|scope| scope.split_once(')'));
        item = scope.map_or(public, |(_, item)| item).trim_start();
    }
    item.strip_prefix("use ")
}

/// The macros that a file exports.
pub(super) fn macro_names(text: &str) -> Vec<String> {
    let exported = text.split("#[macro_export]").skip(1);
    let names = exported.filter_map(|item| item.split_once("macro_rules! "));
    names.map(|(_, name)| name.chars().take_while(|c| is_of_word(*c)).collect()).collect()
}

/// All paths, and their lines, that begin at the root of the crate or at a module of the file, which is this one; from the root.
pub(super) fn paths(text: &str, own: &[String]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    // For each open brace the name of the module that it is of, if it is of one.
    let mut braces: Vec<Option<&str>> = Vec::new();
    let (mut line, mut behind_list) = (1, 0);
    for (at, c) in text.char_indices() {
        let (before, rest) = text.split_at(at);
        match c {
            '\n' => line += 1,
            '{' => {
                let mut words = before.trim_end().rsplit(|c| !is_of_word(c));
                let name = words.next();
                braces.push(name.filter(|_| words.next() == Some("mod")));
            }
            '}' => drop(braces.pop()),
            'c' | 's'
                if at >= behind_list
                    && ["crate::", "super::", "self::"].iter().any(|begin| rest.starts_with(begin))
                    && !before.ends_with(|c| is_of_word(c) || c == ':') =>
            {
                let inner = braces.iter().flatten().map(|name| (*name).to_owned());
                let own: Vec<_> = own.iter().cloned().chain(inner).collect();
                let paths = expanded(rest).into_iter().map(|(path, _)| (line, absolute(&path, &own)));
                found.extend(paths.filter(|(_, path)| !path.is_empty()));
                // The paths in a list go on from the one before it.
                let len = rest.find(|c| !is_of_word(c) && c != ':').unwrap_or(rest.len());
                if rest[len..].starts_with('{') && rest[..len].ends_with("::") {
                    behind_list = at + len + item(&rest[len..]);
                }
            }
            _ => {}
        }
    }
    found
}

/// The paths of a list of them, or the one that this is, and the last name of each or the one that it is given.
fn expanded(path: &str) -> Vec<(Vec<String>, String)> {
    let path = path.trim_start();
    if let Some(list) = path.strip_prefix('{') {
        return parts(list).into_iter().flat_map(expanded).collect();
    }
    let word = |text: &str| text.chars().take_while(|c| is_of_word(*c)).collect::<String>();
    let name = word(path);
    if name.is_empty() {
        return Vec::new();
    }
    let rest = path[name.len()..].trim_start();
    let below = rest.strip_prefix("::").map(expanded).unwrap_or_default();
    if below.is_empty() {
        let given = rest.strip_prefix("as ").map_or_else(|| name.clone(), |rest| word(rest.trim_start()));
        return vec![(vec![name], given)];
    }
    let of_list = |(mut path, given): (Vec<String>, String)| {
        path.insert(0, name.clone());
        (path, if given == "self" { name.clone() } else { given })
    };
    below.into_iter().map(of_list).collect()
}

/// A path from the root that is written so in this module.
pub(super) fn absolute(path: &[String], own: &[String]) -> Vec<String> {
    let mut absolute = own.to_vec();
    for name in path {
        match name.as_str() {
            "crate" => absolute.clear(),
            "super" => drop(absolute.pop()),
            "self" => {}
            _ => absolute.push(name.clone()),
        }
    }
    absolute
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
