//! A module's own description, read without compiling the module.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use wasmparser::{
    BinaryReaderError, Chunk, CompositeInnerType, ExternalKind, FuncType, MemoryType, Parser, Payload,
    TypeRef,
};

use crate::config::MODULE_MAX;
use crate::engine::component;
use crate::engine::known::{self, Function};
use crate::guest_text::escaped_up_to;
use crate::{Error, GuestText, Result};

/// The most characters that are shown of a name from a module.
const SHOWN_MAX: usize = 200;

/// The most imports, and the most exports, of a module that can be inspected.
pub(super) const LISTED_MAX: usize = 100_000;

/// The most unknown imports for which the nearest known one is looked for, which takes a while.
const NEAREST_SOUGHT_MAX: usize = 100;

/// The most parameters and results of a function type that are written out.
const TYPES_SHOWN_MAX: usize = 50;

/// The most lines that are kept of a task's documentation.
const DOCS_LINES_MAX: usize = 1000;

/// The kind of a WebAssembly binary.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A core module, as compilers make for `wasm32-wasip1`.
    #[default]
    Module,
    /// A component, as compilers make for `wasm32-wasip2`: core modules, and interfaces with types.
    Component,
}

impl fmt::Display for Kind {
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
    pub kind: Kind,
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

impl Inspection {
    /// Reads the description of a module from a file: `.wasm`, or `.wat` text.
    ///
    /// # Errors
    /// [`Error::Read`] for a file that can't be read, [`Error::NotAModule`] for one that isn't a WebAssembly core
    /// module or component, or is damaged.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read(path, MODULE_MAX)?;
        let known = known::functions()?;
        let found = if bytes.len() as u64 > MODULE_MAX {
            Err(("it is larger than 1 GiB".to_owned(), None))
        } else {
            to_wasm(&bytes).and_then(|wasm| Self::from_wasm(&known, &wasm))
        };
        found.map_err(|(problem, hint)| Error::NotAModule {
            name: display_name(path),
            problem,
            hint: hint.map(str::to_owned),
        })
    }

    /// Reads a module in binary form. Its imports are compared with these functions.
    pub(crate) fn from_wasm(known: &[Function], wasm: &[u8]) -> Result<Self, Problem> {
        if component::is_component(wasm) {
            return component::read(wasm);
        }
        Reader::new(known, wasm.len()).read(wasm)
    }
}

/// The file's own name, which names the module in messages.
pub(crate) fn display_name(path: &Path) -> String {
    printable(&path.file_name().unwrap_or(path.as_os_str()).to_string_lossy())
}

