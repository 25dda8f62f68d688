//! The imports of guests: one file an import module. They check what the guest says and turn errors into an errno.
//!
//! A guest's pointers are offsets into its memory, which is borrowed as one slice for the time of a call. Nothing a
//! guest passes makes the host panic, read beyond that slice, or allocate more than the slice is long.

mod handle;
mod process;
mod queue;

use sandpool_abi::Errno;
use wasmtime::{Caller, Engine, InstancePre, Linker, Module};

use crate::ipc::Result;
use crate::ipc::object::Handle;
use crate::process::{Guest, wasi};

/// A linker with everything that guests may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    process::add_to_linker(&mut linker)?;
    queue::add_to_linker(&mut linker)?;
    handle::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The module with its imports resolved.
pub(crate) fn resolve(engine: &Engine, module: &Module) -> wasmtime::Result<InstancePre<Guest>> {
    linker(engine)?.instantiate_pre(module)
}

/// A guest's memory, and the guest.
struct View<'a> {
    memory: &'a mut [u8],
    guest: &'a mut Guest,
}

fn view<'a>(caller: &'a mut Caller<'_, Guest>) -> Result<View<'a>> {
    let memory = caller.data().memory.ok_or(Errno::Fault)?;
    let (memory, guest) = memory.data_and_store_mut(caller);
    Ok(View { memory, guest })
}

/// The bytes that a pointer and a length name.
fn bytes(memory: &[u8], at: i32, len: i32) -> Result<&[u8]> {
    memory.get(at as u32 as usize..).and_then(|rest| rest.get(..len as u32 as usize)).ok_or(Errno::Fault)
}

fn bytes_mut(memory: &mut [u8], at: i32, len: i32) -> Result<&mut [u8]> {
    memory
        .get_mut(at as u32 as usize..)
        .and_then(|rest| rest.get_mut(..len as u32 as usize))
        .ok_or(Errno::Fault)
}

fn text(memory: &[u8], at: i32, len: i32) -> Result<&str> {
    std::str::from_utf8(bytes(memory, at, len)?).map_err(|_| Errno::Inval)
}

/// `count` 64-bit values; at most `max`.
fn words(memory: &[u8], at: i32, count: i32, max: usize) -> Result<Vec<u64>> {
    if count as u32 as usize > max {
        return Err(Errno::Inval);
    }
    let bytes = bytes(memory, at, count.checked_mul(8).ok_or(Errno::Fault)?)?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

fn handles(memory: &[u8], at: i32, count: i32) -> Result<Vec<Handle>> {
    Ok(words(memory, at, count, sandpool_abi::MESSAGE_HANDLES_MAX)?.into_iter().map(Handle).collect())
}

/// Copies as much of `from` as fits, and returns its whole length.
fn fill(memory: &mut [u8], at: i32, capacity: i32, from: &[u8]) -> Result<i64> {
    let to = bytes_mut(memory, at, capacity)?;
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    Ok(from.len() as i64)
}

/// The same for 64-bit values; `capacity` counts values.
fn fill_words(
    memory: &mut [u8],
    at: i32,
    capacity: i32,
    from: impl ExactSizeIterator<Item = u64>,
) -> Result<i64> {
    let count = from.len() as i64;
    let to = bytes_mut(memory, at, capacity.checked_mul(8).ok_or(Errno::Fault)?)?;
    to.as_chunks_mut::<8>().0.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_le_bytes());
    Ok(count)
}

/// Writes a struct of little-endian 32-bit fields.
fn store<const N: usize>(memory: &mut [u8], at: i32, fields: [u32; N]) -> Result<()> {
    let to = bytes_mut(memory, at, (N * 4) as i32)?;
    to.as_chunks_mut::<4>().0.iter_mut().zip(fields).for_each(|(to, from)| *to = from.to_le_bytes());
    Ok(())
}

/// An `i32` result: 0 or an errno.
fn status(result: Result<()>) -> i32 {
    result.map_or_else(|errno| errno as i32, |()| 0)
}

/// An `i64` result: a value or a negated errno.
fn value(result: Result<i64>) -> i64 {
    result.unwrap_or_else(|errno| -i64::from(errno as i32))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests {
    use std::fmt::Write as _;

    use sandpool_abi::ValueType;

    /// A module that imports all that the contract promises, by name and type, finds it.
    #[test]
    fn the_linker_provides_what_the_abi_promises() {
        let mut text = String::from("(module");
        let ty = |ty: &ValueType| if *ty == ValueType::I32 { " i32" } else { " i64" };
        for import in sandpool_abi::imports() {
            let params: String = import.params.iter().map(ty).collect();
            let (module, name, result) = (import.module, import.name, ty(&import.result));
            write!(text, "(import \"{module}\" \"{name}\" (func (param{params}) (result{result})))")
                .expect("a string");
        }
        text.push(')');
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, text).expect("a valid module");
        super::resolve(&engine, &module).expect("all imports");
    }

    /// Compiled guests depend on every name and signature.
    #[test]
    fn the_contract_changes_with_its_version_only() {
        let known = (1, 0x9034_cd86_2149_e559);
        assert_eq!(
            (sandpool_abi::ABI_VERSION, sandpool_abi::FINGERPRINT),
            known,
            "the contract has changed: raise ABI_VERSION, unless it was never released, and note both here"
        );
    }
}
