//! WASI 0.2 for components, as [`wasi`](super::wasi) is preview 1 for modules, with the same grants and limits.
//!
//! The traits are those that wasmtime-wasi makes of its WIT, and paths are its: everything that looks up a name in a granted
//! directory is the library's own. All that may wait is ours, because the library's waits on a runtime with threads, and a guest
//! process has one thread and keeps it:
//!
//! | file | has |
//! | --- | --- |
//! | [`streams`] | `wasi:io/streams` and `wasi:io/error`: standard streams and files, read and written in the call itself |
//! | [`poll`] | `wasi:io/poll` and the monotonic clock: one sleep until the first of several times, or stdin |
//! | [`files`] | `wasi:filesystem`; [`file_bytes`] counts what is written, as for modules |
//! | [`cli`] | the rest: arguments, variables, exit, terminals, the wall clock, random bytes |
//! | [`call`] | exported functions as tasks, and their values as JSON: [`values`] |
//!
//! # Bounds
//!
//! The memory that a component makes the host keep has three bounds: the [resources](RESOURCES_MAX) that it holds at once, the
//! [bytes](HOSTCALL_BYTES) that one call hands over, and `RLIMIT_DATA`, as for modules.

pub(crate) mod call;
mod cli;
mod file_bytes;
mod files;
mod poll;
mod streams;
mod values;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, HasData, InstancePre, Linker, LinkerInstance, Resource, ResourceTable, ResourceType,
};
use wasmtime::{Engine, Store};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::sync::{filesystem::types, io};
use wasmtime_wasi::p2::bindings::{cli as cli_bindings, clocks, filesystem::preopens, random};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable};
use wasmtime_wasi_io::bindings::wasi::io::error;

use super::{Guest, Process};
use crate::engine::component::is_provided;
use crate::engine::trap::UnknownFunction;

/// The most resources (streams, pollables, errors, open files) that a component holds at once; and the most handles.
const RESOURCES_MAX: usize = 16 << 10;

/// The most bytes that one call of the host, or one result of a task, hands over.
const HOSTCALL_BYTES: usize = 64 << 20;

/// A component's view of its process.
struct View<'a>(&'a mut Guest);

struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

fn view(guest: &mut Guest) -> View<'_> {
    View(guest)
}

impl View<'_> {
    fn table(&mut self) -> &mut ResourceTable {
        self.0.wasi.ctx().table
    }

    fn process(&mut self) -> &mut Process {
        &mut self.0.process
    }

    /// Keeps a resource. The guest knows it by the type of the interface, and the table by ours.
    fn push<Ours: Send + 'static, Theirs: 'static>(
        &mut self,
        resource: Ours,
    ) -> wasmtime::Result<Resource<Theirs>> {
        let full = |_| wasmtime::Error::msg(format!("it holds more than {RESOURCES_MAX} resources at once"));
        Ok(Resource::new_own(self.table().push(resource).map_err(full)?.rep()))
    }

    fn get<Ours: 'static, Theirs: 'static>(
        &mut self,
        resource: &Resource<Theirs>,
    ) -> wasmtime::Result<&mut Ours> {
        Ok(self.table().get_mut(&Resource::new_borrow(resource.rep()))?)
    }

    fn delete<Ours: 'static, Theirs: 'static>(
        &mut self,
        resource: &Resource<Theirs>,
    ) -> wasmtime::Result<Ours> {
        Ok(self.table().delete(Resource::new_own(resource.rep()))?)
    }
}

/// The component with its imports resolved. Calls of unknown functions trap if such functions are allowed.
pub(crate) fn resolve(
    engine: &Engine,
    component: &Component,
    allows_unknown: bool,
) -> wasmtime::Result<InstancePre<Guest>> {
    let mut linker = linker(engine)?;
    if allows_unknown {
        define_unknown(&mut linker, component)?;
    }
    linker.instantiate_pre(component)
}

