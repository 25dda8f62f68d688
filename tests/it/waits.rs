//! Everything in the SDK that waits can be told for how long, and not to wait at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::{finish, guest, repository, run};

/// A guest tries each form where nothing comes; one that waits all the same hangs.
#[test]
fn each_form_gives_up_in_time() {
    let mut command = run(guest("waits"));
    command.args(["--arena-size", "32MiB"]);
    finish(&mut command).expect_code(0).expect_checks(&[
        "SimpleQueue::get",
        "SimpleQueue::put",
        "Queue::iter",
        "JoinableQueue::try_join",
        "Connection::recv_bytes_max",
        "Connection::try_recv_bytes_into",
        "Array::lock",
        "Process::try_join",
        "AsyncResult::wait, in a full arena",
        "a wait among many results",
        "Pool::apply",
        "Pool::map",
        "Pool::join",
        "IMap::next",
        "Executor::map ends with its time",
        "Executor::shutdown",
        "Exchange::start",
        "Exchange::get",
        "Exchange::next",
        "Scoped::map",
        "Scoped::outcomes",
    ]);
}

/// The only ways to wait for ever.
const FOR_EVER: [&str; 3] = ["FOREVER", "Deadline::NEVER", "Patience::Endless"];

/// Functions that wait for ever without a twin that doesn't, and why that is right.
const ALONE: [(&str, &str); 12] = [
    // They say what a timeout is.
    ("deadline.rs", ""),
    ("sync/error.rs", "timeout"),
    // Their timeout is an argument, or was given before.
    ("wait.rs", "wait"),
    ("pool/futures.rs", "wait"),
    ("pool/futures.rs", "as_completed"),
    ("sync/barrier.rs", "patience"),
    ("net/client.rs", "builder"),
    ("manager/proxy.rs", "call"),
    // A worker does nothing but to wait for tasks, and to give results; and its owner ends it.
    ("pool/worker.rs", ""),
    // The gateway answers at once, or has ended.
    ("net/listener.rs", "bind"),
    // A manager does nothing but to wait for calls; and it ends with the last who can call.
    ("manager/server.rs", "wait"),
    // The manager answers, or its end is an error.
    ("manager/proxy.rs", "construct"),
];

/// Each function that may wait for ever has another beside it that doesn't: of the same name, with `_timeout`.
#[test]
fn who_waits_for_ever_has_a_form_with_a_timeout() {
    let source = repository().join("guest-sdk/rust/src");
    let mut files = Vec::new();
    find(&source, &mut files);
    assert!(files.len() > 40, "only {} files", files.len());
    let mut found = BTreeSet::new();
    for path in &files {
        let name = path.strip_prefix(&source).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut function = "";
        for line in code.lines().map(str::trim) {
            if line.starts_with("//") || line.starts_with("use ") {
                continue;
            }
            if let Some((_, rest)) = line.split_once("fn ").filter(|(before, _)| is_declared(before)) {
                function = rest.split(['(', '<']).next().unwrap_or_default();
            }
            if !FOR_EVER.iter().any(|way| line.contains(way)) {
                continue;
            }
            found.insert(name.clone());
            let is_alone = ALONE.iter().any(|(file, of)| *file == name && (of.is_empty() || *of == function));
            let twin = format!("fn {function}_timeout");
            assert!(
                is_alone || text.contains(&twin),
                "{name}: `{function}` waits for ever, and there is no `{function}_timeout`: {line}"
            );
        }
    }
    for file in [
        "queue/fifo.rs",
        "pipe/connection.rs",
        "process/child.rs",
        "pool/handle.rs",
        "pool/exchange.rs",
        "sync/lock.rs",
    ] {
        assert!(found.contains(file), "{file} seems not to wait: is this test right?");
    }
    assert!(
        !found.iter().any(|file| file.starts_with("raw/")),
        "an import's timeout is an argument: {found:?}"
    );
}

/// Whether what stands before `fn` is a declaration, and not a type.
fn is_declared(before: &str) -> bool {
    before.split_whitespace().all(|word| word == "pub" || word == "unsafe" || word.starts_with("pub("))
}

fn find(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => find(&path, files),
            false => files.push(path),
        }
    }
}
