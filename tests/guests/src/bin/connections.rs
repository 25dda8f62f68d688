//! Listeners and clients: the first argument says what to do.

use std::error::Error;
use std::time::Duration;

use sandpool_guest::net::ConnectionError;
use sandpool_guest::pipe::{RecvError, SendError};
use sandpool_guest::{Client, Connection, Listener, Lock, Pipe, Process, Queue, Waitable, wait};
use serde::{Deserialize, Serialize};

type Failure = Box<dyn Error>;

#[sandpool_guest::main]
fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["echo", address, key, count] => echo(address, key, count.parse()?),
        ["forks", address, key, count] => forks(address, key, count.parse()?),
        ["client", address, key, ref messages @ ..] => client(address, key, messages),
        ["values", address] => values(address),
        ["pickles", address, key] => pickles(address, key),
        ["pickle", address, key] => pickle(address, key),
        ["refusals"] => refusals(),
        ["try", flag, address] => attempt(flag, address),
        ["many", address] => many(address),
        ["hold", address] => hold(address),
        ["keep", address] => keep(address),
        ["stream", address, count, len] => stream(address, count.parse()?, len.parse()?),
        ["last", address] => last(address),
        ["waits", address] => waits(address),
        ["limits", address] => limits(address),
        ["storm", address] => storm(address),
        _ => Err(format!("unknown: {args:?}").into()),
    }
}

fn listener(address: &str, key: &str) -> Result<Listener, ConnectionError> {
    let builder = Listener::builder();
    let listener = match key {
        "-" => builder.without_authkey().bind(address)?,
        key => match key.strip_prefix("md5:") {
            Some(key) => builder.authkey(key).allow_md5().bind(address)?,
            None => builder.authkey(key).bind(address)?,
        },
    };
    println!("listening {}", listener.address());
    Ok(listener)
}

fn connect(address: &str, key: &str) -> Result<Connection, ConnectionError> {
    let builder = Client::builder();
    match key {
        "-" => builder.without_authkey().connect(address),
        key => match key.strip_prefix("md5:") {
            Some(key) => builder.authkey(key).allow_md5().connect(address),
            None => builder.authkey(key).connect(address),
        },
    }
}

/// Sends back what comes, and returns how it ended.
fn answer(connection: &Connection) -> String {
    loop {
        match connection.recv_bytes() {
            Ok(message) => {
                if let Err(error) = connection.send_bytes(&message) {
                    return format!("{error:?}");
                }
            }
            Err(error) => return format!("{error:?}"),
        }
    }
}

/// Serves this number of peers, one after the other.
fn echo(address: &str, key: &str, count: u32) -> Result<(), Failure> {
    let listener = listener(address, key)?;
    for _ in 0..count {
        match listener.accept() {
            Ok(connection) => {
                println!("accepted {}", listener.last_accepted().unwrap_or_default());
                println!("ended {}", answer(&connection));
            }
            Err(error) => println!("refused {error}"),
        }
    }
    Ok(())
}

/// Serves this number of peers, each in a process of its own.
fn forks(address: &str, key: &str, count: u32) -> Result<(), Failure> {
    let listener = listener(address, key)?;
    let mut served = Vec::new();
    while served.len() < count as usize {
        match listener.accept() {
            Ok(connection) => served.push(Process::fork(move || println!("ended {}", answer(&connection)))?),
            Err(error) => println!("refused {error}"),
        }
    }
    for process in served {
        process.join()?;
    }
    Ok(())
}

fn client(address: &str, key: &str, messages: &[&str]) -> Result<(), Failure> {
    let connection = match connect(address, key) {
        Ok(connection) => connection,
        Err(error) => {
            println!("error: {error}");
            return Ok(());
        }
    };
    for message in messages {
        connection.send_bytes(message.as_bytes())?;
        println!("received {}", String::from_utf8_lossy(&connection.recv_bytes()?));
    }
    Ok(())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u64,
    price: f64,
    tags: Vec<String>,
    note: Option<String>,
    pairs: Vec<(i128, bool)>,
}

/// Sends back the orders that a program of Python sends, and says why something else is none.
fn pickles(address: &str, key: &str) -> Result<(), Failure> {
    let connection = listener(address, key)?.accept()?;
    loop {
        match connection.recv_pickle::<Order>() {
            Ok(order) => connection.send_pickle(&order)?,
            Err(RecvError::Decode(error)) => {
                println!("{error}");
                connection.send_pickle(&error.to_string())?;
            }
            Err(RecvError::Eof) => return Ok(()),
            Err(other) => return Err(other.into()),
        }
    }
}

/// Has a program of Python square numbers.
fn pickle(address: &str, key: &str) -> Result<(), Failure> {
    let connection = connect(address, key)?;
    for number in [0_i64, -1, 1 << 40] {
        connection.send_pickle(&("square", number))?;
        println!("{}", connection.recv_pickle_timeout::<i128>(Duration::from_secs(60))?);
    }
    match connection.send_pickle(&Queue::<u8>::new()?) {
        Err(SendError::Encode(error)) => println!("{error}"),
        other => return Err(format!("a queue was sent: {other:?}").into()),
    }
    Ok(())
}

/// Two runs exchange values of their own encoding.
fn values(address: &str) -> Result<(), Failure> {
    let connection = Client::connect(address)?;
    connection.send(&("a text".to_owned(), vec![1_u64, 2, 3], Some(-1.5_f64)))?;
    let (text, numbers, more): (String, Vec<u64>, Option<f64>) = connection.recv()?;
    println!("received {text:?} {numbers:?} {more:?}");
    let lock = Lock::new()?;
    println!("{}", connection.send(&lock).unwrap_err());
    assert!(matches!(connection.send(&(1, lock)), Err(SendError::NotForOutside)));
    // Nothing of that has left the run, or ended the connection.
    connection.send(&("last".to_owned(), Vec::<u64>::new(), None::<f64>))?;
    let (text, ..): (String, Vec<u64>, Option<f64>) = connection.recv()?;
    println!("received {text:?}");
    Ok(())
}

