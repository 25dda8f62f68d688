//! The code that a guest process runs: a module or a component, before and after it is instantiated.

use wasmtime::component::{self, Component};
use wasmtime::{Engine, InstancePre, Store, TypedFunc};

use super::Guest;
use crate::engine::component::is_run;

/// A module or component with its imports resolved.
pub(crate) enum Program {
    Module(InstancePre<Guest>),
    Component(component::InstancePre<Guest>),
}

/// An instance of a program.
#[derive(Clone, Copy)]
pub(crate) enum Instance {
    Module(wasmtime::Instance),
    Component(component::Instance),
}

/// The function with which a program begins.
pub(crate) enum Entry {
    /// `_start`.
    Start(TypedFunc<(), ()>),
    /// `run` of `wasi:cli/run`.
    Run(component::TypedFunc<(), (Result<(), ()>,)>),
}

impl Program {
    pub(crate) fn engine(&self) -> &Engine {
        match self {
            Self::Module(module) => module.module().engine(),
            Self::Component(component) => component.engine(),
        }
    }
}

impl Instance {
    /// The instance, if it is one of a module.
    pub(crate) fn module(&self) -> Option<&wasmtime::Instance> {
        match self {
            Self::Module(instance) => Some(instance),
            Self::Component(_) => None,
        }
    }

    /// The function with which the program begins.
    pub(crate) fn entry(&self, store: &mut Store<Guest>) -> wasmtime::Result<Entry> {
        match self {
            Self::Module(instance) => Ok(Entry::Start(instance.get_typed_func(store, "_start")?)),
            Self::Component(instance) => {
                let component = instance.instance_pre(&*store).component().clone();
                let interface = run_interface(&component)
                    .ok_or_else(|| wasmtime::Error::msg("the component does not export wasi:cli/run"))?;
                let run = component.get_export_index(Some(&interface), "run");
                let run = run.ok_or_else(|| wasmtime::Error::msg("wasi:cli/run has no function run"))?;
                Ok(Entry::Run(instance.get_typed_func(store, run)?))
            }
        }
    }
}

/// The interface `wasi:cli/run` among the exports of a component.
fn run_interface(component: &Component) -> Option<component::ComponentExportIndex> {
    let ty = component.component_type();
    let name = ty.exports(component.engine()).find_map(|(name, _)| is_run(name).then(|| name.to_owned()))?;
    component.get_export_index(None, name.as_str())
}

impl Entry {
    /// Runs the program, which returns its exit code.
    pub(crate) fn call(&self, store: &mut Store<Guest>) -> wasmtime::Result<i32> {
        match self {
            Self::Start(start) => start.call(store, ()).map(|()| 0),
            Self::Run(run) => run.call(store, ()).map(|(result,)| i32::from(result.is_err())),
        }
    }
}
