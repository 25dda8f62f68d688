//! A component's own description, read without compiling the component: its imports and exports as WIT has them, and the
//! functions among the exports that are tasks.
//!
//! Nothing here looks at code: the types of a component are validated, the bodies of its functions aren't.

pub(crate) mod wit;

use std::collections::HashMap;

use wasmparser::component_types::{ComponentAnyTypeId, ComponentEntityType};
use wasmparser::types::Types;
use wasmparser::{BinaryReaderError, Parser, Payload, ValidPayload, Validator, WasmFeatures};

use self::wit::{Looked, Names};
use super::config::FEATURES;
use super::inspection::{
    ExportInfo, ImportInfo, Inspection, LISTED_MAX, MemoryInfo, ModuleKind, Problem, Provision, TaskInfo,
    malformed, short,
};

/// The features that components may use.
pub(crate) const COMPONENT_FEATURES: WasmFeatures = FEATURES.union(WasmFeatures::COMPONENT_MODEL);

/// The features with which a component is inspected: so those that aren't run can be described as well.
const INSPECTED: WasmFeatures = COMPONENT_FEATURES.union(WasmFeatures::CM_ASYNC);

/// The interface that a component exports if it is a program, but for its version.
const RUN: &str = "wasi:cli/run";

/// The interfaces of WASI 0.2 that the host provides.
pub(crate) const PROVIDED: [&str; 20] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// Whether this is the interface in a version of WASI 0.2 that was released.
pub(crate) fn is_of_wasi_02(full: &str, interface: &str) -> bool {
    full.strip_prefix(interface)
        .and_then(|version| version.strip_prefix("@0.2."))
        .is_some_and(|patch| !patch.is_empty() && patch.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether the host provides the interface of this name.
pub(crate) fn is_provided(name: &str) -> bool {
    PROVIDED.iter().any(|interface| is_of_wasi_02(name, interface))
}

/// Whether an export of this name makes a component a program.
pub(crate) fn is_run(export: &str) -> bool {
    is_of_wasi_02(export, RUN)
}

/// Whether these bytes begin as a component does.
pub(crate) fn is_component(wasm: &[u8]) -> bool {
    // The version of a module is 1, in four bytes; that of a component is 13, in two, and after it stands which of the two it is.
    wasm.get(6) == Some(&1) && wasm.get(7) == Some(&0)
}

/// A function that a component exports, which may be a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exported<'a> {
    /// The interface that has the function, unless the component exports the function by itself.
    pub(crate) interface: Option<&'a str>,
    pub(crate) function: &'a str,
}

/// The names of these functions as tasks. The name of the function is enough if no other has it; else the interface stands before
/// it.
pub(crate) fn task_names(functions: &[Exported<'_>]) -> Vec<String> {
    let mut count: HashMap<&str, u32> = HashMap::new();
    for function in functions {
        *count.entry(function.function).or_default() += 1;
    }
    let name = |function: &Exported<'_>| match function.interface {
        Some(interface) if count.get(function.function).is_some_and(|count| *count > 1) => {
            format!("{interface}#{}", function.function)
        }
        _ => function.function.to_owned(),
    };
    functions.iter().map(name).collect()
}

/// Whether an exported function with this name could be a task: constructors and methods of resources aren't.
pub(crate) fn is_plain(function: &str) -> bool {
    !function.starts_with('[')
}

/// Reads a component in binary form.
pub(crate) fn read(wasm: &[u8]) -> Result<Inspection, Problem> {
    let mut validator = Validator::new_with_features(INSPECTED);
    let mut found =
        Inspection { kind: ModuleKind::Component, size: wasm.len() as u64, ..Inspection::default() };
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_u32;
    let mut types = None;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(refused)?;
        match &payload {
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::StartSection { .. } | Payload::ComponentStartSection { .. } => found.has_start = true,
            Payload::FunctionSection(section) => found.functions += u64::from(section.count()),
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    found.memories.push(MemoryInfo::new(memory.map_err(malformed)?, false));
                }
            }
            Payload::CustomSection(section) if found.custom_sections.len() < LISTED_MAX => {
                found.custom_sections.push(short(section.name()));
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section.clone() {
                    imports.push(import.map_err(malformed)?.name.name);
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section.clone() {
                    exports.push(export.map_err(malformed)?.name.name);
                }
            }
            _ => {}
        }
        if imports.len() + exports.len() > LISTED_MAX || found.memories.len() > LISTED_MAX {
            return Err((format!("it has more than {LISTED_MAX} imports or exports"), None));
        }
        if let ValidPayload::End(end) = validator.payload(&payload).map_err(refused)?
            && depth == 0
        {
            types = Some(end);
        }
    }
    let types = types.ok_or_else(|| ("it is truncated".to_owned(), Some("build or copy it again")))?;
    Describer { types: &types, names: names(&types, &imports, &exports), looked: Looked::new(), found }
        .describe(&imports, &exports)
}

