//! Panics in all places: each is exit code 1 of exactly the process that panics, whatever its hook does.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{set_hook, take_hook};
use std::pin::Pin;
use std::sync::Mutex;

use sandpool_guest::pool::{Cause, PoolEnd, PoolError};
use sandpool_guest::process::Trap;
use sandpool_guest::{Event, ExitStatus, Lock, Pool, Process, Queue, scoped_map};
use sandpool_test_guests::{Outcome, check, ended, same};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[sandpool_guest::main]
fn main() -> Outcome {
    match std::env::args().nth(1).as_deref() {
        None => {
            hooks()?;
            hooks_of_pools()?;
            places()?;
            places_of_pools()?;
            nothing_is_poisoned_elsewhere()
        }
        Some("silent") => {
            // Its output is written, as at any end.
            print!("before");
            set_hook(Box::new(|_| ()));
            panic!("without a word")
        }
        Some("in-hook") => {
            set_hook(Box::new(|_| panic!("in the hook")));
            panic!("before the hook")
        }
        Some("memory") => {
            // It has been refused memory before, which has nothing to do with that.
            let refused = Vec::<u8>::new().try_reserve_exact(1 << 30).is_err();
            set_hook(Box::new(|_| ()));
            panic!("refused: {refused}")
        }
        Some(other) => Err(format!("there is no {other}").into()),
    }
}

/// Has a process end by a panic.
fn panics(what: &str, body: impl FnOnce()) -> Outcome {
    let child = Process::fork(body)?;
    ended(&child, ExitStatus::Exited(1)).map_err(|error| format!("{what}: {error}"))?;
    check(what, true)
}

fn hooks() -> Outcome {
    panics("the SDK's own hook", || panic!("as ever"))?;
    panics("a hook that says nothing", || {
        set_hook(Box::new(|_| ()));
        panic!("without a word");
    })?;
    panics("a hook that panics", || {
        set_hook(Box::new(|_| panic!("in the hook")));
        panic!("before the hook");
    })?;
    panics("a hook that calls the one before it", || {
        let before = take_hook();
        set_hook(Box::new(move |panic| before(panic)));
        panic!("with a word more");
    })?;
    panics("none but the standard library's", || {
        let _ = take_hook();
        panic!("as in any program");
    })?;
    panics("a hook that starts a process", || {
        set_hook(Box::new(|_| {
            let child = Process::fork(|| ()).expect("a child");
            assert_eq!(child.join().ok(), Some(ExitStatus::Exited(0)));
        }));
        panic!("and its child ends well");
    })?;
    let aborts = Process::fork(|| {
        set_hook(Box::new(|_| ()));
        std::process::abort()
    })?;
    ended(&aborts, ExitStatus::Trapped(Trap::Unreachable))?;
    check("an abort is none", true)
}

fn hooks_of_pools() -> Outcome {
    let pool = Pool::builder().processes(1).build()?;
    let cause = |result: Result<(), PoolError>| match result {
        Err(PoolError::Task(error)) => Ok(error.cause().clone()),
        other => Err(format!("failed: {other:?}")),
    };
    let panicked = |message: &str| Cause::Panicked(message.to_owned());
    let task = |()| -> () {
        set_hook(Box::new(|_| ()));
        panic!("without a word")
    };
    same(
        "a task whose hook says nothing",
        cause(pool.apply(task, ()))?,
        panicked("its hook kept the message"),
    )?;
    let task = |()| -> () {
        set_hook(Box::new(|_| ()));
        let moved = Undroppable;
        // The child has it, so this process drops its own silently: but not this panic.
        drop(Process::fork(move || std::mem::forget(moved)));
    };
    same(
        "a task whose hook says nothing, which drops what a child has",
        cause(pool.apply(task, ()))?,
        panicked("its hook kept the message"),
    )?;
    let task = |()| -> () { panic!("as ever") };
    same("a task", cause(pool.apply(task, ()))?, panicked("as ever"))?;
    set_hook(Box::new(|_| ()));
    let silent = Pool::builder().processes(1).build()?;
    same("a pool of a program whose hook says nothing", cause(silent.apply(task, ()))?, panicked("as ever"))
}

/// Panics when it is shown.
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("not to be shown")
    }
}

/// Panics when it is dropped.
struct Undroppable;

impl Drop for Undroppable {
    fn drop(&mut self) {
        panic!("not to be dropped")
    }
}

/// Panics when it is sent, or when it is received.
#[derive(Clone)]
struct Unsendable {
    is_sent: bool,
}

impl Serialize for Unsendable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(self.is_sent, "not to be sent");
        ().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Unsendable {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("not to be received")
    }
}

thread_local! {
    static LAST: RefCell<Option<Undroppable>> = const { RefCell::new(None) };
}

