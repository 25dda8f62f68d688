//! Types of components, as WIT writes them.

use std::collections::HashMap;

use wasmparser::PrimitiveValType;
use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentDefinedTypeId, ComponentEntityType, ComponentFuncType,
    ComponentValType,
};
use wasmparser::types::Types;

use crate::engine::inspection::{TaskInfo, printable, short};

/// The most characters of a type: one that is made of others may be much longer written than in its binary form.
const TYPE_MAX: usize = 500;

/// The deepest types whose values are data: wasmtime has none that are deeper.
const DEPTH_MAX: u32 = 100;

/// The most names of a type that are followed to one that is shown.
const ALIASES_MAX: u32 = 100;

/// How a type that is too long ends.
const CUT: &str = "…";

/// Names of types.
pub(super) type Names<'a> = HashMap<ComponentAnyTypeId, &'a str>;

/// A thing that is imported or exported.
pub(super) fn entity(types: &Types, names: &Names<'_>, ty: ComponentEntityType) -> String {
    let mut writer = Writer { types, names, text: String::new() };
    match ty {
        ComponentEntityType::Func(id) => writer.function(&types[id]),
        ComponentEntityType::Type { created: ComponentAnyTypeId::Defined(id), .. } => {
            writer.defined(&types[id])
        }
        ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. } => writer.push("resource"),
        ComponentEntityType::Type { .. } => writer.push("type"),
        ComponentEntityType::Module(_) => writer.push("core module"),
        ComponentEntityType::Value(ty) => writer.value(ty),
        ComponentEntityType::Instance(_) => writer.push("instance"),
        ComponentEntityType::Component(_) => writer.push("component"),
    }
    writer.text
}

/// The description of a function as a task, but for its name.
pub(super) fn task(types: &Types, names: &Names<'_>, function: &ComponentFuncType) -> TaskInfo {
    let write = |write: &dyn Fn(&mut Writer<'_>)| {
        let mut writer = Writer { types, names, text: String::new() };
        write(&mut writer);
        Some(short(&writer.text))
    };
    let input = write(&|writer| match &*function.params {
        [(_, ty)] => writer.value(*ty),
        params => writer.list("(", ")", params.iter().map(|(_, ty)| *ty)),
    });
    let (ok, err) = match function.result {
        Some(ComponentValType::Type(id)) => match &types[id] {
            ComponentDefinedType::Result { ok, err, .. } => (*ok, Some(*err)),
            _ => (function.result, None),
        },
        result => (result, None),
    };
    let optional = |ty: Option<ComponentValType>| {
        write(&|writer| match ty {
            Some(ty) => writer.value(ty),
            None => writer.push("()"),
        })
    };
    TaskInfo { input, output: optional(ok), error: err.and_then(optional), ..TaskInfo::default() }
}

/// Types that were looked at, and whether their values are data.
pub(super) type Looked = HashMap<ComponentDefinedTypeId, bool>;

/// Whether a value of this type is data, which JSON can express: no resource, stream or future is in it.
pub(super) fn is_data(types: &Types, ty: ComponentValType, looked: &mut Looked) -> bool {
    is_data_below(types, ty, looked, DEPTH_MAX)
}

fn is_data_below(types: &Types, ty: ComponentValType, looked: &mut Looked, depth: u32) -> bool {
    let id = match ty {
        ComponentValType::Primitive(ty) => return ty != PrimitiveValType::ErrorContext,
        ComponentValType::Type(id) => id,
    };
    if let Some(is_data) = looked.get(&id) {
        return *is_data;
    }
    let Some(depth) = depth.checked_sub(1) else { return false };
    let parts: Vec<_> = match &types[id] {
        ComponentDefinedType::Primitive(ty) => return *ty != PrimitiveValType::ErrorContext,
        ComponentDefinedType::Record(record) => record.fields.values().copied().collect(),
        ComponentDefinedType::Variant(variant) => variant.cases.values().filter_map(|case| case.ty).collect(),
        ComponentDefinedType::Tuple(tuple) => tuple.types.to_vec(),
        ComponentDefinedType::Flags(_) | ComponentDefinedType::Enum(_) => return true,
        ComponentDefinedType::List { element: ty, .. } | ComponentDefinedType::Option { ty, .. } => vec![*ty],
        ComponentDefinedType::Result { ok, err, .. } => ok.iter().chain(err).copied().collect(),
        ComponentDefinedType::Own(_)
        | ComponentDefinedType::Borrow(_)
        | ComponentDefinedType::Future { .. }
        | ComponentDefinedType::Stream { .. }
        | ComponentDefinedType::Map { .. }
        | ComponentDefinedType::FixedLengthList { .. } => return false,
    };
    let is_data = parts.into_iter().all(|ty| is_data_below(types, ty, looked, depth));
    looked.insert(id, is_data);
    is_data
}

struct Writer<'a> {
    types: &'a Types,
    names: &'a Names<'a>,
    text: String,
}

impl<'a> Writer<'a> {
    fn is_full(&self) -> bool {
        self.text.len() > TYPE_MAX
    }

    fn push(&mut self, text: &str) {
        if !self.is_full() {
            self.text.push_str(text);
            if self.is_full() {
                self.text.push_str(CUT);
            }
        }
    }

    fn name(&mut self, name: &str) {
        self.push(&printable(name));
    }