/// Nothing was granted.
fn refusals() -> Result<(), Failure> {
    for address in ["tcp:127.0.0.1:1", "unix:/tmp/a", "sandpool:a"] {
        println!("{}", connect(address, "-").unwrap_err());
        println!("{}", Listener::builder().without_authkey().bind(address).unwrap_err());
    }
    Ok(())
}

fn attempt(flag: &str, address: &str) -> Result<(), Failure> {
    let error = match flag {
        "listen" => Listener::builder().without_authkey().bind(address).err(),
        _ => connect(address, "-").err(),
    };
    match error {
        Some(error) => println!("error: {error}"),
        None => println!("done"),
    }
    Ok(())
}

/// Listens, and connects to itself, as often as it may.
fn many(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let mut kept = Vec::new();
    let error = loop {
        match connect(listener.address(), "-") {
            Ok(connection) => kept.push(connection),
            Err(error) => break error,
        }
        match listener.accept_timeout(Duration::from_millis(50)) {
            Ok(Some(connection)) => kept.push(connection),
            Ok(None) => {}
            Err(error) => break error,
        }
    };
    println!("{} and then: {error}", kept.len() + 1);
    // With one less there is room for one.
    kept.truncate(kept.len().saturating_sub(2));
    loop {
        match connect(listener.address(), "-") {
            Ok(_) => break,
            Err(ConnectionError::TooMany) => {}
            Err(other) => return Err(other.into()),
        }
    }
    println!("one more");
    Ok(())
}

/// Has a connection when it is killed.
fn hold(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let holder = Process::fork(|| -> Result<(), Failure> {
        let connection = listener.accept()?;
        connection.send_bytes(b"held")?;
        // Not for an event: then each process of the run would wait for another.
        connection.recv_bytes()?;
        Ok(())
    })?;
    println!("holder ended by {:?}", holder.join()?);
    // The listener is another copy, and accepts as before.
    let connection = listener.accept()?;
    println!("ended {}", answer(&connection));
    Ok(())
}

/// Waits at each kind of end, and says what ends the wait.
fn keep(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let connection = listener.accept()?;
    println!("accepted");
    println!("connection: {:?}", connection.recv_bytes().unwrap_err());
    // One direction is found to be closed before the other.
    let refused = loop {
        if let Err(refused) = connection.send_bytes(b"more") {
            break refused;
        }
    };
    println!("send: {refused:?}");
    println!("listener: {}", listener.accept().unwrap_err());
    println!("again: {}", Listener::builder().without_authkey().bind(address).unwrap_err());
    Ok(())
}

/// Sends many messages without looking for an answer.
fn stream(address: &str, count: usize, len: usize) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let connection = listener.accept()?;
    let message: Vec<u8> = (0..len).map(|at| at as u8).collect();
    for _ in 0..count {
        connection.send_bytes(&message)?;
    }
    println!("sent");
    // All of it arrives, though the run ends now.
    Ok(())
}

/// Sends as long as there is room, then says so, and goes on when the peer reads.
fn last(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let connection = listener.accept()?;
    let message = vec![7; 60_000];
    let mut sent = 0_u32;
    while connection.send_bytes_timeout(&message, Duration::from_millis(500)).is_ok() {
        sent += 1;
    }
    println!("full");
    connection.send_bytes(&message)?;
    connection.send_bytes(&(sent + 1).to_be_bytes())?;
    Ok(())
}

/// Waits for a listener, a connection, a queue and a process at once.
fn waits(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let queue = Queue::<u32>::new()?;
    let ready = |things: &[&dyn Waitable]| wait(things, None);
    println!("first {:?}", ready(&[&queue, &listener])?);
    let connection = listener.accept()?;
    println!("then {:?}", ready(&[&queue, &listener, &connection])?);
    assert!(connection.poll(Duration::ZERO)?);
    println!("received {}", String::from_utf8_lossy(&connection.recv_bytes()?));
    queue.put(&1)?;
    println!("last {:?}", ready(&[&queue, &listener, &connection])?);
    // Passed on, as any connection is.
    let (here, there) = Pipe::duplex()?;
    let other = Process::fork(move || -> Result<(), Failure> {
        let connection: Connection = there.recv()?;
        Ok(connection.send_bytes(b"from another process")?)
    })?;
    here.send(&connection)?;
    drop(connection);
    other.join()?;
    Ok(())
}

/// Messages of the greatest length, and longer ones.
fn limits(address: &str) -> Result<(), Failure> {
    let listener = listener(address, "-")?;
    let connection = listener.accept()?;
    connection.send_bytes(&vec![1; 1 << 20])?;
    let error = connection.send_bytes(&vec![1; (1 << 20) + 1]).unwrap_err();
    println!("{error}");
    println!("received {}", connection.recv_bytes()?.len());
    assert!(matches!(connection.recv_bytes(), Err(RecvError::Reset)));
    println!("then reset");
    Ok(())
}

/// Asks for as much as it can: whatever of it is refused, the run ends in order.
fn storm(address: &str) -> Result<(), Failure> {
    let mut kept = Vec::new();
    let mut refused = 0_u32;
    for _ in 0..3000 {
        match Listener::builder().without_authkey().bind(address) {
            Ok(listener) => kept.push(listener),
            Err(_) => refused += 1,
        }
    }
    println!("{} and {refused} refused", kept.len());
    Ok(())
}