fn places() -> Outcome {
    panics("in the middle of a line", || println!("{Unspeakable}"))?;
    panics("in a destructor", || drop(Undroppable))?;
    panics("in a destructor, of what was moved into a child", || {
        let moved = Undroppable;
        let _ = Process::fork(move || std::mem::forget(moved));
    })?;
    panics("in the destructor of a child", || {
        let moved = Undroppable;
        let child = Process::fork(|| {
            std::hint::black_box(&moved);
        })
        .expect("a child");
        assert_eq!(child.join().ok(), Some(ExitStatus::Exited(0)));
    })?;
    let queue = Queue::<Unsendable>::new()?;
    panics("in the encoding of an item", || drop(queue.put(&Unsendable { is_sent: false })))?;
    queue.put(&Unsendable { is_sent: true })?;
    panics("in the decoding of an item", || drop(queue.get()))?;
    check("the queue is as it was", queue.is_empty()?)?;
    panics("in the encoding of arguments", || {
        let _ = Process::spawn(|_: Unsendable| (), Unsendable { is_sent: false });
    })?;
    let spawned = Process::spawn(|_: Unsendable| (), Unsendable { is_sent: true })?;
    ended(&spawned, ExitStatus::Exited(1))?;
    let exits = Process::fork(|| LAST.set(Some(Undroppable)))?;
    ended(&exits, ExitStatus::Exited(0))?;
    // While it has a lock, and others wait for it.
    let (lock, go) = (Lock::new()?, Event::new()?);
    let waits = Process::fork(|| -> Result<i32, sandpool_guest::Error> {
        go.wait()?;
        Ok(i32::from(lock.acquire().is_ok()))
    })?;
    panics("with a lock", || {
        let _guard = lock.acquire().expect("a lock");
        go.set().expect("an event");
        panic!("in a critical section");
    })?;
    // The panic is told, if it came before.
    waits.join()?;
    panics("while another is borrowed", || {
        let cell = RefCell::new(1);
        let _borrowed = cell.borrow_mut();
        drop(cell.borrow_mut());
    })
}

fn places_of_pools() -> Outcome {
    panics("in an input", || {
        let pool = Pool::builder().processes(1).build().expect("a pool");
        let _ = pool.map(|n: u64| n, (0..4).map(|n| if n == 2 { panic!("no input") } else { n }));
    })?;
    panics("behind results of an imap", || {
        let pool = Pool::builder().processes(1).build().expect("a pool");
        let results = pool.imap(|n: u64| n, 0..1000).expect("results");
        results.for_each(|result| assert_eq!(result.ok(), Some(0)));
    })?;
    panics("in the closure of a scoped map", || {
        let result = scoped_map([1, 2], |n| if n == 2 { panic!("two") } else { n });
        assert!(matches!(result, Err(PoolError::Task(error)) if matches!(error.cause(), Cause::Panicked(_))));
        panic!("as it should");
    })?;
    let pool = Pool::builder().processes(1).initializer(|()| -> () { panic!("not ready") }, ()).build()?;
    let error = pool.apply(|n: u64| n, 1).err().ok_or("failed: there is a result")?;
    let why = "panicked: not ready";
    let is_it = |end: &PoolEnd| *end == PoolEnd::Initializer(why.to_owned());
    let holds = match &error {
        PoolError::Task(error) => matches!(error.cause(), Cause::Pool(end) if is_it(end)),
        PoolError::Ended(end) => is_it(end),
        _ => false,
    };
    check("in an initializer", holds)?;
    let pool = Pool::builder().processes(1).build()?;
    let sent = pool.apply(|()| Unsendable { is_sent: false }, ()).err().map(|error| error.to_string());
    check(
        "in the encoding of a result",
        sent.is_some_and(|error| error.contains("panicked: not to be sent")),
    )?;
    let received = pool.apply(|_: Unsendable| 1, Unsendable { is_sent: true }).err();
    let received = received.map(|error| error.to_string());
    check(
        "in the decoding of arguments",
        received.is_some_and(|error| error.contains("panicked: not to be received")),
    )?;
    same("and the pool works on", pool.apply(|n: u64| n, 3)?, 3)
}

/// Values that are pinned, locked or borrowed elsewhere are as they were.
fn nothing_is_poisoned_elsewhere() -> Outcome {
    let (mutex, cell, pinned) = (Mutex::new(1), Cell::new(1), Box::pin(7));
    panics("with a mutex", || {
        let _guard = mutex.lock();
        cell.set(2);
        panic!("in its own copy");
    })?;
    check("nobody else is panicking", !std::thread::panicking())?;
    let pinned: Pin<&i32> = pinned.as_ref();
    same("what others have is as it was", (mutex.is_poisoned(), cell.get(), *pinned), (false, 1, 7))
}
