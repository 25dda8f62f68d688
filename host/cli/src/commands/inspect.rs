//! `sandpool inspect`: the imports, exports and tasks of a module.

use std::fmt::Write as _;
use std::path::PathBuf;

use sandpool::GuestText;
use sandpool::module::{Inspection, MemoryInfo, Provision};

use crate::exit_code::ExitCode;
use crate::text;

const EXAMPLES: &str = "\
Examples:
  sandpool inspect guest.wasm
      Lists tasks, imports and exports, and marks the imports that Sandpool does not provide

  sandpool inspect guest.wasm | grep unknown
      Lists only the imports that Sandpool does not provide";

/// Show a module's tasks, imports, exports, ABI version and memory, without running it.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InspectArgs {
    /// WebAssembly module or component (.wasm or .wat); a module that `sandpool run` refuses can be inspected too
    module: PathBuf,
}

pub(crate) fn run(args: InspectArgs) -> anyhow::Result<u8> {
    text::print(&describe(&Inspection::from_file(&args.module)?))?;
    Ok(ExitCode::Success.code())
}

fn describe(found: &Inspection) -> String {
    let abi = found.abi_version.map_or_else(|| "not stated".to_owned(), |version| version.to_string());
    let list = |items: Vec<String>| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let facts = [
        ["kind".to_owned(), found.kind.to_string()],
        ["size".to_owned(), text::bytes(found.size)],
        ["functions".to_owned(), found.functions.to_string()],
        ["ABI version".to_owned(), format!("{abi} (this Sandpool has {})", sandpool_abi::ABI_VERSION)],
        ["memory".to_owned(), list(found.memories.iter().map(memory).collect())],
        [
            "custom sections".to_owned(),
            list(found.custom_sections.iter().map(GuestText::to_string).collect()),
        ],
    ];
    let imports = found.imports.iter().map(|import| {
        let remark = match &import.provision {
            Provision::Provided => String::new(),
            missing => missing.to_string(),
        };
        [import.module.to_string(), import.name.to_string(), import.ty.clone(), remark]
    });
    let imports: Vec<_> = imports.collect();
    let exports: Vec<_> =
        found.exports.iter().map(|export| [export.name.to_string(), export.ty.clone()]).collect();
    let tasks: Vec<_> =
        found.tasks.iter().map(|task| [task.signature(), task.summary().to_string()]).collect();
    let mut out = text::columns("", &facts);
    // Writing to a string can't fail.
    if !tasks.is_empty() {
        let _ = write!(out, "\ntasks ({})\n{}", tasks.len(), text::columns("  ", &tasks));
    }
    let _ = write!(out, "\nimports ({})\n{}", imports.len(), text::columns("  ", &imports));
    let _ = write!(out, "\nexports ({})\n{}", exports.len(), text::columns("  ", &exports));
    out
}

fn memory(memory: &MemoryInfo) -> String {
    const PAGE: u64 = 64 << 10;
    let size = |pages: u64| text::bytes(pages.saturating_mul(PAGE));
    let mut out = size(memory.pages_min);
    match memory.pages_max {
        Some(max) => out.extend([" up to ", &size(max)]),
        None => out.push_str(", without a maximum"),
    }
    if memory.is_shared {
        out.push_str(", shared");
    }
    if memory.is_imported {
        out.push_str(", imported");
    }
    out
}
