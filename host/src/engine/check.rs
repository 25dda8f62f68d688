//! Checks whether a module can run here, and the texts for modules that can't. This runs in the compiler.

use std::collections::HashMap;

use sandpool_abi::ABI_VERSION;
use serde::{Deserialize, Serialize};
use wasmparser::{Validator, WasmFeatures};

use crate::Error;
use crate::config::UnknownImports;
use crate::engine::component;
use crate::engine::config;
use crate::engine::inspect::is_of_hierarchy;
use crate::engine::inspection::{
    ImportInfo, Inspection, ModuleKind, Problem, Provision, TaskInfo, malformed,
};
use crate::engine::known::Function;
use crate::guest_text::escaped_up_to;

/// Each memory takes addresses of a process, however small the memory is, and the kernel's page tables for them take memory that no
/// other limit counts.
pub(crate) const MEMORIES_MAX: usize = 8;

/// The most characters of a refusal's text.
const TEXT_MAX: usize = 1000;

/// Why a module can't run here: an [`Error`] that crosses from the compiler to its owner, which knows the module's name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ModuleRefusal {
    NotAModule { problem: String, hint: Option<String> },
    MissingStart,
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

/// Summary of a module that can run here.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Whether this is a component, and not a module.
    pub(crate) is_component: bool,
    /// Whether the module is a program, beside the tasks that it has.
    pub(crate) is_program: bool,
    /// Whether the module runs code when it is instantiated.
    pub(crate) has_start: bool,
    /// Whether the module may need a heap for collected objects, beside its memories.
    pub(crate) has_collected: bool,
    /// Why the module is refused unless calls of unknown imports trap.
    pub(crate) unknown_import: Option<ModuleRefusal>,
    pub(crate) tasks: Vec<TaskInfo>,
}

/// Refuses modules that can't run here. The version is checked first: it explains strange imports.
pub(crate) fn check(
    known: &[Function],
    wasm: &[u8],
    unknown_imports: UnknownImports,
) -> Result<Summary, ModuleRefusal> {
    let found = Inspection::from_wasm(known, wasm)?;
    if found.kind == ModuleKind::Component {
        return check_component(wasm, found, unknown_imports);
    }
    check_version(&found)?;
    if unknown_imports == UnknownImports::Refuse
        && let Some(import) = found.imports.iter().find(|import| javascript(import).is_some())
    {
        return Err(unknown(import));
    }
    check_memories(&found)?;
    let unknown_import = check_imports(&found, unknown_imports)?;
    check_exports(&found)?;
    let has_collected = validate(wasm, config::FEATURES)?;
    let is_program = exports(&found, START);
    let is_component = false;
    Ok(Summary {
        is_component,
        is_program,
        has_start: found.has_start,
        has_collected,
        unknown_import,
        tasks: found.tasks,
    })
}

/// Returns whether the module may need a heap for collected objects. Few modules do, and only those are looked at twice.
fn validate(wasm: &[u8], features: WasmFeatures) -> Result<bool, ModuleRefusal> {
    let valid = |features| Validator::new_with_features(features).validate_all(wasm);
    if valid(features.difference(config::COLLECTED)).is_ok() {
        return Ok(false);
    }
    match valid(features) {
        Ok(_) => Ok(true),
        Err(error) => {
            let (problem, _) = malformed(error);
            let hint = Some(hint_for(&problem));
            Err(not_a_module(problem, hint))
        }
    }
}

/// Advice on a module that the validator has refused for this reason.
fn hint_for(problem: &str) -> &'static str {
    if let Some(hint) = component::hint_for(problem) {
        hint
    } else if problem.contains("memory64") {
        "64-bit memories and tables are refused, because pointers of WASI and Sandpool have 32 bits: build the guest for \
         wasm32-wasip1"
    } else if problem.contains("threads") {
        "threads are refused, because a guest's process has one; processes run in parallel: build the guest for wasm32-wasip1, \
         without threads"
    } else if problem.contains("legacy") {
        "these are exceptions as they were before WebAssembly 3.0: compile C and C++ with -mllvm -wasm-use-legacy-eh=false, or \
         translate the module with wasm-opt --translate-to-exnref"
    } else {
        "Sandpool runs WebAssembly 3.0 without threads and 64-bit memories"
    }
}

