//! Values that are moved into a child, or sent to it, with `/data` for files.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sandpool_guest::pipe::RecvError;
use sandpool_guest::{
    Event, ExitStatus, Pipe, Process, Queue, Semaphore, SharedMemory, Value, current_process,
};
use sandpool_test_guests::{LONG, Outcome, check, ended_well, same};
use serde::{Deserialize, Serialize};

/// Removes a file, and says so.
struct Temporary(PathBuf);

impl Temporary {
    fn new(name: &str) -> Result<Self, std::io::Error> {
        let path = Path::new("/data").join(name);
        fs::write(&path, "there")?;
        Ok(Self(path))
    }

    /// Leaves it where it is.
    fn keep(mut self) -> PathBuf {
        let path = std::mem::take(&mut self.0);
        std::mem::forget(self);
        path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        println!(
            "{} removes a file",
            current_process().map_or_else(|_| String::new(), |own| own.name().to_owned())
        );
        print!("(and that is done) ");
        fs::remove_file(&self.0).expect("a file");
    }
}

/// Tells others, and waits for an answer.
struct Telling {
    done: Event,
    queue: Queue<u64>,
    count: Value<i64>,
    start: Semaphore,
    name: &'static str,
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.done.set().expect("an event");
        self.queue.put(&1).expect("a queue");
        self.queue.put_many(&[2, 3]).expect("a queue");
        self.count.get_obj().atomic().fetch_add(1);
        self.start.release().expect("a semaphore");
        SharedMemory::attach(self.name).and_then(|shared| shared.unlink()).expect("a name");
        // In a process that is mute, nobody has been asked for an answer.
        let _ = self.queue.get();
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    files()?;
    spawned()?;
    others()?;
    pipeline()?;
    nothing_is_left()?;
    own_memory()?;
    refused()
}

fn files() -> Outcome {
    let (temporary, go) = (Temporary::new("temporary")?, Event::new()?);
    let path = temporary.0.clone();
    let child = {
        let go = go.clone();
        Process::fork(move || -> Outcome {
            go.wait()?;
            drop((fs::read_to_string(&temporary.0)?, temporary));
            Ok(())
        })?
    };
    check("a file is there for the child that it was moved into", path.exists())?;
    go.set()?;
    ended_well(&child)?;
    check("which removes it", !path.exists())?;

    let mut buffered = BufWriter::new(File::create("/data/buffered")?);
    buffered.write_all(b"once")?;
    ended_well(&Process::fork(move || buffered.flush().is_err() as i32)?)?;
    same("what is buffered is written once", fs::read_to_string("/data/buffered")?, "once".to_owned())?;

    let directory = Path::new("/data/directory");
    fs::create_dir(directory)?;
    struct Tree<'p>(&'p Path);
    impl Drop for Tree<'_> {
        fn drop(&mut self) {
            fs::write(self.0.join("file"), "").ok();
            fs::rename(self.0, "/data/renamed").ok();
            fs::create_dir("/data/another").ok();
        }
    }
    let tree = Tree(directory);
    let child = Process::fork(move || drop(tree))?;
    ended_well(&child)?;
    check("only the child makes and renames files", fs::remove_file("/data/renamed/file").is_ok())?;
    fs::remove_dir("/data/renamed")?;
    fs::remove_dir("/data/another")?;
    Ok(fs::remove_file("/data/buffered")?)
}

/// A file that is there for the process that it was sent to.
#[derive(Serialize, Deserialize)]
struct Sent(PathBuf);

