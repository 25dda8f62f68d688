//! `sandpool-componentize PROGRAM.wasm COMPONENT.wasm`: makes a component of a program for WASI preview 1, with the adapter that
//! wasmtime publishes.
//!
//! The program gets more memory to begin with. The adapter puts its own data behind the memory that is there at the start; and an
//! allocator of wasi-libc from before 2023, as Debian 12 has, takes all memory that is there at its first use for its own, which it
//! fills from the front. So the two don't meet until the program has used up what it gets here.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

/// Pages of memory that the program begins with.
const PAGES: u64 = 512;

/// The section of memories.
const MEMORIES: u8 = 5;

fn main() -> anyhow::Result<()> {
    let paths: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(paths.len() == 2, "usage: sandpool-componentize PROGRAM.wasm COMPONENT.wasm");
    let module = std::fs::read(&paths[0]).with_context(|| format!("cannot read {}", paths[0].display()))?;
    let component = ComponentEncoder::default()
        .module(&with_more_memory(&module)?)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()?;
    std::fs::write(&paths[1], component).with_context(|| format!("cannot write {}", paths[1].display()))
}

/// The module, whose memory begins with at least this number of pages and has no maximum.
fn with_more_memory(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (header, mut rest) = module.split_at_checked(8).context("it is no module")?;
    let mut out = header.to_vec();
    while let Some((&id, after)) = rest.split_first() {
        let (len, after) = number(after)?;
        let (section, after) = after.split_at_checked(len as usize).context("it is cut off")?;
        if id == MEMORIES {
            let memory = section.strip_prefix(&[1]).context("it has not one memory")?;
            let (min, _) = number(memory.get(1..).context("it is cut off")?)?;
            let mut section = vec![1, 0];
            put_number(&mut section, min.max(PAGES));
            out.push(id);
            put_number(&mut out, section.len() as u64);
            out.extend(section);
        } else {
            out.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    Ok(out)
}

/// Reads a number (LEB128), and returns the bytes after it.
fn number(bytes: &[u8]) -> anyhow::Result<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok((value, &bytes[at + 1..]));
        }
    }
    anyhow::bail!("a number is cut off")
}

fn put_number(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}