/// Defines functions that trap for what isn't provided. Only the interfaces that aren't: wasmtime's own method would also define those
/// that are there in another version.
fn define_unknown(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = component.engine();
    let ty = component.component_type();
    let imports = || ty.imports(engine).map(|(name, import)| (name, import.ty));
    // An interface that isn't provided may have resources of one that is.
    let mut resources = Vec::new();
    for (_, import) in imports().filter(|(name, _)| is_provided(name)) {
        if let ComponentItem::ComponentInstance(instance) = import {
            resources.extend(instance.exports(engine).filter_map(|(name, item)| match item.ty {
                ComponentItem::Resource(ty) => Some((ty, provided_resource(name)?)),
                _ => None,
            }));
        }
    }
    let resource = |ty: &ResourceType| {
        let known = resources.iter().find(|(known, _)| known == ty);
        known.map_or_else(ResourceType::host::<()>, |(_, provided)| *provided)
    };
    for (name, import) in imports().filter(|(name, _)| !is_provided(name)) {
        match import {
            ComponentItem::ComponentInstance(instance) => {
                let mut items = linker.instance(name)?;
                for (item, export) in instance.exports(engine) {
                    define_unknown_item(&mut items, Some(name), item, &export.ty, &resource)?;
                }
            }
            item => define_unknown_item(&mut linker.root(), None, name, &item, &resource)?,
        }
    }
    Ok(())
}

fn define_unknown_item(
    linker: &mut LinkerInstance<'_, Guest>,
    interface: Option<&str>,
    name: &str,
    item: &ComponentItem,
    resource: &impl Fn(&ResourceType) -> ResourceType,
) -> wasmtime::Result<()> {
    match item {
        ComponentItem::ComponentFunc(_) => {
            let full = interface.map_or_else(|| name.to_owned(), |interface| format!("{interface}#{name}"));
            linker.func_new(name, move |_, _, _, _| Err(UnknownFunction(full.clone()).into()))
        }
        ComponentItem::Resource(ty) => linker.resource(name, resource(ty), |_, _| Ok(())),
        _ => Ok(()),
    }
}

/// The host's type of a resource of this name, in an interface that is provided.
fn provided_resource(name: &str) -> Option<ResourceType> {
    Some(match name {
        "error" => ResourceType::host::<error::Error>(),
        "pollable" => ResourceType::host::<DynPollable>(),
        "input-stream" => ResourceType::host::<DynInputStream>(),
        "output-stream" => ResourceType::host::<DynOutputStream>(),
        "descriptor" => ResourceType::host::<Descriptor>(),
        "directory-entry-stream" => ResourceType::host::<types::DirectoryEntryStream>(),
        "terminal-input" => ResourceType::host::<cli_bindings::terminal_input::TerminalInput>(),
        "terminal-output" => ResourceType::host::<cli_bindings::terminal_output::TerminalOutput>(),
        _ => return None,
    })
}

/// A linker with everything that components may import: [`PROVIDED`](crate::engine::component::PROVIDED).
fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    cli_bindings::environment::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::exit::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::stdin::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::stdout::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::stderr::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::terminal_input::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::terminal_output::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::terminal_stdin::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::terminal_stdout::add_to_linker::<Guest, HasView>(l, view)?;
    cli_bindings::terminal_stderr::add_to_linker::<Guest, HasView>(l, view)?;
    clocks::monotonic_clock::add_to_linker::<Guest, HasView>(l, view)?;
    clocks::wall_clock::add_to_linker::<Guest, HasView>(l, view)?;
    random::random::add_to_linker::<Guest, HasView>(l, view)?;
    random::insecure::add_to_linker::<Guest, HasView>(l, view)?;
    random::insecure_seed::add_to_linker::<Guest, HasView>(l, view)?;
    error::add_to_linker::<Guest, HasView>(l, view)?;
    io::poll::add_to_linker::<Guest, HasView>(l, view)?;
    io::streams::add_to_linker::<Guest, HasView>(l, view)?;
    preopens::add_to_linker::<Guest, WasiFilesystem>(l, |guest| guest.wasi.filesystem())?;
    types::add_to_linker::<Guest, HasView>(l, view)?;
    Ok(linker)
}

/// Sets the bounds of what the host keeps for a component.
pub(crate) fn bound(store: &mut Store<Guest>) {
    store.data_mut().wasi.ctx().table.set_max_capacity(RESOURCES_MAX);
    store.set_max_component_handles(RESOURCES_MAX);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
}
