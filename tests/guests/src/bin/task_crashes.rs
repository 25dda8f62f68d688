//! A task that ends badly wherever it is to: when its input is decoded, when it runs, when its output is encoded.

#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How it ends, or that it doesn't.
fn end(how: &str) -> Result<(), String> {
    match how {
        "error" => return Err("as it was told".to_owned()),
        "panic" => panic!("as it was told"),
        "exit" => std::process::exit(3),
        "trap" => trap(),
        "kill" => loop {
            std::hint::spin_loop();
        },
        _ => {}
    }
    Ok(())
}

#[cfg(target_arch = "wasm32")]
fn trap() {
    core::arch::wasm32::unreachable()
}

#[cfg(not(target_arch = "wasm32"))]
fn trap() {
    std::process::abort()
}

/// Where it ends, how, and what it carries.
struct Case(String, String, Vec<u64>);

impl<'de> Deserialize<'de> for Case {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (place, how, load) = <(String, String, Vec<u64>)>::deserialize(deserializer)?;
        if place == "decode" {
            end(&how).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(place, how, load))
    }
}

struct Answer(Case);

impl Serialize for Answer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Case(place, how, load) = &self.0;
        if place == "encode" {
            end(how).map_err(serde::ser::Error::custom)?;
        }
        load.serialize(serializer)
    }
}

#[sandpool_guest::task]
fn crash(case: Case) -> Result<Answer, String> {
    if case.0 == "task" {
        eprintln!("about to end");
        end(&case.1)?;
    }
    Ok(Answer(case))
}

static SET_UP: AtomicU64 = AtomicU64::new(0);

/// The same for an initializer.
#[sandpool_guest::task]
fn set_up(how: String) -> Result<(), String> {
    end(&how)?;
    SET_UP.store(7, Ordering::Relaxed);
    Ok(())
}

#[sandpool_guest::task]
fn was_set_up() -> u64 {
    SET_UP.load(Ordering::Relaxed)
}

fn main() {}
