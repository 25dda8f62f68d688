//! Descriptions of modules and components: their imports, exports, tasks and memories, as data. [`inspect`](super::inspect) and
//! [`component`](super::component) read them from a binary.

use std::fmt;

use serde::{Deserialize, Serialize};
use wasmparser::{BinaryReaderError, MemoryType};

use crate::GuestText;
use crate::guest_text::escaped_up_to;

/// The most characters that are shown of a name from a module.
const SHOWN_MAX: usize = 200;

/// The most imports, and the most exports, of a module that can be inspected.
pub(super) const LISTED_MAX: usize = 100_000;

/// The most lines that are kept of a task's documentation.
const DOCS_LINES_MAX: usize = 1000;

/// The kind of a WebAssembly binary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModuleKind {
    /// A core module, as compilers make for `wasm32-wasip1`.
    #[default]
    Module,
    /// A component, as compilers make for `wasm32-wasip2`: core modules, and interfaces with types.
    Component,
}

impl fmt::Display for ModuleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Module => "module",
            Self::Component => "component",
        })
    }
}

/// Imports, exports, tasks and memories of a module. Modules that [`Module`](crate::Module) refuses can be inspected as well.
///
/// ```no_run
/// let inspection = sandpool::module::Inspection::from_file("guest.wasm")?;
/// for import in &inspection.imports {
///     println!("{}.{} {}", import.module, import.name, import.ty);
/// }
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// Whether this is a module or a component.
    pub kind: ModuleKind,
    /// Bytes of the module in its binary form.
    pub size: u64,
    /// The ABI version that the module was built against, if the module says so.
    pub abi_version: Option<u32>,
    /// All memories, imported ones first. Those of a component are the memories that its core modules define.
    pub memories: Vec<MemoryInfo>,
    /// Imports: functions and other items that the module needs.
    pub imports: Vec<ImportInfo>,
    /// Exports: functions and other items that the module offers.
    pub exports: Vec<ExportInfo>,
    /// The tasks among the exports, in order of their names.
    pub tasks: Vec<TaskInfo>,
    /// Names of the custom sections, in order.
    pub custom_sections: Vec<GuestText>,
    /// How many functions the module defines.
    pub functions: u64,
    /// Whether a function of the module runs when the module is instantiated, before any export is called.
    pub has_start: bool,
}

/// One memory of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryInfo {
    /// The memory's size at the start, in pages of 64 KiB.
    pub pages_min: u64,
    /// The memory's greatest size, in pages of 64 KiB.
    pub pages_max: Option<u64>,
    /// Whether threads may share the memory.
    pub is_shared: bool,
    /// Whether the module imports the memory.
    pub is_imported: bool,
}

/// One import of a module. Long names are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportInfo {
    /// The import module; of a component, the interface.
    pub module: GuestText,
    /// The name in that module.
    pub name: GuestText,
    /// The import's type, such as `(i32, i64) -> i32`; of a component, as WIT writes it: `func(len: u64) -> list<u8>`.
    pub ty: String,
    /// Whether Sandpool provides it.
    pub provision: Provision,
}

/// Whether Sandpool provides an import.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provision {
    /// Sandpool provides the import.
    Provided,
    /// Sandpool provides nothing of that name.
    Unknown {
        /// The nearest import that Sandpool provides, as `module.name`.
        nearest: Option<String>,
    },
    /// Sandpool provides that name with another type.
    Mismatch {
        /// The type that Sandpool provides.
        expected: String,
    },
}

impl fmt::Display for Provision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Provided => f.write_str("provided"),
            Self::Unknown { nearest: None } => f.write_str("unknown"),
            Self::Unknown { nearest: Some(nearest) } => write!(f, "unknown; the nearest is {nearest}"),
            Self::Mismatch { expected } => write!(f, "wrong type; it is {expected}"),
        }
    }
}

/// One export of a module. A long name is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportInfo {
    /// The export's name.
    pub name: GuestText,
    /// `memory`, `table`, `global`, `tag`, or the type of a function, such as `(i32) -> ()`; of a component, as WIT writes it.
    pub ty: String,
}

/// One task of a module: a function that it exports for the host to call. Long texts are cut.
///
/// ```no_run
/// for task in &sandpool::module::Inspection::from_file("guest.wasm")?.tasks {
///     println!("{}: {}", task.signature(), task.summary());
/// }
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskInfo {
    /// The task's name.
    pub name: GuestText,
    /// The task's input, as its author wrote it, if the module says so.
    pub input: Option<GuestText>,
    /// The task's output, as its author wrote it, if the module says so.
    pub output: Option<GuestText>,
    /// The task's errors, as their author wrote them, if the module says so and the task has any.
    pub error: Option<GuestText>,
    /// The task's documentation.
    pub docs: GuestText,
}

impl TaskInfo {
    /// The signature `score(Review) -> Result<Score, String>`, or only the name if the module says no more; fit for a terminal.
    #[must_use]
    pub fn signature(&self) -> String {
        let Self { name, input: Some(input), output: Some(output), error, .. } = self else {
            return self.name.to_string();
        };
        let input = input.to_string();
        let input = input.strip_prefix('(').and_then(|input| input.strip_suffix(')')).unwrap_or(&input);
        match error {
            Some(error) => format!("{name}({input}) -> Result<{output}, {error}>"),
            None if *output == "()" => format!("{name}({input})"),
            None => format!("{name}({input}) -> {output}"),
        }
    }

    /// Shortens the texts of a task from any source to the lengths that this module reads.
    pub(crate) fn into_short(self) -> Self {
        let text = |text: Option<GuestText>| text.map(|text| short(text.raw()));
        Self {
            name: short(self.name.raw()),
            input: text(self.input),
            output: text(self.output),
            error: text(self.error),
            docs: docs_text(self.docs.raw()),
        }
    }

    /// The first line of the task's documentation.
    #[must_use]
    pub fn summary(&self) -> GuestText {
        self.docs.lines().next().unwrap_or_default()
    }
}

impl MemoryInfo {
    pub(super) fn new(ty: MemoryType, is_imported: bool) -> Self {
        Self { pages_min: ty.initial, pages_max: ty.maximum, is_shared: ty.shared, is_imported }
    }
}

/// Text from a module, cut to a limited length.
pub(super) fn short(text: &str) -> GuestText {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}

/// The same text, made fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    escaped_up_to(SHOWN_MAX, text)
}

/// Documentation without the space that comments begin with.
pub(super) fn docs_text(docs: &str) -> GuestText {
    let lines = docs.lines().map(|line| short(line.strip_prefix(' ').unwrap_or(line)));
    let mut text = String::new();
    for line in lines.take(DOCS_LINES_MAX) {
        text.push_str(line.raw());
        text.push('\n');
    }
    text.trim_matches('\n').into()
}

/// The problem of a module, and a hint what to do about it.
pub(crate) type Problem = (String, Option<&'static str>);

/// Our words say where the damage is, the parser's words what it is.
#[allow(clippy::needless_pass_by_value, reason = "it is a function for map_err")]
pub(crate) fn malformed(error: BinaryReaderError) -> Problem {
    (
        format!("{} (at byte {:#x})", printable(error.message()), error.offset()),
        Some("build or copy it again"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(printable(&"é".repeat(300)).chars().count(), 201);
    }
}