/// Refuses components that can't run here.
fn check_component(
    wasm: &[u8],
    found: Inspection,
    unknown_imports: UnknownImports,
) -> Result<Summary, ModuleRefusal> {
    let mut unknown_import = None;
    for import in found.imports.iter().filter(|import| import.provision != Provision::Provided) {
        let (refusal, can_trap) = unknown_of_component(import);
        if !can_trap || unknown_imports == UnknownImports::Refuse {
            return Err(refusal);
        }
        unknown_import.get_or_insert(refusal);
    }
    let exports_interface = |is_it: &dyn Fn(&str) -> bool| {
        let of = |name: &str| name.split_once('#').is_some_and(|(interface, _)| is_it(interface));
        found.exports.iter().any(|export| of(export.name.raw()))
    };
    let is_program = exports_interface(&component::is_run);
    if exports_interface(&|interface| interface.starts_with("wasi:") && interface.contains("@0.3.")) {
        return Err(not_a_module("it is asynchronous, of WASI 0.3", Some(component::ASYNCHRONOUS)));
    }
    if !is_program && found.tasks.is_empty() {
        let problem = if exports_interface(&|interface| interface.starts_with("wasi:http/")) {
            "it answers HTTP requests (wasi:http/incoming-handler), and is neither a program nor has it tasks"
        } else {
            "it is a component that exports neither wasi:cli/run nor a function of data"
        };
        return Err(not_a_module(
            problem,
            Some(
                "build it as a command, or let its world export a function whose parameters and result are data",
            ),
        ));
    }
    for task in &found.tasks {
        if task.name.raw().len() > TASK_NAME_MAX {
            let problem = format!("the name of its task {} is longer than {TASK_NAME_MAX} bytes", task.name);
            return Err(not_a_module(problem, Some("give the function another name")));
        }
    }
    if found.memories.iter().any(|memory| memory.is_shared) {
        let hint = "build the component without threads: Sandpool's processes run in parallel";
        return Err(not_a_module("it uses threads (a shared memory)", Some(hint)));
    }
    let has_collected = validate(wasm, component::COMPONENT_FEATURES)?;
    Ok(Summary {
        is_component: true,
        is_program,
        has_start: found.has_start,
        has_collected,
        unknown_import,
        tasks: found.tasks,
    })
}

/// The refusal of a component for an import that nobody provides, and whether calls of the import can trap instead.
fn unknown_of_component(import: &ImportInfo) -> (ModuleRefusal, bool) {
    const NETWORK: &str = "Sandpool gives guests no network; a program that can do without it runs with `--unknown-imports trap`, and \
         then traps when it uses it";
    const COMPOSE: &str = "compose it with a component that exports this (`wac plug`, `wasm-tools compose`); a program that never \
         uses it runs with `--unknown-imports trap`";
    let name = import.module.raw();
    let item = if import.name.raw().is_empty() { String::new() } else { format!(" ({})", import.name) };
    let shown = format!("{}{item}", import.module);
    let is_of = |package: &str| name.strip_prefix(package).is_some_and(|rest| rest.starts_with([':', '/']));
    if is_of("sandpool") || name.starts_with("sandpool_") {
        let hint = "a component is one process: for processes, queues and shared memory, build the guest for wasm32-wasip1, as a \
             core module";
        return (not_a_module(format!("it is a component that imports {shown}"), Some(hint)), false);
    }
    if is_of("wasi") && name.contains("@0.3.") || import.ty.starts_with("async ") {
        let problem = format!("it imports {shown}, which is asynchronous");
        return (not_a_module(problem, Some(component::ASYNCHRONOUS)), false);
    }
    if !(import.ty.starts_with("func(") || import.ty == "resource") {
        let problem = format!("it imports {shown}, a {}, which Sandpool does not provide", import.ty);
        return (not_a_module(problem, Some("of unknown imports, only calls of functions can trap")), false);
    }
    let (what, hint) = if is_of("wasi:http") || is_of("wasi:sockets") {
        ("the network", NETWORK)
    } else {
        ("an interface that Sandpool does not provide", COMPOSE)
    };
    (not_a_module(format!("it imports {shown}, {what}"), Some(hint)), true)
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
    if found.memories.iter().any(|memory| memory.is_shared) {
        return Err(not_a_module("it uses threads (a shared memory)", Some(HINT)));
    }
    if found.memories.iter().any(|memory| memory.is_imported) {
        return Err(not_a_module("it imports its memory", Some("link it without --import-memory")));
    }
    if found.memories.len() > MEMORIES_MAX {
        let problem = format!("it has {} memories", found.memories.len());
        let hint = format!("a module may have {MEMORIES_MAX}");
        return Err(not_a_module(problem, Some(&hint)));
    }
    Ok(())
}

fn full_name(import: &ImportInfo) -> String {
    format!("{}.{}", import.module, import.name)
}

