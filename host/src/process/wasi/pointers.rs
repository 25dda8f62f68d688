//! The functions of WASI, each with the ranges of memory that it uses.
//!
//! wasmtime-wasi takes a guest's memory for its own as long as a call lasts: it looks at a string, finds the string to
//! be UTF-8, and uses it as UTF-8. In a [mapped](crate::process::mappings) range, another process could change the
//! string in between. So a function of WASI is lent the memory only after a look at all of its pointers: a pointer into
//! a mapped range is `EFAULT`. The library's own linker isn't used, so that every function has a row here.
//!
//! Our own functions are defined in the same way: those that [count](super::files) changes of files, and those of arguments and
//! variables. `poll_oneoff` looks at its pointers by itself.
//!
//! A row also says what a function does with a descriptor that the library [doesn't know](super::descriptors): it has a
//! function of its own for pipes (`piped`), or refuses them for this reason. In either case, the library gets its own
//! number of the descriptor.

use wasmtime::{AsContextMut as _, Caller, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _};

use super::{
    ERRNO_BADF, ERRNO_FAULT, ERRNO_INVAL, ERRNO_NOTDIR, ERRNO_NOTSOCK, ERRNO_NOTSUP, ERRNO_SPIPE,
    ERRNO_SUCCESS, FDSTAT, MODULE, UNSTABLE, args_get, args_sizes_get, descriptors, environ_get,
    environ_sizes_get, files, sizes, unstable,
};
use crate::process::Guest;
use crate::process::memory::{Range, VECTOR, lend};

/// A number or struct of `SIZE` bytes.
fn fixed<const SIZE: usize>(at: i32) -> Range {
    (at, SIZE)
}

/// As many bytes as the guest says.
fn bytes(at: i32, len: i32) -> Range {
    (at, len as u32 as usize)
}

/// `count` structs of `size` bytes.
fn array(at: i32, count: i32, size: usize) -> Range {
    (at, (count as u32 as usize).saturating_mul(size))
}

const POINTER: usize = 4;

/// Defines functions of WASI: what each does with [descriptors], the ranges that it uses, and its list of vectors if it
/// takes one; or the addresses for pointers and strings, and the field that has the strings.
macro_rules! functions {
    ($linker:ident $module:ident: $($pipes:ident $kind:ident $name:ident($($arg:ident: $ty:ty),*) [$($range:expr),*]
        $(strings $at:ident $text:ident $strings:ident)? $(list $list:expr)?;)*) => {
        $($linker.func_wrap(
            $module,
            stringify!($name),
            |mut caller: Caller<'_, Guest>, $($arg: $ty),*| -> wasmtime::Result<i32> {
                functions!(%$pipes caller $name $($arg)*);
                let fuel = caller.as_context_mut().hostcall_fuel();
                let list: Option<Range> = None $(.or(Some($list)))?;
                let strings: Option<[Range; 2]> = None $(.or({
                    // The sizes come from the process, and not from the memory.
                    let (count, len) = sizes(&caller.data().process.strings.$strings);
                    Some([array($at, count as i32, POINTER), bytes($text, len as i32)])
                }))?;
                let others: &[Range] = &[$($range),*];
                let ranges = strings.as_ref().map_or(others, |strings| strings);
                let Ok((mut memory, guest)) = lend(&mut caller, ranges, list) else { return Ok(ERRNO_FAULT) };
                // This limits the host's allocations for the guest in this call.
                guest.wasi.set_hostcall_fuel(fuel);
                functions!(@$kind guest memory $name($($arg),*))
            },
        )?;)*
    };
    // A function without descriptors.
    (%none $caller:ident $name:ident $($arg:ident)*) => {};
    // Functions that pipes have as well.
    (%piped $caller:ident $name:ident $fd:ident $($arg:ident)*) => {
        let $fd = match descriptors::$name(&mut $caller, $fd, $($arg),*) {
            Ok(fd) => fd,
            Err(answer) => return Ok(answer),
        };
    };
    (%old_piped $caller:ident fd_filestat_get $fd:ident $out:ident) => {
        let $fd = match descriptors::unstable_fd_filestat_get(&mut $caller, $fd, $out) {
            Ok(fd) => fd,
            Err(answer) => return Ok(answer),
        };
    };
    // Functions that pipes don't have, by the reason. Most have their descriptor first.
    (%no_place $caller:ident $name:ident $fd:ident $($arg:ident)*) => { functions!(%% $caller ERRNO_SPIPE $fd); };
    (%no_file $caller:ident $name:ident $fd:ident $($arg:ident)*) => { functions!(%% $caller ERRNO_INVAL $fd); };
    (%no_grant $caller:ident $name:ident $fd:ident $($arg:ident)*) => { functions!(%% $caller ERRNO_BADF $fd); };
    (%no_rights $caller:ident $name:ident $fd:ident $($arg:ident)*) => { functions!(%% $caller ERRNO_NOTSUP $fd); };
    (%no_socket $caller:ident $name:ident $fd:ident $($arg:ident)*) => { functions!(%% $caller ERRNO_NOTSOCK $fd); };
    (%no_directory $caller:ident path_link
        $fd:ident $flags:ident $path:ident $len:ident $new_fd:ident $new_path:ident $new_len:ident) => {
        functions!(%% $caller ERRNO_NOTDIR $fd);
        functions!(%% $caller ERRNO_NOTDIR $new_fd);
    };
    (%no_directory $caller:ident path_rename
        $fd:ident $path:ident $len:ident $new_fd:ident $new_path:ident $new_len:ident) => {
        functions!(%% $caller ERRNO_NOTDIR $fd);
        functions!(%% $caller ERRNO_NOTDIR $new_fd);
    };
    (%no_directory $caller:ident path_symlink
        $path:ident $len:ident $fd:ident $new_path:ident $new_len:ident) => {
        functions!(%% $caller ERRNO_NOTDIR $fd);
    };
    (%no_directory $caller:ident $name:ident $fd:ident $($arg:ident)*) => {
        functions!(%% $caller ERRNO_NOTDIR $fd);
    };
    (%% $caller:ident $refusal:ident $fd:ident) => {
        let $fd = match descriptors::library($caller.data(), $fd, $refusal) {
            Ok(fd) => fd,
            Err(errno) => return Ok(errno),
        };
    };
    (@now $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        preview1::$name(&mut $guest.wasi, &mut $memory, $($arg),*)
    };
    // The current runtime has no driver: the futures that it is given never wait for one.
    (@later $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        tokio::runtime::Handle::current().block_on(preview1::$name(&mut $guest.wasi, &mut $memory, $($arg),*))
    };
    // Does nothing for a process that is mute.
    (@change $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        if $guest.process.is_mute {
            Ok(ERRNO_SUCCESS)
        } else {
            functions!(@later $guest $memory $name($($arg),*))
        }
    };
    (@limited $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        tokio::runtime::Handle::current().block_on(files::$name($guest, &mut $memory, $($arg),*))
    };
    (@own $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        Ok($name($guest, &mut $memory, $($arg),*))
    };
    (@unstable $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        unstable::$name($guest, &mut $memory, $($arg),*)
    };
}

