//! The promises of a pipe to processes that live: `pipe_basics [SMALL]`; with an argument, in an arena of 1 MiB.

use std::time::Duration;

use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::{Bytes, Connection, ExitStatus, Pipe, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended_well, same};
use serde::{Deserialize, Serialize};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    if std::env::args().len() > 1 {
        return small();
    }
    directions()?;
    values()?;
    bytes()?;
    byte_vectors()?;
    limits()?;
    room()?;
    polling()?;
    ends()?;
    data()
}

fn directions() -> Outcome {
    let (a, b) = Pipe::duplex()?;
    same("both ends of a duplex do both", directions_of(&a)?, (true, true))?;
    same("the other as well", directions_of(&b)?, (true, true))?;
    a.send(&1_u8)?;
    b.send(&2_u8)?;
    same("both ways at once", (a.recv::<u8>()?, b.recv::<u8>()?), (2, 1))?;

    let (receiver, sender) = Pipe::simplex()?;
    same("the first of a simplex receives", directions_of(&receiver)?, (true, false))?;
    same("the second sends", directions_of(&sender)?, (false, true))?;
    check("send at the receiver", matches!(receiver.send(&1), Err(SendError::NotWritable)))?;
    check("send_bytes at the receiver", matches!(receiver.send_bytes(b"x"), Err(SendError::NotWritable)))?;
    check("recv at the sender", matches!(sender.recv::<u8>(), Err(RecvError::NotReadable)))?;
    check("try_recv_bytes at the sender", matches!(sender.try_recv_bytes(), Err(RecvError::NotReadable)))?;
    check("poll at the sender", matches!(sender.poll(Duration::ZERO), Err(RecvError::NotReadable)))?;
    let mut buffer = [0; 8];
    check(
        "recv_bytes_into at the sender",
        matches!(sender.recv_bytes_into(&mut buffer), Err(RecvError::NotReadable)),
    )
}

fn directions_of(end: &Connection) -> Result<(bool, bool), sandpool_guest::Error> {
    Ok((end.readable()?, end.writable()?))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sample {
    name: String,
    numbers: Vec<f64>,
    flag: Option<bool>,
}

fn values() -> Outcome {
    let (here, there) = Pipe::duplex()?;
    let echo = Process::fork(|| -> Outcome {
        loop {
            match there.recv::<Sample>() {
                Ok(sample) => there.send(&sample)?,
                Err(RecvError::Decode(_)) => there.send("no sample")?,
                Err(RecvError::Eof) => return Ok(()),
                Err(other) => return Err(other.into()),
            }
        }
    })?;
    there.close();
    let sample = Sample { name: "wörker".into(), numbers: vec![1.5, -0.0], flag: None };
    here.send(&sample)?;
    same("there and back", here.recv::<Sample>()?, sample.clone())?;
    let large = Sample { numbers: (0..500_000).map(f64::from).collect(), ..sample.clone() };
    here.send(&large)?;
    check("4 MB there and back", here.recv::<Sample>()? == large)?;
    here.send(&7_u8)?;
    same("a value of another type", here.recv::<String>()?, "no sample".into())?;
    here.send(&sample)?;
    same("does no harm", here.recv::<Sample>()?, sample)?;
    for n in 0..1000_u32 {
        here.send(&Sample { name: n.to_string(), numbers: Vec::new(), flag: Some(true) })?;
        if here.recv::<Sample>()?.name != n.to_string() {
            return Err(format!("message {n} is out of order").into());
        }
    }
    println!("ok: a thousand round trips");
    here.close();
    ended_well(&echo)
}

fn bytes() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    for message in [&b"one"[..], b"", b"two", b"three"] {
        sender.send_bytes(message)?;
    }
    sender.send_bytes(&b"0123456789"[2..5])?;
    same("messages stay apart", (receiver.recv_bytes()?, receiver.recv_bytes()?), (b"one".to_vec(), vec![]))?;
    same("in order", (receiver.recv_bytes()?, receiver.recv_bytes()?), (b"two".to_vec(), b"three".to_vec()))?;
    same("a slice", receiver.recv_bytes()?, b"234".to_vec())?;
    for size in [1, 65_535, 65_536, 65_537, 1_000_000, 10_000_000] {
        let message: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        // A message longer than the capacity is sent when no other waits.
        sender.send_bytes(&message)?;
        if receiver.recv_bytes()? != message {
            return Err(format!("a message of {size} bytes is damaged").into());
        }
    }
    println!("ok: messages of up to 10 MB");
    sender.send(&vec![1_u8, 2])?;
    same("values are bytes, too", receiver.recv_bytes()?.len(), 10)?;
    check("none is there", matches!(receiver.try_recv_bytes(), Err(RecvError::Empty)))?;
    check("nor in time", matches!(receiver.recv_bytes_timeout(Duration::ZERO), Err(RecvError::Empty)))?;
    sender.try_send_bytes(b"x")?;
    sender.send_bytes_timeout(b"y", SHORT)?;
    same(
        "two more",
        (receiver.try_recv_bytes()?, receiver.recv_bytes_timeout(LONG)?),
        (vec![b'x'], vec![b'y']),
    )
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(Vec<u8>);

/// Large ones go as they are, and are nevertheless what any other process encodes and decodes.
fn byte_vectors() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    let large: Vec<u8> = (0..100_000).map(|n| (n % 251) as u8).collect();
    sender.send(&large)?;
    same("a vector, received as bytes", receiver.recv::<Bytes>()?, Bytes::from(&*large))?;
    sender.send(&Bytes::from(&*large))?;
    check("bytes, received in a struct", receiver.recv::<Wrapped>()? == Wrapped(large.clone()))?;
    sender.send(&Wrapped(large.clone()))?;
    check("a struct, received as a vector", receiver.recv::<Vec<u8>>()? == large)?;
    sender.send(&large)?;
    check("a vector is no number", matches!(receiver.recv::<u64>(), Err(RecvError::Decode(_))))?;
    for said in [0, 99_991, 99_993, u64::MAX] {
        let lie = [&said.to_le_bytes()[..], &large[8..]].concat();
        sender.send_bytes(&lie)?;
        let received = receiver.recv::<Vec<u8>>();
        check("a vector of another length", matches!(received, Err(RecvError::Decode(_))))?;
    }
    let handle = Queue::<u64>::new()?;
    sender.send(&(handle.clone(), Bytes::from(&*large)))?;
    check("nor one with a queue", matches!(receiver.recv::<Vec<u8>>(), Err(RecvError::Decode(_))))?;
    sender.send(&large)?;
    check("the next is fine", receiver.recv::<Vec<u8>>()? == large)
}

