//! Tasks that give back what they get, as it is or not at all.

#![forbid(unsafe_code)]

use serde_json::Value;

#[sandpool_guest::task]
fn float(number: f64) -> f64 {
    number
}

#[sandpool_guest::task]
fn integer(number: u64) -> u64 {
    number
}

#[sandpool_guest::task]
fn text(text: String) -> String {
    text
}

#[sandpool_guest::task]
fn json(value: Value) -> Value {
    value
}

/// A float of this name, among others: `NaN`, `inf`, `1.5`.
#[sandpool_guest::task]
fn named(name: String) -> Result<(u8, Option<f64>), std::num::ParseFloatError> {
    Ok((1, if name == "none" { None } else { Some(name.parse()?) }))
}

fn main() {}