/// Adds all functions but `poll_oneoff` and `proc_exit`.
pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_common(linker, MODULE)?;
    functions! { linker MODULE:
        piped later fd_filestat_get(fd: i32, out: i32) [fixed::<64>(out)];
        no_place later fd_seek(fd: i32, offset: i64, whence: i32, out: i32) [fixed::<8>(out)];
        no_directory later path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32) [bytes(path, len), fixed::<64>(out)];
        no_socket now sock_accept(fd: i32, flags: i32, out: i32) [fixed::<4>(out)];
    }
    Ok(())
}

/// Adds all functions of preview 0 but `poll_oneoff` and `proc_exit`.
pub(super) fn add_unstable_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_common(linker, UNSTABLE)?;
    functions! { linker UNSTABLE:
        old_piped unstable fd_filestat_get(fd: i32, out: i32) [fixed::<{ unstable::FILESTAT }>(out)];
        no_place unstable fd_seek(fd: i32, offset: i64, whence: i32, out: i32) [fixed::<8>(out)];
        no_directory unstable path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32)
            [bytes(path, len), fixed::<{ unstable::FILESTAT }>(out)];
    }
    Ok(())
}

/// Adds the functions that are the same in both previews.
fn add_common(linker: &mut Linker<Guest>, module: &str) -> wasmtime::Result<()> {
    functions! { linker module:
        none own args_get(at: i32, text: i32) [] strings at text args;
        none own args_sizes_get(count: i32, size: i32) [fixed::<4>(count), fixed::<4>(size)];
        none own environ_get(at: i32, text: i32) [] strings at text env;
        none own environ_sizes_get(count: i32, size: i32) [fixed::<4>(count), fixed::<4>(size)];
        none now clock_res_get(clock: i32, out: i32) [fixed::<8>(out)];
        none now clock_time_get(clock: i32, precision: i64, out: i32) [fixed::<8>(out)];
        no_place later fd_advise(fd: i32, offset: i64, len: i64, advice: i32) [];
        no_place now fd_allocate(fd: i32, offset: i64, len: i64) [];
        piped later fd_close(fd: i32) [];
        no_file later fd_datasync(fd: i32) [];
        piped later fd_fdstat_get(fd: i32, out: i32) [fixed::<FDSTAT>(out)];
        piped now fd_fdstat_set_flags(fd: i32, flags: i32) [];
        no_rights now fd_fdstat_set_rights(fd: i32, rights: i64, inheriting: i64) [];
        no_file limited fd_filestat_set_size(fd: i32, size: i64) [];
        no_file change fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, which: i32) [];
        no_place later fd_pread(fd: i32, list: i32, count: i32, offset: i64, out: i32) [fixed::<4>(out)] list array(list, count, VECTOR);
        no_grant now fd_prestat_get(fd: i32, out: i32) [fixed::<8>(out)];
        no_grant now fd_prestat_dir_name(fd: i32, path: i32, len: i32) [bytes(path, len)];
        no_place limited fd_pwrite(fd: i32, list: i32, count: i32, offset: i64, out: i32) [fixed::<4>(out)] list array(list, count, VECTOR);
        piped later fd_read(fd: i32, list: i32, count: i32, out: i32) [fixed::<4>(out)] list array(list, count, VECTOR);
        no_directory limited fd_readdir(fd: i32, buffer: i32, len: i32, cookie: i64, out: i32) [bytes(buffer, len), fixed::<4>(out)];
        piped later fd_renumber(fd: i32, to: i32) [];
        no_file later fd_sync(fd: i32) [];
        no_place now fd_tell(fd: i32, out: i32) [fixed::<8>(out)];
        piped limited fd_write(fd: i32, list: i32, count: i32, out: i32) [fixed::<4>(out)] list array(list, count, VECTOR);
        no_directory change path_create_directory(fd: i32, path: i32, len: i32) [bytes(path, len)];
        no_directory change path_filestat_set_times(
            fd: i32, flags: i32, path: i32, len: i32, accessed: i64, modified: i64, which: i32
        ) [bytes(path, len)];
        no_directory change path_link(
            fd: i32, flags: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32
        ) [bytes(path, len), bytes(new_path, new_len)];
        no_directory limited path_open(
            fd: i32, lookup: i32, path: i32, len: i32, flags: i32, rights: i64, inheriting: i64, fd_flags: i32, out: i32
        ) [bytes(path, len), fixed::<4>(out)];
        no_directory later path_readlink(fd: i32, path: i32, len: i32, buffer: i32, capacity: i32, out: i32)
            [bytes(path, len), bytes(buffer, capacity), fixed::<4>(out)];
        no_directory change path_remove_directory(fd: i32, path: i32, len: i32) [bytes(path, len)];
        no_directory change path_rename(fd: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32)
            [bytes(path, len), bytes(new_path, new_len)];
        no_directory change path_symlink(path: i32, len: i32, fd: i32, new_path: i32, new_len: i32)
            [bytes(path, len), bytes(new_path, new_len)];
        no_directory change path_unlink_file(fd: i32, path: i32, len: i32) [bytes(path, len)];
        none now proc_raise(signal: i32) [];
        none now random_get(buffer: i32, len: i32) [bytes(buffer, len)];
        none now sched_yield() [];
        no_socket now sock_recv(fd: i32, list: i32, count: i32, flags: i32, out: i32, out_flags: i32)
            [fixed::<4>(out), fixed::<2>(out_flags)] list array(list, count, VECTOR);
        no_socket now sock_send(fd: i32, list: i32, count: i32, flags: i32, out: i32) [fixed::<4>(out)] list array(list, count, VECTOR);
        no_socket now sock_shutdown(fd: i32, how: i32) [];
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "a failed expectation is a failed test")]
mod tests {
    use std::fmt::Write as _;