impl Drop for Sent {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn spawned() -> Outcome {
    let (sent, go) = (Sent(Temporary::new("sent")?.keep()), Event::new()?);
    let path = sent.0.clone();
    let child = Process::spawn(
        |(go, sent): (Event, Sent)| -> Outcome {
            go.wait()?;
            fs::read_to_string(&sent.0)?;
            Ok(())
        },
        (go.clone(), sent),
    )?;
    check("and for one that it was sent to", path.exists())?;
    go.set()?;
    ended_well(&child)?;
    check("which removes it, too", !path.exists())
}

fn others() -> Outcome {
    let (done, queue, count) = (Event::new()?, Queue::new()?, Value::new(0)?);
    let (start, shared) = (Semaphore::new(0)?, SharedMemory::create_named("moved", 16)?);
    let telling = Telling {
        done: done.clone(),
        queue: queue.clone(),
        count: count.clone(),
        start: start.clone(),
        name: "moved",
    };
    let go = Event::new()?;
    let child = {
        let go = go.clone();
        Process::fork(move || -> Outcome {
            let _telling = telling;
            Ok(go.wait()?)
        })?
    };
    let told = || -> Result<_, Box<dyn std::error::Error>> {
        Ok((
            done.is_set()?,
            queue.qsize()?,
            count.get()?,
            start.value()?,
            SharedMemory::attach("moved").is_ok(),
        ))
    };
    same("nobody is told what the child is to tell", told()?, (false, 0, 0, 0, true))?;
    go.set()?;
    ended_well(&child)?;
    same("the child tells it, once", told()?, (true, 2, 1, 1, false))?;
    drop(shared);
    Ok(())
}

/// Each stage ends with the one before it: nobody else has kept an end.
fn pipeline() -> Outcome {
    let (squares, to) = Pipe::simplex()?;
    let (out, sums) = Pipe::simplex()?;
    let second = Process::fork(move || -> Outcome {
        let mut sum = 0;
        while let Ok(square) = squares.recv::<u64>() {
            sum += square;
        }
        Ok(sums.send(&sum)?)
    })?;
    let (from, numbers) = Pipe::simplex()?;
    let first = Process::fork(move || -> Outcome {
        while let Ok(number) = from.recv::<u64>() {
            to.send(&(number * number))?;
        }
        Ok(())
    })?;
    (1..=3_u64).try_for_each(|number| numbers.send(&number))?;
    drop(numbers);
    same("a pipeline of ends that were moved", out.recv_timeout::<u64>(LONG)?, 14)?;
    ended_well(&first)?;
    ended_well(&second)?;
    check("and its end", matches!(out.recv::<u64>(), Err(RecvError::Eof)))
}

/// More files, objects and memory than a process may have, one after the other.
fn nothing_is_left() -> Outcome {
    let kept = Temporary::new("opened")?.keep();
    for _ in 0..300 {
        let file = File::open(&kept)?;
        let (receiver, sender) = Pipe::simplex()?;
        let memory = vec![1_u8; 1 << 20];
        let child = Process::fork(move || -> Outcome {
            drop(file);
            Ok(sender.send(&memory[0])?)
        })?;
        receiver.recv::<u8>()?;
        ended_well(&child)?;
    }
    fs::remove_file(kept)?;
    check("what was moved leaves nothing behind", true)
}

/// A destructor's effects on this process alone happen here as well: nothing stays borrowed, or counted.
fn own_memory() -> Outcome {
    let (cell, count) = (RefCell::new(1), Rc::new(()));
    let (borrowed, moved) = (cell.borrow_mut(), count.clone());
    ended_well(&Process::fork(move || drop((borrowed, moved)))?)?;
    same("what is borrowed is given back", (cell.try_borrow().is_ok(), Rc::strong_count(&count)), (true, 1))
}

/// If the fork is refused, values are dropped as ever, aloud.
fn refused() -> Outcome {
    let told = Queue::<u64>::new()?;
    struct Tell(Queue<u64>);
    impl Drop for Tell {
        fn drop(&mut self) {
            self.0.put(&7).expect("a queue");
        }
    }
    let tell = Tell(told.clone());
    let child = Process::builder().daemon().fork(|| i32::from(Process::fork(move || drop(tell)).is_ok()))?;
    same("a daemonic process can't fork", child.join()?, ExitStatus::Exited(0))?;
    same("and drops what it would have moved", told.get_timeout(LONG)?, 7)
}