/// The problem of a component that is damaged, or uses what isn't there.
fn refused(error: BinaryReaderError) -> Problem {
    let problem = malformed(error);
    let hint = hint_for(&problem.0);
    (problem.0, hint.or(problem.1))
}

/// Advice on a component that the validator has refused for this reason.
pub(crate) fn hint_for(problem: &str) -> Option<&'static str> {
    let is_of = |words: &[&str]| words.iter().any(|word| problem.contains(word));
    is_of(&["async", "stream", "future", "error-context", "threading"]).then_some(ASYNCHRONOUS)
}

/// Advice on asynchronous components.
pub(crate) const ASYNCHRONOUS: &str = "asynchronous components, as of WASI 0.3, are refused, because a guest's process has one \
     thread and waits in it: build the component for WASI 0.2 (wasm32-wasip2)";

/// The names of types, as the component's imports and exports have them.
fn names<'a>(types: &'a Types, imports: &[&'a str], exports: &[&'a str]) -> Names<'a> {
    let mut names = HashMap::new();
    let mut left = LISTED_MAX;
    let mut add = |name: &'a str, ty: ComponentEntityType| match ty {
        ComponentEntityType::Type { created, .. } => _ = names.insert(created, name),
        ComponentEntityType::Instance(id) => {
            // Many instances may be of one type.
            for (name, item) in types[id].exports.iter().take(left) {
                left -= 1;
                if let ComponentEntityType::Type { created, .. } = item.ty {
                    names.insert(created, name);
                }
            }
        }
        _ => {}
    };
    for name in imports {
        types.component_item_for_import(name).into_iter().for_each(|item| add(name, item.ty));
    }
    for name in exports {
        types.component_item_for_export(name).into_iter().for_each(|item| add(name, item.ty));
    }
    names
}

struct Describer<'a> {
    types: &'a Types,
    names: Names<'a>,
    looked: Looked,
    found: Inspection,
}

impl<'a> Describer<'a> {
    fn describe(mut self, imports: &[&'a str], exports: &[&'a str]) -> Result<Inspection, Problem> {
        for name in imports {
            if let Some(item) = self.types.component_item_for_import(name) {
                self.import(name, item.ty);
            }
            self.check_len()?;
        }
        let mut functions = Vec::new();
        for name in exports {
            let Some(item) = self.types.component_item_for_export(name) else { continue };
            match item.ty {
                ComponentEntityType::Instance(id) => {
                    for (function, item) in &self.types[id].exports {
                        self.export(Some(name), function, item.ty, &mut functions);
                    }
                    if self.types[id].exports.is_empty() {
                        self.found.exports.push(ExportInfo { name: short(name), ty: "instance".to_owned() });
                    }
                }
                ty => self.export(None, name, ty, &mut functions),
            }
            self.check_len()?;
        }
        let names = task_names(&functions.iter().map(|(exported, _)| *exported).collect::<Vec<_>>());
        let mut tasks: Vec<_> = functions
            .iter()
            .zip(names)
            .map(|((_, task), name)| TaskInfo { name: name.as_str().into(), ..task.clone() })
            .collect();
        tasks.sort_by(|one, other| one.name.raw().cmp(other.name.raw()));
        self.found.tasks = tasks;
        Ok(self.found)
    }

    fn check_len(&self) -> Result<(), Problem> {
        if self.found.imports.len() > LISTED_MAX || self.found.exports.len() > LISTED_MAX {
            return Err((format!("it has more than {LISTED_MAX} imports or exports"), None));
        }
        Ok(())
    }

