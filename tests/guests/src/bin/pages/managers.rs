// The blocks of the page on managers.

use sandpool_guest::{Dict, Error, Manager};

#[sandpool_guest::main]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let totals = Dict::<String, u64>::new()?;
    totals.update("a", 0, |total| *total += 1)?;  // one step

    let accounts = Dict::<String, i64>::new()?;
    accounts.insert("a", &100)?;
    accounts.with(|accounts| {
        let from = accounts.get("a")?.unwrap_or(0);
        accounts.insert("a", &(from - 30))?;
        accounts.insert("b", &30)?;
        Ok::<_, Error>(())
    })?;

    struct Counter(u64);

    #[sandpool_guest::managed]
    impl Counter {
        fn new(from: u64) -> Self { Self(from) }
        fn add(&mut self, n: u64) -> u64 { self.0 += n; self.0 }
    }

    let manager = Manager::builder().register::<Counter>().start()?;
    let counter = CounterProxy::new(&manager, 7)?;
    counter.add(1)?;

    println!("{:?} {:?} {}", totals.get("a")?, accounts.items()?, counter.add(1)?);
    manager.shutdown()?;
    Ok(())
}