fn limits() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    let mut buffer = *b"..........";
    sender.send_bytes(b"hello")?;
    same("recv_bytes_into", receiver.recv_bytes_into(&mut buffer[2..])?, 5)?;
    same("only as much as there is", &buffer, b"..hello...")?;
    sender.send_bytes(b"hello, all")?;
    same("exactly as long", receiver.recv_bytes_into(&mut buffer)?, 10)?;
    sender.send_bytes(b"hello, world")?;
    match receiver.recv_bytes_into(&mut buffer) {
        Err(RecvError::BufferTooShort(message)) => {
            same("too short for it", message, b"hello, world".to_vec())?;
        }
        other => return Err(format!("too short: {other:?}").into()),
    }
    sender.send_bytes(b"")?;
    same("an empty one into nothing", receiver.recv_bytes_into(&mut [])?, 0)?;
    sender.send_bytes(b"next")?;
    same("the next message is whole", receiver.recv_bytes_into(&mut buffer)?, 4)?;

    sender.send_bytes(b"12345")?;
    same("at most 5", receiver.recv_bytes_max(5)?, b"12345".to_vec())?;
    sender.send_bytes(b"")?;
    same("at most 0", receiver.recv_bytes_max(0)?, vec![])?;
    sender.send_bytes(b"123456")?;
    sender.send_bytes(b"7")?;
    let error = receiver.recv_bytes_max(5).err().ok_or("6 is more than 5")?;
    same("more than 5", error.to_string(), "bad message length".into())?;
    check("not readable any more", !receiver.readable()?)?;
    check("nothing follows", matches!(receiver.recv_bytes(), Err(RecvError::NotReadable)))?;
    check("not for a clone either", matches!(receiver.clone().poll(SHORT), Err(RecvError::NotReadable)))?;

    let (a, b) = Pipe::duplex()?;
    a.send_bytes(&vec![7; 100_000])?;
    check("a long one, too", matches!(b.recv_bytes_max(99_999), Err(RecvError::TooLong)))?;
    b.send_bytes(b"sending works")?;
    same("the other direction works", a.recv_bytes()?, b"sending works".to_vec())
}

fn room() -> Outcome {
    let (receiver, sender) = Pipe::builder().capacity(1000).simplex()?;
    check("the capacity", sender.capacity()? >= 1000 && receiver.capacity()? == sender.capacity()?)?;
    let (usual, _other) = Pipe::simplex()?;
    same("the usual one", usual.capacity()?, 65_536)?;
    let mut sent = 0;
    while sender.try_send_bytes(&[1; 100]).is_ok() {
        sent += 1;
    }
    check("it has room for some", (1..=1000).contains(&sent))?;
    check("full", matches!(sender.try_send_bytes(&[1; 100]), Err(SendError::Full)))?;
    check("full in time", matches!(sender.send_bytes_timeout(&[1; 100], SHORT), Err(SendError::Full)))?;
    check("no value either", matches!(sender.try_send(&[1_u64; 100][..]), Err(SendError::Full)))?;
    let child = Process::fork(|| sender.send_bytes(b"last"))?;
    same("a send waits for room", child.join_timeout(SHORT)?, None)?;
    for _ in 0..sent {
        same("each is whole", receiver.recv_bytes()?.len(), 100)?;
    }
    same("it goes on", receiver.recv_bytes()?, b"last".to_vec())?;
    same("and ends", child.join_timeout(LONG)?, Some(ExitStatus::Exited(0)))?;
    let child = Process::fork(|| -> Outcome { check("a recv waits", receiver.recv_bytes()? == b"more") })?;
    sender.send_bytes(b"more")?;
    ended_well(&child)
}