    fn import(&mut self, name: &str, ty: ComponentEntityType) {
        let is_provided = is_provided(name);
        let unknown = Provision::Unknown { nearest: None };
        let mut push = |item: &str, ty: String, provision| {
            self.found.imports.push(ImportInfo { module: short(name), name: short(item), ty, provision });
        };
        let ComponentEntityType::Instance(id) = ty else {
            // A type that is imported is only a name.
            let is_type =
                matches!(ty, ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(_), .. });
            let text = wit::entity(self.types, &self.names, ty);
            return push("", text, if is_type { Provision::Provided } else { unknown });
        };
        let items = self.types[id].exports.iter().filter(|(_, item)| !is_data(item.ty)).take(LISTED_MAX);
        let mut is_empty = true;
        for (item, ty) in items {
            is_empty = false;
            let provision = if is_provided { Provision::Provided } else { unknown.clone() };
            push(item, wit::entity(self.types, &self.names, ty.ty), provision);
        }
        if is_empty {
            push("", "types".to_owned(), Provision::Provided);
        }
    }

    fn export(
        &mut self,
        interface: Option<&'a str>,
        name: &'a str,
        ty: ComponentEntityType,
        functions: &mut Vec<(Exported<'a>, TaskInfo)>,
    ) {
        let full = interface.map_or_else(|| name.to_owned(), |interface| format!("{interface}#{name}"));
        let text = wit::entity(self.types, &self.names, ty);
        self.found.exports.push(ExportInfo { name: short(&full), ty: text });
        if interface.is_some_and(is_run) || !is_plain(name) {
            return;
        }
        if let ComponentEntityType::Func(id) = ty {
            let function = &self.types[id];
            let values = function.params.iter().map(|(_, ty)| *ty).chain(function.result);
            if !function.async_ && values.into_iter().all(|ty| wit::is_data(self.types, ty, &mut self.looked))
            {
                let task = wit::task(self.types, &self.names, function);
                functions.push((Exported { interface, function: name }, task));
            }
        }
    }
}

/// Whether this is a type other than a resource: data, which nobody has to provide.
fn is_data(ty: ComponentEntityType) -> bool {
    matches!(ty, ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(_), .. })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn versions_of_wasi_02_are_known() {
        assert!(is_run("wasi:cli/run@0.2.0") && is_run("wasi:cli/run@0.2.12"));
        for other in
            ["wasi:cli/run", "wasi:cli/run@0.3.0", "wasi:cli/run@0.2.0-rc-2023-12-05", "wasi:cli/run@0.2."]
        {
            assert!(!is_run(other), "{other}");
        }
    }

    #[test]
    fn functions_of_one_name_have_their_interface_before_it() {
        let of = |interface, function| Exported { interface, function };
        let functions =
            [of(None, "a"), of(Some("x:y/one"), "b"), of(Some("x:y/two"), "b"), of(Some("x:y/two"), "c")];
        assert_eq!(task_names(&functions), ["a", "x:y/one#b", "x:y/two#b", "c"]);
    }

    #[test]
    fn a_component_says_what_it_imports_and_exports() {
        let component = wat::parse_str(
            r#"(component
                (import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result u64)))))
                (import "a:b/c" (instance (export "f" (func (param "x" (list u8))))))
                (core module $m (func (export "double") (param i32) (result i32) local.get 0))
                (core instance $i (instantiate $m))
                (type $grade' (enum "good" "bad"))
                (export $grade "grade" (type $grade'))
                (func $double (param "grade" $grade) (result u32) (canon lift (core func $i "double")))
                (export "double" (func $double)))"#,
        )
        .unwrap();
        assert!(is_component(&component) && !is_component(b"\0asm\x01\0\0\0"));
        let found = read(&component).unwrap();
        let imports: Vec<_> = found
            .imports
            .iter()
            .map(|import| format!("{} {} {} {}", import.module, import.name, import.ty, import.provision))
            .collect();
        assert_eq!(
            imports,
            [
                "wasi:random/random@0.2.3 get-random-u64 func() -> u64 provided",
                "a:b/c f func(x: list<u8>) unknown"
            ]
        );
        let exports: Vec<_> =
            found.exports.iter().map(|export| format!("{} {}", export.name, export.ty)).collect();
        assert_eq!(exports, ["grade enum { good, bad }", "double func(grade: grade) -> u32"]);
        let tasks: Vec<_> = found.tasks.iter().map(TaskInfo::signature).collect();
        assert_eq!(tasks, ["double(grade) -> u32"]);
        // Names for people stand at the end, and may be cut off unseen.
        let whole = found.custom_sections.len();
        for len in 0..component.len() {
            if let Ok(cut) = read(component.get(..len).unwrap()) {
                assert!(cut.tasks.is_empty() || cut.custom_sections.len() < whole, "{len}: {cut:?}");
            }
        }
    }
}
