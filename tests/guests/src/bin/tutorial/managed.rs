use sandpool_guest::{Error, Manager, Process};

struct Account {
    balance: i64,
}

#[sandpool_guest::managed]
impl Account {
    fn new(balance: i64) -> Self {
        Self { balance }
    }

    fn withdraw(&mut self, amount: i64) -> Result<i64, String> {
        if amount > self.balance {
            return Err("not enough".to_owned());
        }
        self.balance -= amount;
        Ok(self.balance)
    }
}

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let manager = Manager::builder().register::<Account>().start()?;
    let account = AccountProxy::new(&manager, 100)?;
    let process = Process::fork(|| account.withdraw(30).map(drop))?;
    process.join()?;
    match account.withdraw(80)? {
        Ok(balance) => println!("{balance}"),
        Err(error) => println!("{error}"),
    }
    println!("{}", account.withdraw(0)?.map_err(Error::other)?);
    Ok(())
}