/// Returns why the module would be refused if calls of unknown imports didn't trap.
fn check_imports(
    found: &Inspection,
    unknown_imports: UnknownImports,
) -> Result<Option<ModuleRefusal>, ModuleRefusal> {
    let mut first_unknown = None;
    let mut types = HashMap::new();
    for import in &found.imports {
        // A function that traps has one type; a type of a hierarchy isn't known by what is written of it.
        if matches!(import.provision, Provision::Unknown { .. })
            && let Some(expected) = types.insert((import.module.raw(), import.name.raw()), &import.ty)
            && (*expected != import.ty || is_of_hierarchy(&import.ty))
        {
            let (found, expected) = (import.ty.clone(), expected.clone());
            return Err(ModuleRefusal::ImportType { import: full_name(import), found, expected });
        }
        match &import.provision {
            Provision::Provided => {}
            Provision::Unknown { .. } if unknown_imports == UnknownImports::Refuse => {
                return Err(unknown(import));
            }
            Provision::Unknown { .. }
                if matches!(import.ty.as_str(), "memory" | "table" | "global" | "tag") =>
            {
                let problem = format!(
                    "it imports {}, a {}, which Sandpool does not provide",
                    full_name(import),
                    import.ty
                );
                return Err(not_a_module(
                    problem,
                    Some("of unknown imports, only calls of functions can trap"),
                ));
            }
            Provision::Unknown { .. } => _ = first_unknown.get_or_insert_with(|| unknown(import)),
            Provision::Mismatch { expected } => {
                let (found, expected) = (import.ty.clone(), expected.clone());
                return Err(ModuleRefusal::ImportType { import: full_name(import), found, expected });
            }
        }
    }
    Ok(first_unknown)
}

/// The refusal of a module for an import that nobody provides.
fn unknown(import: &ImportInfo) -> ModuleRefusal {
    let import_name = full_name(import);
    match (javascript(import), &import.provision) {
        (Some((maker, instead)), _) => not_a_module(
            format!("it is made for JavaScript, by {maker}: it imports {import_name}"),
            Some(instead),
        ),
        (None, Provision::Unknown { nearest }) => {
            ModuleRefusal::UnknownImport { import: import_name, nearest: nearest.clone() }
        }
        (None, _) => ModuleRefusal::UnknownImport { import: import_name, nearest: None },
    }
}

/// The tool that made a module which imports this for a JavaScript host, and what to build instead. `None` if the import doesn't
/// tell.
fn javascript(import: &ImportInfo) -> Option<(&'static str, &'static str)> {
    if !matches!(import.provision, Provision::Unknown { .. }) {
        return None;
    }
    let (module, name) = (import.module.raw(), import.name.raw());
    let begins = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    match module {
        "gojs" | "go" => Some(("Go", "build it with GOOS=wasip1 GOARCH=wasm")),
        "rb-js-abi-host" => Some((
            "Ruby's package js",
            "take a build of Ruby for wasm32-wasip1 without the package js: the one named ruby-…-wasm32-unknown-wasip1",
        )),
        "wbg" => Some(WASM_BINDGEN),
        _ if module.starts_with("__wbindgen") || module.ends_with("_bg.js") => Some(WASM_BINDGEN),
        "env" | "a"
            if begins(&[
                "emscripten_",
                "_emscripten_",
                "__syscall_",
                "invoke_",
                "_embind_",
                "_emval_",
                "__cxa_",
            ]) || name.starts_with("_abort_js") =>
        {
            Some((
                "Emscripten",
                "build it for wasm32-wasip1 with clang and wasi-libc, or with emcc -sSTANDALONE_WASM",
            ))
        }
        "env" if name == "abort" && import.ty == "(i32, i32, i32, i32) -> ()" => Some((
            "AssemblyScript",
            "compile it with --config ./node_modules/@assemblyscript/wasi-shim/asconfig.json, or with --use abort=",
        )),
        _ => None,
    }
}

const WASM_BINDGEN: (&str, &str) = (
    "wasm-bindgen",
    "build the crate for wasm32-wasip1 without wasm-bindgen, as `sandpool build` does; crates may have a feature for it, such \
     as `js` or `wasmbind`",
);

/// The export that a program begins with.
const START: &str = "_start";
/// The export that a module without `_start` may need to be called first.
const INITIALIZE: &str = "_initialize";
/// The memory that the host reads and writes, if the module has any.
const MEMORY: &str = "memory";
/// The type of a task.
const TASK: &str = "(i32, i32) -> i32";
/// The longest name of a task, in bytes.
const TASK_NAME_MAX: usize = 127;

fn exports(found: &Inspection, name: &str) -> bool {
    found.exports.iter().any(|export| export.name == name)
}

fn check_exports(found: &Inspection) -> Result<(), ModuleRefusal> {
    if found.tasks.is_empty() && !exports(found, START) {
        if exports(found, INITIALIZE) {
            return Err(not_a_module(
                "it is a reactor: a library that exports _initialize, and neither _start nor a task",
                Some(
                    "build it as a program: in C without -mexec-model=reactor, in Go without -buildmode=c-shared, in Rust as a \
                     binary; or give it tasks",
                ),
            ));
        }
        return Err(ModuleRefusal::MissingStart);
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
