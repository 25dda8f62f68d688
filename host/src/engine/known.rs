//! The imports that a guest may have: Sandpool's own, from the ABI crate, and WASI previews 1 and 0.

use wasmtime::{Engine, ExternType, Linker, Store};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

use crate::Result;
use crate::config::Flavor;
use crate::engine::config;
use crate::nearest::LENGTH_MAX;

/// A function that the host provides.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) module: String,
    pub(crate) name: String,
    /// as [`signature`] writes it
    pub(crate) signature: String,
}

/// The import module of WASI preview 0.
pub(crate) const WASI_UNSTABLE: &str = "wasi_unstable";

/// All functions that the host provides.
///
/// WASI's functions are read from the linker that really serves them, so that no second list can get out of step.
pub(crate) fn functions() -> Result<Vec<Function>> {
    let own = sandpool_abi::imports().map(|import| Function {
        module: import.module.to_owned(),
        name: import.name.to_owned(),
        signature: signature(
            import.params.iter().map(|param| param.ty.value_type()),
            [import.result.value_type()],
        ),
    });
    let wasi = wasi(&config::engine(Flavor::default())?);
    // Preview 0 has the same functions with the same types, but for one.
    let unstable = wasi
        .iter()
        .filter(|function| function.name != "sock_accept")
        .map(|function| Function {
            module: WASI_UNSTABLE.to_owned(),
            name: function.name.clone(),
            signature: function.signature.clone(),
        })
        .collect::<Vec<_>>();
    Ok(own.chain(wasi).chain(unstable).collect())
}

fn wasi(engine: &Engine) -> Vec<Function> {
    let mut linker: Linker<WasiP1Ctx> = Linker::new(engine);
    // Adding to an empty linker can fail only for a name that is there already.
    let _ = p1::add_to_linker_sync(&mut linker, |context| context);
    let mut store = Store::new(engine, WasiCtxBuilder::new().build_p1());
    let definitions: Vec<_> = linker
        .iter(&mut store)
        .map(|(module, name, definition)| (module.to_owned(), name.to_owned(), definition))
        .collect();
    definitions
        .into_iter()
        .filter_map(|(module, name, definition)| match definition.ty(&store) {
            ExternType::Func(ty) => {
                Some(Function { module, name, signature: signature(ty.params(), ty.results()) })
            }
            _ => None,
        })
        .collect()
}

/// Seeds the generators that wasmtime-wasi makes for each context, although guest processes use others. This is done once, before
/// the first fork and outside of the namespaces: a statically linked program seeds them from a file, which would stay open in each
/// guest, and which a jail doesn't have.
pub(crate) fn seed_unused_generators() {
    drop(WasiCtxBuilder::new());
}

/// A function type as people write it: `(i32, i64) -> i32`.
pub(crate) fn signature<P: ToString, R: ToString>(
    params: impl IntoIterator<Item = P>,
    results: impl IntoIterator<Item = R>,
) -> String {
    let list = |types: Vec<String>| types.join(", ");
    let params = list(params.into_iter().map(|ty| ty.to_string()).collect());
    let results: Vec<_> = results.into_iter().map(|ty| ty.to_string()).collect();
    match results.as_slice() {
        [] => format!("({params}) -> ()"),
        [one] => format!("({params}) -> {one}"),
        _ => format!("({params}) -> ({})", list(results)),
    }
}

/// The known function that the author of `module.name` may have meant.
pub(crate) fn nearest(functions: &[Function], module: &str, name: &str) -> Option<String> {
    if module.len() > LENGTH_MAX || name.len() > LENGTH_MAX {
        return None;
    }
    functions
        .iter()
        .map(|function| {
            let distance = strsim::osa_distance(name, &function.name);
            (distance, strsim::osa_distance(module, &function.module), function)
        })
        .filter(|(distance, ..)| *distance <= name.len() / 3)
        .min_by_key(|(by_name, by_module, _)| (*by_name, *by_module))
        .map(|(.., function)| format!("{}.{}", function.module, function.name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn own_functions_and_those_of_wasi_are_known() {
        let functions = functions().unwrap();
        let signature = |module: &str, name: &str| {
            let found = functions.iter().find(|function| function.module == module && function.name == name);
            found.map(|function| function.signature.clone())
        };
        assert_eq!(signature("sandpool_process", "fork").unwrap(), "(i32, i32, i32) -> i64");
        assert_eq!(signature("wasi_snapshot_preview1", "fd_write").unwrap(), "(i32, i32, i32, i32) -> i32");
        assert_eq!(signature("wasi_snapshot_preview1", "proc_exit").unwrap(), "(i32) -> ()");
        assert_eq!(signature("wasi_snapshot_preview1", "fork"), None);
        assert_eq!(signature("wasi_unstable", "fd_write"), signature("wasi_snapshot_preview1", "fd_write"));
        assert_eq!(signature("wasi_unstable", "sock_accept"), None);
    }

    #[test]
    fn nearest_is_near() {
        let functions = functions().unwrap();
        let nearest = |module, name| nearest(&functions, module, name);
        assert_eq!(nearest("sandpool_process", "forkk").as_deref(), Some("sandpool_process.fork"));
        assert_eq!(nearest("sandpool", "fork").as_deref(), Some("sandpool_process.fork"));
        assert_eq!(
            nearest("wasi_snapshot_preview2", "fd_write").as_deref(),
            Some("wasi_snapshot_preview1.fd_write")
        );
        assert_eq!(nearest("env", "emscripten_notify_memory_growth"), None);
        assert_eq!(
            nearest("env", "a_name_of_more_characters_than_anybody_would_sensibly_give_to_an_import"),
            None
        );
        assert_eq!(nearest("", ""), None);
    }
}
