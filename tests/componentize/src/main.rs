//! `sandpool-componentize PROGRAM.wasm COMPONENT.wasm`: makes a component of a program for WASI preview 1, with the adapter that
//! wasmtime publishes.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

fn main() -> anyhow::Result<()> {
    let paths: Vec<_> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    ensure!(paths.len() == 2, "usage: sandpool-componentize PROGRAM.wasm COMPONENT.wasm");
    let module = std::fs::read(&paths[0]).with_context(|| format!("cannot read {}", paths[0].display()))?;
    let component = ComponentEncoder::default()
        .module(&module)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)?
        .validate(true)
        .encode()?;
    std::fs::write(&paths[1], component).with_context(|| format!("cannot write {}", paths[1].display()))
}