/// Reads a whole file. Of a file larger than `bytes_max`, one byte more is read, so that the caller sees it is larger.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read =
        File::open(path).and_then(|file| file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(bytes)
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

const BUILD_WASIP1: &str = "build the guest for wasm32-wasip1, as `sandpool build` does";

/// The problem of a module, and a hint what to do about it.
pub(crate) type Problem = (String, Option<&'static str>);

/// The module in binary form, whether it was given so or as text; the error says what the file looks like instead.
pub(crate) fn to_wasm(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    const MAGIC: &[u8] = b"\0asm";
    let refuse = |problem: &str, hint| Err((problem.to_owned(), Some(hint)));
    match bytes {
        [] => refuse("the file is empty", BUILD_WASIP1),
        [b'\0', b'a', b's', b'm', ..] => Ok(bytes.into()),
        _ if MAGIC.starts_with(bytes) => refuse("the file is truncated", BUILD_WASIP1),
        [0x7f, b'E', b'L', b'F', ..] => refuse("it is an ELF file, which is native code", BUILD_WASIP1),
        [b'P', b'K', 3, 4, ..] => refuse("it is a zip archive", "unpack it first"),
        [0x1f, 0x8b, ..] => refuse("it is compressed with gzip", "unpack it first"),
        [b'#', b'!', ..] => refuse("it is a script", BUILD_WASIP1),
        _ => match wat::Detect::from_bytes(bytes) {
            wat::Detect::WasmText => {
                wat::parse_bytes(bytes).map_err(|error| (wat_problem(&error.to_string()), None))
            }
            _ if std::str::from_utf8(bytes).is_ok() => {
                refuse("it is text, but not WebAssembly text", "give a .wasm or .wat file")
            }
            _ => refuse("it has no WebAssembly header", BUILD_WASIP1),
        },
    }
}

/// Makes one line of the several that the parser of WebAssembly text draws.
fn wat_problem(drawn: &str) -> String {
    let problem = printable(drawn.lines().next().unwrap_or_default());
    let place = drawn.lines().find_map(|line| line.trim_start().strip_prefix("--> <anon>:"));
    match place.and_then(|place| place.split_once(':')) {
        Some((line, column)) => format!("line {line}, column {column}: {problem}"),
        None => problem,
    }
}

/// A function type of the module.
struct FunctionType {
    ty: FuncType,
    /// Whether the type is nothing but its parameters and results. A type that may have subtypes, has a supertype or was declared in
    /// a group with others is another one than the type of the same parameters and results alone, which functions of the host have.
    is_plain: bool,
}

/// Stands after the parameters and results of a type that isn't plain.
const OF_HIERARCHY: &str = "in a hierarchy of types";

/// Whether a function type that is written like this isn't plain.
pub(crate) fn is_of_hierarchy(ty: &str) -> bool {
    ty.ends_with(OF_HIERARCHY)
}

/// Collects an [`Inspection`] section by section.
struct Reader<'a> {
    known: &'a [Function],
    /// the function types, at their indices; `None` where another type stands
    types: Vec<Option<FunctionType>>,
    /// indices of types, those of imported functions first
    functions: Vec<u32>,
    /// the module's descriptions of its tasks
    descriptions: Vec<TaskInfo>,
    found: Inspection,
}

impl<'a> Reader<'a> {
    fn new(known: &'a [Function], size: usize) -> Self {
        let found = Inspection { size: size as u64, ..Inspection::default() };
        Self { known, types: Vec::new(), functions: Vec::new(), descriptions: Vec::new(), found }
    }

    fn read(mut self, wasm: &[u8]) -> Result<Inspection, Problem> {
        let truncated =
            |at: usize| (format!("it is truncated after {at} bytes"), Some("build or copy it again"));
        let mut parser = Parser::new(0);
        let mut at = 0;
        let mut code_seen = false;
        loop {
            let rest = wasm.get(at..).unwrap_or_default();
            // The parser takes the end of the input for the module's end only where one section ends.
            // Without `eof` it tells a cut-off section apart from a malformed one.
            let payload = match parser.parse(rest, rest.is_empty()) {
                Ok(Chunk::Parsed { consumed, payload }) => {
                    at += consumed;
                    payload
                }
                Ok(Chunk::NeedMoreData(_)) => return Err(truncated(wasm.len())),
                Err(_) if rest.is_empty() => return Err(truncated(wasm.len())),
                Err(error) => return Err(malformed(error)),
            };
            match payload {
                Payload::StartSection { .. } => self.found.has_start = true,
                // Going through the code takes long and tells nothing.
                Payload::CodeSectionStart { size, .. } => {
                    code_seen = true;
                    parser.skip_section();
                    at = usize::try_from(size)
                        .ok()
                        .and_then(|size| at.checked_add(size))
                        .unwrap_or(usize::MAX);
                    if at > wasm.len() {
                        return Err(truncated(wasm.len()));
                    }
                }
                Payload::End(_) if self.found.functions > 0 && !code_seen => {
                    return Err(truncated(wasm.len()));
                }
                Payload::End(_) => {
                    self.find_tasks();
                    return Ok(self.found);
                }
                other => self.section(&other).map_err(malformed)?,
            }
            if self.found.imports.len() > LISTED_MAX || self.found.exports.len() > LISTED_MAX {
                return Err((format!("it has more than {LISTED_MAX} imports or exports"), None));
            }
        }
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    let group = group?;
                    let is_alone = group.types().len() == 1;
                    self.types.extend(group.into_types().map(|ty| {
                        let is_plain = is_alone && ty.is_final && ty.supertype_idx.is_none();
                        match ty.composite_type.inner {
                            CompositeInnerType::Func(ty) => Some(FunctionType { ty, is_plain }),
                            _ => None,
                        }
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports().take(LISTED_MAX + 1) {
                    let import = import?;
                    self.import(import.module, import.name, import.ty);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    self.functions.push(ty?);
                    self.found.functions += 1;
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    self.found.memories.push(MemoryInfo::new(memory?, false));
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone().into_iter().take(LISTED_MAX + 1) {
                    let export = export?;
                    let ty = self.export_type(export.kind, export.index);
                    self.found.exports.push(ExportInfo { name: short(export.name), ty });
                }
            }
            Payload::CustomSection(section) => {
                self.found.custom_sections.push(short(section.name()));
                if section.name() == sandpool_abi::ABI_SECTION && self.found.abi_version.is_none() {
                    self.found.abi_version =
                        section.data().first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
                }
                if section.name() == sandpool_abi::task::SECTION {
                    self.descriptions.extend(descriptions(section.data()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, module: &str, name: &str, ty: TypeRef) {
        let ty = match ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                self.function_type(index)
            }
            TypeRef::Memory(memory) => {
                self.found.memories.push(MemoryInfo::new(memory, true));
                "memory".to_owned()
            }
            TypeRef::Table(_) => "table".to_owned(),
            TypeRef::Global(_) => "global".to_owned(),
            TypeRef::Tag(_) => "tag".to_owned(),
        };
        let known = self.known.iter().find(|function| function.module == module && function.name == name);
        let provision = match known {
            Some(function) if function.signature == ty => Provision::Provided,
            Some(function) => Provision::Mismatch { expected: function.signature.clone() },
            None if self.found.imports.len() >= NEAREST_SOUGHT_MAX => Provision::Unknown { nearest: None },
            None => Provision::Unknown { nearest: known::nearest(self.known, module, name) },
        };
        self.found.imports.push(ImportInfo { module: short(module), name: short(name), ty, provision });
    }

    /// Finds the tasks: exports whose names have a task's prefix, with or without a description.
    fn find_tasks(&mut self) {
        let exports = self.found.exports.iter();
        let names =
            exports.filter_map(|export| export.name.raw().strip_prefix(sandpool_abi::task::EXPORT_PREFIX));
        let described = |name: &str| self.descriptions.iter().find(|task| task.name == name).cloned();
        let mut tasks: Vec<_> = names
            .map(|name| {
                described(name).unwrap_or_else(|| TaskInfo { name: name.into(), ..TaskInfo::default() })
            })
            .collect();
        tasks.sort_by(|one, other| one.name.raw().cmp(other.name.raw()));
        self.found.tasks = tasks;
    }

    fn export_type(&self, kind: ExternalKind, index: u32) -> String {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => {
                let ty = self.functions.get(index as usize);
                ty.map_or_else(|| "a function that is not there".to_owned(), |ty| self.function_type(*ty))
            }
            ExternalKind::Memory => "memory".to_owned(),
            ExternalKind::Table => "table".to_owned(),
            ExternalKind::Global => "global".to_owned(),
            ExternalKind::Tag => "tag".to_owned(),
        }
    }

    fn function_type(&self, index: u32) -> String {
        match self.types.get(index as usize) {
            Some(Some(FunctionType { ty, .. }))
                if ty.params().len() + ty.results().len() > TYPES_SHOWN_MAX =>
            {
                format!("{} parameters, {} results", ty.params().len(), ty.results().len())
            }
            Some(Some(FunctionType { ty, is_plain })) => {
                let signature = known::signature(ty.params(), ty.results());
                if *is_plain { signature } else { format!("{signature} {OF_HIERARCHY}") }
            }
            _ => "a function of a type that is not there".to_owned(),
        }
    }
}

/// Reads the section of tasks: five texts for each task, each ended by a zero byte. A task that is cut off is left out.
fn descriptions(section: &[u8]) -> Vec<TaskInfo> {
    let texts: Vec<_> = section.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let text = |text: &str| (!text.is_empty()).then(|| short(text));
    let (tasks, _) = texts.as_chunks::<5>();
    tasks
        .iter()
        .map(|[name, input, output, error, docs]| TaskInfo {
            name: short(name),
            input: text(input),
            output: text(output),
            error: text(error),
            docs: docs_text(docs),
        })
        .collect()
}

/// Documentation without the space that comments begin with.
fn docs_text(docs: &str) -> GuestText {
    let lines = docs.lines().map(|line| short(line.strip_prefix(' ').unwrap_or(line)));
    let mut text = String::new();
    for line in lines.take(DOCS_LINES_MAX) {
        text.push_str(line.raw());
        text.push('\n');
    }
    text.trim_matches('\n').into()
}

impl MemoryInfo {
    pub(super) fn new(ty: MemoryType, is_imported: bool) -> Self {
        Self { pages_min: ty.initial, pages_max: ty.maximum, is_shared: ty.shared, is_imported }
    }
}

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
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        assert_eq!(printable("a\u{1b}[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(printable(&"é".repeat(300)).chars().count(), 201);
    }

    #[test]
    fn a_problem_in_text_is_one_line() {
        let error = wat::parse_str("(module\n  (fun))").unwrap_err().to_string();
        let problem = wat_problem(&error);
        assert!(problem.starts_with("line 2, column 4: "), "{problem}");
        assert_eq!(problem.lines().count(), 1);
    }

    #[test]
    fn tasks_are_exports_with_or_without_a_description() {
        let module = wat::parse_str(
            r#"(module
                (@custom "sandpool-tasks" "b\00(In, u8)\00Out\00E\00 First\1b.\n\n Second.\n\00gone\00\00\00\00\00")
                (@custom "sandpool-tasks" "c\00In\00()\00\00\00cut\00off")
                (func (export "sandpool_task_b")) (func (export "sandpool_task_a")) (func (export "sandpool_task_c"))
                (func (export "sandpool_task_cut")) (func (export "task_d")))"#,
        )
        .unwrap();
        let tasks = Inspection::from_wasm(&[], &module).unwrap().tasks;
        let shown: Vec<_> = tasks.iter().map(|task| (task.signature(), task.summary().to_string())).collect();
        let expected =
            [("a", ""), ("b(In, u8) -> Result<Out, E>", "First\\u{1b}."), ("c(In)", ""), ("cut", "")];
        assert_eq!(shown, expected.map(|(signature, docs)| (signature.to_owned(), docs.to_owned())));
        assert_eq!(tasks.get(1).map(|task| task.docs.raw()), Some("First\u{1b}.\n\nSecond."));
    }

    #[test]
    fn a_module_cut_anywhere_is_refused_or_lacks_exports() {
        let whole = wat::parse_str(
            r#"(module (import "sandpool_process" "current" (func (result i64)))
                       (memory (export "memory") 1) (func (export "_start") call 0 drop))"#,
        )
        .unwrap();
        assert_eq!(Inspection::from_wasm(&[], &whole).unwrap().exports.len(), 2);
        for len in 0..whole.len() {
            let cut = whole.get(..len).unwrap();
            let read = to_wasm(cut).and_then(|wasm| Inspection::from_wasm(&[], &wasm));
            match read {
                Ok(found) => assert!(found.exports.is_empty(), "cut at {len}: {found:?}"),
                Err((problem, _)) => assert!(
                    problem.contains("truncated") || problem.contains("empty"),
                    "cut at {len}: {problem}"
                ),
            }
        }
    }
}
