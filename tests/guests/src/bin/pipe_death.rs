//! Pipes whose users end, or are killed.

use std::time::Duration;

use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::{ExitStatus, Pipe, Process, Queue};
use sandpool_test_guests::{Outcome, check, ended_well, kill, same};

const LONG: Duration = Duration::from_secs(60);

#[sandpool_guest::main]
fn main() -> Outcome {
    ends()?;
    senders()?;
    receivers()?;
    holders()?;
    messages()
}

fn ends() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    let child = Process::fork(|| -> Outcome {
        (0..10_u8).try_for_each(|n| sender.send(&n))?;
        Ok(())
    })?;
    sender.close();
    ended_well(&child)?;
    let all: Vec<u8> = std::iter::from_fn(|| receiver.recv().ok()).collect();
    same("messages outlive their sender", all, (0..10).collect())?;
    check("then the end", matches!(receiver.recv::<u8>(), Err(RecvError::Eof)))?;

    let (receiver, sender) = Pipe::simplex()?;
    let child = Process::fork(|| std::thread::sleep(LONG))?;
    sender.close();
    // The child has a copy, as of all that its creator has.
    check("a sleeping child keeps it open", !receiver.poll(Duration::from_millis(5))?)?;
    kill(&child)?;
    check("killed, it doesn't", matches!(receiver.recv_timeout::<u8>(LONG), Err(RecvError::Eof)))?;

    let (_receiver, sender) = Pipe::simplex()?;
    drop(_receiver);
    check("nobody receives", matches!(sender.send(&1), Err(SendError::BrokenPipe)))?;

    let (receiver, sender) = Pipe::simplex()?;
    let end = receiver.recv_timeout::<u8>(LONG);
    check("nobody waits for themselves", matches!(end, Err(RecvError::Eof)))?;
    sender.send(&1_u8)?;
    same("but may send to themselves", receiver.recv::<u8>()?, 1)
}

fn senders() -> Outcome {
    for round in 0..20 {
        let (receiver, sender) = Pipe::simplex()?;
        let ready = Queue::<()>::new()?;
        let child = Process::fork(|| -> Outcome {
            let message = [7; 1000];
            ready.put(&())?;
            loop {
                sender.send_bytes(&message)?;
            }
        })?;
        sender.close();
        ready.get()?;
        // It sends, or waits for room.
        for _ in 0..round * 10 {
            receiver.recv_bytes()?;
        }
        kill(&child)?;
        loop {
            match receiver.recv_bytes_timeout(LONG) {
                Ok(message) if message == [7; 1000] => {}
                Err(RecvError::Eof) => break,
                other => return Err(format!("round {round}: {other:?}").into()),
            }
        }
    }
    println!("ok: a sender killed in send leaves whole messages, and an end");

    // Two senders, one of which dies: the other is heard.
    let (receiver, sender) = Pipe::builder().capacity(100).simplex()?;
    for round in 0..20_u64 {
        let ready = Queue::<()>::new()?;
        let victim = Process::fork(|| -> Outcome {
            ready.put(&())?;
            loop {
                sender.send(&u64::MAX)?;
            }
        })?;
        ready.get()?;
        let other = Process::fork(|| sender.send(&round))?;
        kill(&victim)?;
        while receiver.recv_timeout::<u64>(LONG)? != round {}
        ended_well(&other)?;
        while receiver.try_recv::<u64>().is_ok() {}
    }
    println!("ok: the other sender goes on");
    Ok(())
}

fn receivers() -> Outcome {
    let (receiver, sender) = Pipe::simplex()?;
    let ready = Queue::<()>::new()?;
    for round in 0..20_u64 {
        let child = Process::fork(|| -> Outcome {
            ready.put(&())?;
            receiver.recv::<u64>()?;
            Ok(())
        })?;
        ready.get()?;
        kill(&child)?;
        sender.send(&round)?;
        if receiver.recv_timeout::<u64>(LONG)? != round {
            return Err(format!("round {round}: the message is another one").into());
        }
    }
    println!("ok: a receiver killed in recv takes nothing along");

    for _ in 0..20 {
        let (receiver, sender) = Pipe::simplex()?;
        let child = Process::fork(|| -> Outcome {
            ready.put(&())?;
            std::thread::sleep(LONG);
            Ok(())
        })?;
        receiver.close();
        ready.get()?;
        // Into the pipe that the child could receive from, until it is full.
        while sender.try_send_bytes(&[1; 10_000]).is_ok() {}
        let waiting = Process::fork(|| -> i32 {
            let _ = ready.put(&());
            i32::from(matches!(sender.send_bytes(&[1; 10_000]), Err(SendError::BrokenPipe)))
        })?;
        ready.get()?;
        kill(&child)?;
        if waiting.join()? != ExitStatus::Exited(1) {
            return Err("a sender waits for a receiver that is gone".into());
        }
    }
    println!("ok: who waits for room learns that nobody is left");

    let (a, b) = Pipe::duplex()?;
    let child = Process::fork(|| -> Outcome {
        ready.put(&())?;
        check("its other end is gone", matches!(b.recv::<u8>(), Err(RecvError::Eof)))
    })?;
    b.close();
    ready.get()?;
    // The child has a copy of `a`, but waits.
    a.close();
    ended_well(&child)
}

fn holders() -> Outcome {
    let letters = Queue::<sandpool_guest::Connection>::new()?;
    let (receiver, sender) = Pipe::simplex()?;
    let child = Process::fork(|| letters.put(&sender))?;
    sender.close();
    ended_well(&child)?;
    check("a message keeps an end", !receiver.poll(Duration::ZERO)?)?;
    drop(letters);
    check("until it is gone itself", matches!(receiver.recv_timeout::<u8>(LONG), Err(RecvError::Eof)))
}

/// Killed at any moment, a sender has sent a message whole or not at all.
fn messages() -> Outcome {
    for round in 0..30 {
        let (receiver, sender) = Pipe::simplex()?;
        let ready = Queue::<()>::new()?;
        let child = Process::fork(|| -> Outcome {
            let message: Vec<u8> = (0..2_000_000).map(|n| (n % 251) as u8).collect();
            ready.put(&())?;
            loop {
                sender.send_bytes(&message)?;
            }
        })?;
        sender.close();
        ready.get()?;
        for _ in 0..round % 3 {
            receiver.recv_bytes()?;
        }
        kill(&child)?;
        loop {
            match receiver.recv_bytes_timeout(LONG) {
                Ok(message)
                    if message.len() == 2_000_000 && message[1_999_999] == (1_999_999 % 251) as u8 => {}
                Err(RecvError::Eof) => break,
                Ok(message) => return Err(format!("a message of {} bytes", message.len()).into()),
                Err(other) => return Err(other.into()),
            }
        }
    }
    println!("ok: large messages are whole or not there");
    Ok(())
}
