//! Checks whether a module can run here, and the texts for modules that can't. This runs in the compiler.

use sandpool_abi::ABI_VERSION;
use serde::{Deserialize, Serialize};
use wasmparser::Validator;

use crate::Error;
use crate::engine::config;
use crate::engine::inspect::{self, Inspection, Problem, Provision};
use crate::engine::known::Function;
use crate::guest_text::escaped_up_to;

/// Each memory takes addresses of a process, however small the memory is, and the kernel's page tables for them take memory that no
/// other limit counts.
const MEMORIES_MAX: usize = 8;

/// The most characters of a refusal's text.
const TEXT_MAX: usize = 1000;

/// Why a module can't run here: an [`Error`] that crosses from the compiler to its owner, which knows the module's name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ModuleRefusal {
    NotAModule { problem: String, hint: Option<String> },
    MissingStart,
    MissingMemory,
    UnknownImport { import: String, nearest: Option<String> },
    ImportType { import: String, found: String, expected: String },
    AbiVersion { guest: u32 },
    Compile { problem: String },
    ArtifactTooLarge,
}

impl ModuleRefusal {
    /// Makes the error. Its texts have nothing that a terminal should not see, whatever their source.
    pub(crate) fn into_error(self, name: &str, artifact_max: u64) -> Error {
        let name = name.to_owned();
        let text = |text: String| escaped_up_to(TEXT_MAX, &text);
        match self {
            Self::NotAModule { problem, hint } => {
                Error::NotAModule { name, problem: text(problem), hint: hint.map(text) }
            }
            Self::MissingStart => Error::MissingExport { name, export: START },
            Self::MissingMemory => Error::MissingExport { name, export: MEMORY },
            Self::UnknownImport { import, nearest } => {
                Error::UnknownImport { name, import: text(import), nearest: nearest.map(text) }
            }
            Self::ImportType { import, found, expected } => {
                Error::ImportType { name, import: text(import), found: text(found), expected: text(expected) }
            }
            Self::AbiVersion { guest } => Error::AbiVersion { name, guest, host: ABI_VERSION },
            Self::Compile { problem } => Error::Compile { name, problem: text(problem) },
            Self::ArtifactTooLarge => {
                Error::CompileLimit { name, limit: crate::error::CompileLimit::Artifact(artifact_max) }
            }
        }
    }
}

impl From<Problem> for ModuleRefusal {
    fn from((problem, hint): Problem) -> Self {
        not_a_module(problem, hint)
    }
}

fn not_a_module(problem: impl Into<String>, hint: Option<&str>) -> ModuleRefusal {
    ModuleRefusal::NotAModule { problem: problem.into(), hint: hint.map(str::to_owned) }
}

/// Refuses modules that can't run here. The version is checked first: it explains strange imports.
pub(crate) fn check(known: &[Function], wasm: &[u8]) -> Result<Inspection, ModuleRefusal> {
    let found = Inspection::from_wasm(known, wasm)?;
    check_version(&found)?;
    check_memories(&found)?;
    check_imports(&found)?;
    check_exports(&found)?;
    Validator::new_with_features(config::FEATURES).validate_all(wasm).map_err(|error| {
        let (problem, _) = inspect::malformed(error);
        not_a_module(
            problem,
            Some("Sandpool runs WebAssembly 3.0 without GC, exceptions, threads and 64-bit memories"),
        )
    })?;
    Ok(found)
}

fn check_version(found: &Inspection) -> Result<(), ModuleRefusal> {
    match found.abi_version {
        Some(guest) if guest != ABI_VERSION => Err(ModuleRefusal::AbiVersion { guest }),
        None if found.custom_sections.iter().any(|section| *section == sandpool_abi::ABI_SECTION) => {
            let problem = format!("its section {} is too short", sandpool_abi::ABI_SECTION);
            Err(not_a_module(problem, Some("build or copy it again")))
        }
        _ => Ok(()),
    }
}

fn check_memories(found: &Inspection) -> Result<(), ModuleRefusal> {
    const HINT: &str =
        "build the guest for wasm32-wasip1, without threads: Sandpool's processes run in parallel";
    if found.memories.iter().any(|memory| memory.shared) {
        return Err(not_a_module("it uses threads (a shared memory)", Some(HINT)));
    }
    if found.memories.iter().any(|memory| memory.imported) {
        return Err(not_a_module("it imports its memory", Some("link it without --import-memory")));
    }
    if found.memories.len() > MEMORIES_MAX {
        let problem = format!("it has {} memories", found.memories.len());
        let hint = format!("a module may have {MEMORIES_MAX}");
        return Err(not_a_module(problem, Some(&hint)));
    }
    Ok(())
}

fn check_imports(found: &Inspection) -> Result<(), ModuleRefusal> {
    for import in &found.imports {
        let full = format!("{}.{}", import.module, import.name);
        match &import.provision {
            Provision::Provided => {}
            Provision::Unknown { nearest } => {
                return Err(ModuleRefusal::UnknownImport { import: full, nearest: nearest.clone() });
            }
            Provision::Mismatch { expected } => {
                let (found, expected) = (import.ty.clone(), expected.clone());
                return Err(ModuleRefusal::ImportType { import: full, found, expected });
            }
        }
    }
    Ok(())
}

/// The export that a program begins with.
const START: &str = "_start";
/// The export that a module without `_start` may need to be called first.
const INITIALIZE: &str = "_initialize";
/// The memory that the host reads and writes.
const MEMORY: &str = "memory";
/// The type of a task.
const TASK: &str = "(i32, i32) -> i32";
/// The longest name of a task, in bytes.
const TASK_NAME_MAX: usize = 127;

/// Whether the module is a program, beside the tasks that it may have.
pub(crate) fn is_program(found: &Inspection) -> bool {
    exports(found, START)
}

fn exports(found: &Inspection, name: &str) -> bool {
    found.exports.iter().any(|export| export.name == name)
}

fn check_exports(found: &Inspection) -> Result<(), ModuleRefusal> {
    if found.tasks.is_empty() && !exports(found, START) {
        return Err(ModuleRefusal::MissingStart);
    }
    if !exports(found, MEMORY) {
        return Err(ModuleRefusal::MissingMemory);
    }
    for export in &found.exports {
        let task = export.name.raw().strip_prefix(sandpool_abi::task::EXPORT_PREFIX);
        let expected = match export.name.raw() {
            START | INITIALIZE => "() -> ()",
            MEMORY => "memory",
            _ if task.is_some() => TASK,
            _ => continue,
        };
        if export.ty != expected {
            let problem = format!("its export {} is {}, not {expected}", export.name, export.ty);
            return Err(not_a_module(problem, None));
        }
        if task.is_some_and(|task| task.is_empty() || task.len() > TASK_NAME_MAX) {
            let problem = format!(
                "the name of its task {} is empty, or longer than {TASK_NAME_MAX} bytes",
                export.name
            );
            return Err(not_a_module(problem, Some("give the task another name")));
        }
    }
    Ok(())
}
