//! A `/proc` that hides processes from those who may not trace them, as some machines have it (the mount option `hidepid`).

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Does something in a mount namespace with such a `/proc`, an instance of its own: nobody else's changes. Only root may.
pub(crate) fn where_processes_are_hidden<T: Send>(something: impl FnOnce() -> T + Send) -> T {
    let apart = || {
        // Only this thread's, and its children's.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=invisible")).unwrap();
        something()
    };
    std::thread::scope(|scope| scope.spawn(apart).join()).unwrap()
}