    fn function(&mut self, function: &ComponentFuncType) {
        self.push(if function.async_ { "async func(" } else { "func(" });
        for (at, (name, ty)) in function.params.iter().enumerate() {
            self.push(if at == 0 { "" } else { ", " });
            self.name(name);
            self.push(": ");
            self.value(*ty);
        }
        self.push(")");
        if let Some(ty) = function.result {
            self.push(" -> ");
            self.value(ty);
        }
    }

    fn value(&mut self, ty: ComponentValType) {
        let types = self.types;
        match ty {
            ComponentValType::Primitive(ty) => self.primitive(ty),
            ComponentValType::Type(id) => match self.named(ComponentAnyTypeId::Defined(id)) {
                Some(name) => self.name(name),
                None => self.defined(&types[id]),
            },
        }
    }

    /// The name of a type, or of the one that it is another name of.
    fn named(&self, id: ComponentAnyTypeId) -> Option<&'a str> {
        let mut next = Some(id);
        for _ in 0..ALIASES_MAX {
            let id = next?;
            if let Some(name) = self.names.get(&id) {
                return Some(name);
            }
            next = self.types.peel_alias(id);
        }
        None
    }

    fn list(&mut self, open: &str, close: &str, parts: impl IntoIterator<Item = ComponentValType>) {
        self.push(open);
        for (at, ty) in parts.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.push(if at == 0 { "" } else { ", " });
            self.value(ty);
        }
        self.push(close);
    }

    fn fields<'n>(
        &mut self,
        what: &str,
        fields: impl IntoIterator<Item = (&'n str, Option<ComponentValType>)>,
        [open, close]: [&str; 2],
    ) {
        self.push(what);
        self.push(" { ");
        for (at, (name, ty)) in fields.into_iter().enumerate() {
            if self.is_full() {
                return;
            }
            self.push(if at == 0 { "" } else { ", " });
            self.name(name);
            if let Some(ty) = ty {
                self.push(open);
                self.value(ty);
                self.push(close);
            }
        }
        self.push(" }");
    }

    fn defined(&mut self, ty: &ComponentDefinedType) {
        // Each step writes something, so that the length bounds the steps.
        if self.is_full() {
            return;
        }
        const NOTHING: [&str; 2] = ["", ""];
        match ty {
            ComponentDefinedType::Primitive(ty) => self.primitive(*ty),
            ComponentDefinedType::Record(record) => {
                let fields = record.fields.iter().map(|(name, ty)| (name.as_str(), Some(*ty)));
                self.fields("record", fields, [": ", ""]);
            }
            ComponentDefinedType::Variant(variant) => {
                let cases = variant.cases.iter().map(|(name, case)| (name.as_str(), case.ty));
                self.fields("variant", cases, ["(", ")"]);
            }
            ComponentDefinedType::Enum(names) => {
                self.fields("enum", names.iter().map(|name| (name.as_str(), None)), NOTHING);
            }
            ComponentDefinedType::Flags(names) => {
                self.fields("flags", names.iter().map(|name| (name.as_str(), None)), NOTHING);
            }
            ComponentDefinedType::Tuple(tuple) => self.list("tuple<", ">", tuple.types.iter().copied()),
            ComponentDefinedType::List { element, .. } => self.list("list<", ">", [*element]),
            ComponentDefinedType::FixedLengthList { element, length, .. } => {
                self.list("list<", &format!(", {length}>"), [*element]);
            }
            ComponentDefinedType::Map { key, value, .. } => self.list("map<", ">", [*key, *value]),
            ComponentDefinedType::Option { ty, .. } => self.list("option<", ">", [*ty]),
            ComponentDefinedType::Result { ok, err, .. } => match (ok, err) {
                (None, None) => self.push("result"),
                (Some(ok), None) => self.list("result<", ">", [*ok]),
                (None, Some(err)) => self.list("result<_, ", ">", [*err]),
                (Some(ok), Some(err)) => self.list("result<", ">", [*ok, *err]),
            },
            ComponentDefinedType::Own(id) => self.resource(ComponentAnyTypeId::Resource(*id)),
            ComponentDefinedType::Borrow(id) => {
                self.push("borrow<");
                self.resource(ComponentAnyTypeId::Resource(*id));
                self.push(">");
            }
            ComponentDefinedType::Future { ty, .. } => self.list("future<", ">", *ty),
            ComponentDefinedType::Stream { ty, .. } => self.list("stream<", ">", *ty),
        }
    }

    fn resource(&mut self, id: ComponentAnyTypeId) {
        let name = self.named(id);
        self.name(name.unwrap_or("resource"));
    }

    fn primitive(&mut self, ty: PrimitiveValType) {
        self.push(match ty {
            PrimitiveValType::Bool => "bool",
            PrimitiveValType::S8 => "s8",
            PrimitiveValType::U8 => "u8",
            PrimitiveValType::S16 => "s16",
            PrimitiveValType::U16 => "u16",
            PrimitiveValType::S32 => "s32",
            PrimitiveValType::U32 => "u32",
            PrimitiveValType::S64 => "s64",
            PrimitiveValType::U64 => "u64",
            PrimitiveValType::F32 => "f32",
            PrimitiveValType::F64 => "f64",
            PrimitiveValType::Char => "char",
            PrimitiveValType::String => "string",
            PrimitiveValType::ErrorContext => "error-context",
        });
    }
}
