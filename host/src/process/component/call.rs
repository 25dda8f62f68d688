//! Exported functions of components as tasks: their arguments from JSON, text or bytes, and what they return.

use sandpool_abi::task::{BYTES, JSON, TEXT};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{self, Component, ComponentExportIndex, Func, Type, Val};
use wasmtime::{Engine, Store};

use super::values;
use crate::engine::component::{is_plain, is_run};
use crate::process::Guest;
use crate::wire::RecordKind;

/// The exported function that is the task of this name, as [`task_names`](crate::engine::component::task_names) gives names.
pub(crate) fn find(store: &mut Store<Guest>, instance: &component::Instance, name: &str) -> Option<Func> {
    let component = instance.instance_pre(&*store).component().clone();
    instance.get_func(store, index(&component, name)?)
}

fn index(component: &Component, name: &str) -> Option<ComponentExportIndex> {
    if !is_plain(name) {
        return None;
    }
    if let Some((interface, function)) = name.split_once('#') {
        let interface = component.get_export_index(None, interface)?;
        return component.get_export_index(Some(&interface), function);
    }
    let engine: &Engine = component.engine();
    let ty = component.component_type();
    if ty.get_export(engine, name).is_some_and(|item| matches!(item.ty, ComponentItem::ComponentFunc(_))) {
        return component.get_export_index(None, name);
    }
    let has = |item: &ComponentItem| match item {
        ComponentItem::ComponentInstance(instance) => instance
            .get_export(engine, name)
            .is_some_and(|item| matches!(item.ty, ComponentItem::ComponentFunc(_))),
        _ => false,
    };
    let interface = ty.exports(engine).find(|(interface, item)| !is_run(interface) && has(&item.ty))?;
    let interface = component.get_export_index(None, interface.0)?;
    component.get_export_index(Some(&interface), name)
}

/// Why a function isn't called with an input.
pub(crate) enum NotCalled {
    /// The function doesn't take or give values in this format.
    Unsupported,
    /// The input is no value of its parameters, for this reason.
    Refused(String),
}

impl From<values::Problem> for NotCalled {
    fn from(problem: values::Problem) -> Self {
        Self::Refused(problem.to_string())
    }
}

fn is_bytes(ty: &Type) -> bool {
    matches!(ty, Type::List(list) if list.ty() == Type::U8)
}

/// The arguments that an input in this format stands for.
pub(crate) fn arguments(function: &ComponentFunc, format: u32, input: &[u8]) -> Result<Vec<Val>, NotCalled> {
    let text = || {
        let text = String::from_utf8(input.to_vec());
        text.map(Val::String).map_err(|_| NotCalled::Refused("the input is not UTF-8".to_owned()))
    };
    let params: Vec<_> = function.params().map(|(_, ty)| ty).collect();
    match (format, params.as_slice()) {
        (BYTES, [ty]) if gives_bytes(function) => match ty {
            Type::String => Ok(vec![text()?]),
            ty if is_bytes(ty) => Ok(vec![Val::List(input.iter().copied().map(Val::U8).collect())]),
            _ => Err(NotCalled::Unsupported),
        },
        (TEXT, [Type::String]) => Ok(vec![text()?]),
        (TEXT | JSON, params) => {
            let raw = values::parse(input)?;
            match params {
                [] if matches!(raw.get(), "null" | "[]" | "{}") => Ok(Vec::new()),
                [] => Err(NotCalled::Refused("the function takes nothing: give null".to_owned())),
                [ty] => Ok(vec![values::decode(raw, ty)?]),
                types => Ok(values::decode_all(values::items(raw)?, types)?),
            }
        }
        _ => Err(NotCalled::Unsupported),
    }
}

/// Whether what the function returns, unless it fails, is text, bytes or nothing.
fn gives_bytes(function: &ComponentFunc) -> bool {
    let result = match function.results().next() {
        Some(Type::Result(result)) => result.ok(),
        result => result,
    };
    result.is_none_or(|ty| matches!(ty, Type::String) || is_bytes(&ty))
}

/// How the task ended, and its output or its error, by what the function returned.
pub(crate) fn output(format: u32, results: &[Val]) -> (RecordKind, Vec<u8>) {
    let (kind, value) = match results.first() {
        Some(Val::Result(Err(error))) => match error.as_deref() {
            Some(Val::String(why)) => return (RecordKind::Failed, why.clone().into_bytes()),
            error => (RecordKind::Failed, error),
        },
        Some(Val::Result(Ok(value))) => (RecordKind::Done, value.as_deref()),
        value => (RecordKind::Done, value),
    };
    let mut output = Vec::new();
    let encoded = match value {
        None if kind == RecordKind::Failed => {
            output.extend_from_slice(b"the function returned an error");
            Some(())
        }
        None if format == JSON => values::encode_nothing(&mut output),
        None => Some(()),
        Some(Val::String(text)) if format != JSON => {
            output.extend_from_slice(text.as_bytes());
            Some(())
        }
        Some(Val::List(bytes)) if format == BYTES && kind == RecordKind::Done => {
            bytes.iter().try_for_each(|byte| match byte {
                Val::U8(byte) => {
                    output.push(*byte);
                    Some(())
                }
                _ => None,
            })
        }
        Some(value) => values::encode(value, &mut output),
    };
    match encoded {
        Some(()) => (kind, output),
        None => (RecordKind::Refused, b"the function returned a value that JSON cannot express".to_vec()),
    }
}
