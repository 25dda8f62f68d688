//! The promises of an `Exchange`, and the trait that pools share.

use std::rc::Rc;
use std::time::Duration;

use sandpool_guest::pool::{Cause, Mapper, PoolError};
use sandpool_guest::{Bytes, Event, Exchange, ExitStatus, Pool, Queue, SerialPool, active_children};
use sandpool_test_guests::{LONG, Outcome, check, eventually, same};
use serde::ser::Error as _;
use serde::{Deserialize, Serialize, Serializer};

/// Can be decoded only.
#[derive(Debug, Deserialize)]
struct Secret(bool);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(S::Error::custom("a secret")) } else { serializer.serialize_bool(false) }
    }
}

#[sandpool_guest::main]
fn main() -> Outcome {
    let texts = Rc::new(["a", "bb", "ccc", "dddd"]);
    let mut exchange = Exchange::new(2)?;
    for text in texts.iter() {
        exchange.start(|| (text.len(), Bytes::from(vec![0; 1 << 20])))?;
        check("never more than the limit", exchange.active() <= 2)?;
    }
    same("by their index", (exchange.get(3)?.0, exchange.get(0)?.0), (4, 1))?;
    check("once", matches!(exchange.get(3), Err(PoolError::NoSuchResult)))?;
    same("two are left", exchange.len(), 2)?;
    let mut rest: Vec<_> =
        exchange.by_ref().map(|result| result.map(|(len, _)| len)).collect::<Result<_, _>>()?;
    rest.sort_unstable();
    same("as they arrive", (rest, exchange.is_empty()), (vec![2, 3], true))?;

    let go = Event::new()?;
    let mut exchange = Exchange::new(3)?;
    exchange.start(|| go.wait().is_ok())?;
    exchange.start(|| true)?;
    check("the quick one is ready", exchange.ready(LONG)?)?;
    check("it comes first", exchange.next().ok_or("nothing")??)?;
    check("the other isn't ready", !exchange.ready(Duration::from_millis(10))?)?;
    go.set()?;
    check("then it is", exchange.get(0)?)?;

    let queue = Queue::<u32>::new()?;
    let mut exchange = Exchange::new(2)?;
    let fails: [&dyn Fn() -> Queue<u32>; 4] =
        [&|| queue.clone(), &|| std::process::exit(3), &|| std::process::abort(), &|| panic!("no")];
    for fail in fails {
        exchange.start(fail)?;
    }
    same("a queue as a result", exchange.get(0)?, queue.clone())?;
    let mut cause = |index| match exchange.get(index) {
        Err(PoolError::Task(error)) if error.index() == index && error.pid().is_some() => {
            Some(error.cause().clone())
        }
        _ => None,
    };
    same("an exit", cause(1), Some(Cause::Ended(ExitStatus::Exited(3))))?;
    check("a trap", matches!(cause(2), Some(Cause::Ended(ExitStatus::Trapped(_)))))?;
    same("a panic", cause(3), Some(Cause::Ended(ExitStatus::Exited(1))))?;

    let mut exchange = Exchange::new(2)?;
    exchange.start(|| Secret(true))?;
    exchange.start(|| Secret(false))?;
    check("others are there", exchange.get(1).is_ok_and(|secret| !secret.0))?;
    let secret = exchange.get(0).err().map(|error| error.to_string()).unwrap_or_default();
    check("what can't be encoded", secret.starts_with("task 0: the value can't be encoded: a secret"))?;

    let mut exchange = Exchange::new(2)?;
    exchange.start(|| Event::new().is_ok_and(|never| never.wait().is_ok()))?;
    check("one is at work", exchange.active() == 1)?;
    drop(exchange);
    // Those before have put their results, and are about to end.
    eventually("it is killed with the exchange", || Ok(active_children()?.is_empty()))?;
    check("no limit of 0", matches!(Exchange::<()>::new(0), Err(PoolError::Zero("the limit"))))?;

    let pool = Pool::builder().processes(2).build()?;
    let all = (work(&SerialPool)?, work(&pool)?);
    same("serial or not", &all.0, &all.1)?;
    same("and right", all.0, (25, vec![0, 1, 4], vec![1, 4, 9]))
}

fn work(mapper: &impl Mapper) -> Result<(u64, Vec<u64>, Vec<u64>), PoolError> {
    let square = |n: u64| n * n;
    let some = mapper.imap(square, 1..)?.take(3).collect::<Result<_, _>>()?;
    Ok((mapper.apply(square, 5)?, mapper.map(square, 0..3)?, some))
}