    use wasmtime::{Engine, ExternType, Linker, Module, Store, ValType};
    use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_sync};

    /// After an update, the library may have more functions.
    #[test]
    fn there_is_each_function_that_the_library_has() {
        let engine = Engine::default();
        let mut library: Linker<WasiP1Ctx> = Linker::new(&engine);
        add_to_linker_sync(&mut library, |context| context).expect("the library's functions");
        let mut store = Store::new(&engine, wasmtime_wasi::WasiCtxBuilder::new().build_p1());
        let found: Vec<_> = library
            .iter(&mut store)
            .map(|(module, name, item)| (module.to_owned(), name.to_owned(), item))
            .collect();
        let mut text = String::from("(module");
        for (module, name, item) in found {
            let ExternType::Func(ty) = item.ty(&store) else { panic!("{name} is no function") };
            let types = |types: &mut dyn Iterator<Item = ValType>| -> String {
                types.map(|ty| format!(" {ty}")).collect()
            };
            let (params, results) = (types(&mut ty.params()), types(&mut ty.results()));
            write!(text, "(import \"{module}\" \"{name}\" (func (param{params}) (result{results})))")
                .expect("a string");
        }
        text.push(')');
        assert!(text.matches("import").count() > 40, "{text}");
        let module = Module::new(&engine, text).expect("a valid module");
        crate::imports::resolve(&engine, &module, false).expect("all functions");
    }
}
