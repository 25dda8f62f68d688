//! Tests of the whole: the built command runs real guests, and the tests look at what it prints, how it ends, and at
//! `/proc`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::print_stderr, reason = "a test says why it fails")]

mod bench;
mod book;
mod c;
mod chaos;
mod command;
mod compile;
mod component;
mod connections;
mod control_group;
mod deadlock;
#[path = "../delegated.rs"]
mod delegated;
mod descriptors;
mod embed;
mod examples;
#[path = "../hidden.rs"]
mod hidden;
mod host_pool;
mod hostile;
mod imports;
mod ipc;
mod jail;
mod lifetime;
mod limits;
mod logging;
mod managers;
mod map;
mod map_program;
mod module;
mod namespaces;
mod new;
mod ordinary_user;
mod pool;
mod pool_hostile;
mod proc;
mod process;
mod procfs;
mod programs;
mod queue;
mod simulation;
mod small_print;
mod soak;
mod specification;
mod stdio;
mod storms;
mod structure;
mod support;
mod sync;
mod terminal;
mod toolchain;
mod traced;
mod waits;
mod wasi;
mod wordcount;
mod written;
