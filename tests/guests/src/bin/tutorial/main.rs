//! The programs of the page `host/docs/from-multiprocessing.md`, each of them whole and in a file of its own. The first
//! argument names the one that runs.

/// A module for each program, and the choice among them. The files are included, because the page shows them as they are:
/// their `main` is private.
macro_rules! programs {
    ($($name:ident)*) => {
        $(mod $name {
            include!(concat!(stringify!($name), ".rs"));

            pub(crate) fn program() {
                main();
            }
        })*

        fn main() {
            match std::env::args().nth(1).as_deref() {
                $(Some(stringify!($name)) => $name::program(),)*
                other => panic!("the page has no program {other:?}"),
            }
        }
    };
}

programs! {
    squares process terminate spawn family queue joinable_queue simple_queue pipe wait sentinel lock rlock semaphore event
    condition barrier value array raw_array shared_memory shareable_list pool imap apply_async initializer executor
    logging
}