fn polling() -> Outcome {
    let (a, b) = Pipe::duplex()?;
    check("nothing yet", !a.poll(Duration::ZERO)?)?;
    b.send_bytes(b"")?;
    check("an empty message is something", a.poll(Duration::ZERO)? && a.poll(LONG)?)?;
    check("poll takes nothing", a.recv_bytes()?.is_empty() && !a.poll(Duration::ZERO)?)?;
    let child = Process::fork(|| b.send(&1))?;
    check("a poll waits", a.poll(LONG)?)?;
    ended_well(&child)?;
    a.recv::<i32>()?;
    b.close();
    check("the end is something, too", a.poll(Duration::ZERO)?)?;
    check("namely the end", matches!(a.recv::<u8>(), Err(RecvError::Eof)))
}

fn ends() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    sender.send(&1_u8)?;
    sender.clone().close();
    sender.send(&2_u8)?;
    println!("ok: a clone doesn't close it");
    sender.close();
    same("what was sent comes first", (receiver.recv::<u8>()?, receiver.recv::<u8>()?), (1, 2))?;
    check("then the end", matches!(receiver.recv::<u8>(), Err(RecvError::Eof)))?;
    check("again", matches!(receiver.try_recv::<u8>(), Err(RecvError::Eof)))?;
    check("for bytes", matches!(receiver.recv_bytes(), Err(RecvError::Eof)))?;
    check("at once", matches!(receiver.recv_timeout::<u8>(LONG), Err(RecvError::Eof)))?;

    let (receiver, sender) = Pipe::simplex()?;
    receiver.close();
    check("a broken pipe", matches!(sender.send(&1), Err(SendError::BrokenPipe)))?;
    check("for bytes as well", matches!(sender.try_send_bytes(b"x"), Err(SendError::BrokenPipe)))?;
    let (a, b) = Pipe::duplex()?;
    b.send(&7_u8)?;
    b.close();
    same("from one who is gone", a.recv::<u8>()?, 7)?;
    check("but not to it", matches!(a.send(&1), Err(SendError::BrokenPipe)))?;
    check("nor any more from it", matches!(a.recv::<u8>(), Err(RecvError::Eof)))
}

fn serve((connection, number): (Connection, u64)) -> Outcome {
    let factor: u64 = connection.recv()?;
    Ok(connection.send(&(number * factor))?)
}

fn data() -> Outcome {
    let (here, there) = Pipe::duplex()?;
    let child = Process::spawn(serve, (there, 6))?;
    here.send(&7_u64)?;
    same("with a spawned process", here.recv::<u64>()?, 42)?;
    ended_well(&child)?;
    check("whose end is closed", matches!(here.recv::<u64>(), Err(RecvError::Eof)))?;

    // Made after the fork, so the child knows them from messages only.
    let (here, there) = Pipe::duplex()?;
    let child = Process::fork(|| -> Outcome {
        while let Ok(reply) = there.recv::<Connection>() {
            reply.send("hello")?;
        }
        Ok(())
    })?;
    there.close();
    let (mine, yours) = Pipe::duplex()?;
    here.send(&yours)?;
    yours.close();
    same("a connection through a connection", mine.recv::<String>()?, "hello".into())?;
    check("is closed with its receiver's", matches!(mine.recv::<String>(), Err(RecvError::Eof)))?;
    here.close();
    ended_well(&child)?;

    let letters = Queue::<Connection>::new()?;
    let (receiver, sender) = Pipe::simplex()?;
    letters.put(&sender)?;
    sender.close();
    check("an item has its connection", !receiver.poll(Duration::ZERO)?)?;
    let sender = letters.get()?;
    sender.send(&1_u8)?;
    same("and it works", receiver.recv::<u8>()?, 1)?;
    letters.put(&sender)?;
    check("the same", letters.get()? == sender && sender != receiver)
}

fn small() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    check("larger than the arena", matches!(sender.send_bytes(&vec![0; 4 << 20]), Err(SendError::TooLarge)))?;
    // Forked first: it would have a copy of all that is made next, and so keep it.
    let go = Queue::<()>::new()?;
    let child = Process::fork(|| -> Outcome {
        go.get()?;
        Ok(sender.send_bytes(&[1; 60_000])?)
    })?;
    let mut full = Vec::new();
    loop {
        let Ok((receiver, sender)) = Pipe::simplex() else { break };
        match sender.try_send_bytes(&[1; 60_000]) {
            Ok(()) => full.push((receiver, sender)),
            Err(SendError::Full) => break,
            Err(other) => return Err(other.into()),
        }
    }
    check("the arena has room for some", !full.is_empty())?;
    check("no room in time", matches!(sender.send_bytes_timeout(&[1; 60_000], SHORT), Err(SendError::Full)))?;
    go.put(&())?;
    same("a send waits for room in the arena", child.join_timeout(SHORT)?, None)?;
    drop(full);
    same("there is room again", receiver.recv_bytes()?.len(), 60_000)?;
    ended_well(&child)
}
