//! Moves money between accounts: `bank [TELLERS] [TRANSFERS] [ACCOUNTS]`.
//!
//! The accounts are an `Array` that all tellers see. Each teller takes the array's lock for a transfer, so that nobody
//! ever sees money that has left one account and not yet reached the other. Meanwhile an auditor adds everything up,
//! again and again.

use sandpool_guest::{Array, Error, Process, RawValue, Value};

/// The initial balance of each account.
const BALANCE: i64 = 1000;

#[sandpool_guest::main]
fn main() -> Result<(), Error> {
    let tellers = argument(1, "TELLERS", 4)?;
    let transfers = argument(2, "TRANSFERS", 100_000)?;
    let accounts = Array::from_slice(&vec![BALANCE; argument(3, "ACCOUNTS", 100)?])?;
    let total = accounts.update(|accounts| accounts.iter().sum::<i64>())?;
    let refused = Value::new(0_u64)?;
    let closed = RawValue::new(0_u8)?;

    let working = (1..=tellers)
        .map(|teller| {
            let (accounts, refused) = (&accounts, &refused);
            let process = Process::builder().name(format!("teller-{teller}")).daemon();
            process.fork(move || -> Result<(), Error> {
                let mut dice = Dice(teller as u64);
                let mut too_poor = 0;
                for _ in 0..transfers {
                    let (from, to) = (dice.below(accounts.len()), dice.below(accounts.len()));
                    let amount = dice.below(500) as i64;
                    let moved = accounts.update(|accounts| transfer(accounts, from, to, amount))?;
                    too_poor += u64::from(!moved);
                }
                // One update from reading to writing under the lock: no count is lost.
                refused.update(|refused| *refused += too_poor)
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let auditor = Process::builder().name("auditor").daemon().fork(|| -> Result<(), Error> {
        let mut audits = 0;
        while closed.get()? == 0 {
            let found = accounts.update(|accounts| accounts.iter().sum::<i64>())?;
            if found != total {
                return Err(Error::other(format!("there is {found} instead of {total}")));
            }
            audits += 1;
        }
        println!("the auditor looked {audits} times, and nothing was ever missing");
        Ok(())
    })?;

    for teller in &working {
        succeed(teller)?;
    }
    closed.set(1)?;
    succeed(&auditor)?;
    let balances = accounts.to_vec()?;
    println!("{} transfers by {tellers} tellers, {} refused", transfers * tellers, refused.get()?);
    if let (Some(poorest), Some(richest)) = (balances.iter().min(), balances.iter().max()) {
        println!("the poorest account has {poorest}, the richest {richest}");
    }
    let sum: i64 = balances.iter().sum();
    println!("all together have {sum}, as before: {}", if sum == total { "yes" } else { "no" });
    if sum == total { Ok(()) } else { Err(Error::other("money was lost or made")) }
}

/// Moves an amount, unless the account has less.
fn transfer(accounts: &mut [i64], from: usize, to: usize, amount: i64) -> bool {
    let Some(payer) = accounts.get_mut(from).filter(|payer| **payer >= amount) else { return false };
    *payer -= amount;
    match accounts.get_mut(to) {
        Some(payee) => *payee += amount,
        None => return false,
    }
    true
}

/// Numbers that look random, and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // The constants are those of SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 33) as usize % end
    }
}

fn succeed(process: &Process) -> Result<(), Error> {
    let status = process.join()?;
    if status.success() { Ok(()) } else { Err(Error::other(format!("{} failed: {status}", process.name()))) }
}

/// A positive number from the command line.
fn argument(index: usize, name: &str, default: usize) -> Result<usize, Error> {
    match std::env::args().nth(index) {
        None => Ok(default),
        Some(text) => match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Error::other(format!("{name} is a number from 1 on, not {text}"))),
        },
    }
}
