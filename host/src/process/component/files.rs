//! `wasi:filesystem/types`. Names are looked up by wasmtime-wasi, as for modules; what is written is counted here, before it is
//! written. Errors that the library doesn't know get their names here.

use std::fs::File;
use std::io;
use std::sync::Arc;

use sandpool_abi::process::Limit;
use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};
use wasmtime_wasi_io::streams::Error as StreamFailure;

use super::View;
use super::file_bytes::FileBytes;
use super::streams::{FileReader, FileWriter, Reader, Writer};
use crate::process::Guest;
use crate::process::wasi::files::is_one_free;

impl View<'_> {
    fn library(&mut self) -> WasiFilesystemCtxView<'_> {
        self.0.wasi.filesystem()
    }

    /// The file, and whether it was granted for reading only.
    fn file(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<(Arc<File>, bool)> {
        match self.table().get(descriptor)? {
            Descriptor::File(file) => Ok((file.file.clone(), file.perms.write_not_permitted())),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }

    fn writer(
        &mut self,
        descriptor: &Resource<Descriptor>,
        at: Option<u64>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (file, is_read_only) = self.file(descriptor)?;
        if is_read_only {
            return Err(ErrorCode::NotPermitted.into());
        }
        self.push(Writer::File(FileWriter { file, at, is_closed: false })).map_err(FsError::trap)
    }

    /// Counts bytes while the library writes them.
    fn counted<T>(
        &mut self,
        file: &File,
        bytes: u64,
        write: impl FnOnce(&mut WasiFilesystemCtxView<'_>) -> FsResult<T>,
        written: impl FnOnce(&T) -> u64,
    ) -> FsResult<T> {
        let Guest { process, wasi, .. } = &mut *self.0;
        let mut counted =
            FileBytes::take(process, file, bytes).map_err(|_| FsError::from(ErrorCode::Quota))?;
        let done = write(&mut wasi.filesystem());
        match &done {
            Ok(done) => counted.written(written(done)),
            Err(error) if error.downcast_ref() == Some(&ErrorCode::FileTooLarge) => counted.too_large(),
            Err(_) => {}
        }
        done
    }

    /// Corrects the error if no descriptor is left, which the library calls an error of the device.
    fn opened_or_full<T>(&mut self, result: FsResult<T>) -> FsResult<T> {
        match result {
            Err(error) if error.downcast_ref() == Some(&ErrorCode::Io) && !is_one_free() => {
                self.process().refused(Limit::OpenFiles);
                Err(ErrorCode::Quota.into())
            }
            result => result,
        }
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        self.library().convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<StreamFailure>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let of_system =
            self.table().get(&error)?.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        if of_system == Some(nix::libc::EDQUOT) {
            return Ok(Some(types::ErrorCode::Quota));
        }
        self.library().filesystem_error_code(error)
    }
}

/// Passes calls on to the library.
macro_rules! library {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> $result {
            HostDescriptor::$name(&mut self.library(), $($arg),*)
        })*
    };
}

impl HostDescriptor for View<'_> {
    library! {
        fn advise(file: Resource<Descriptor>, offset: Filesize, len: Filesize, advice: Advice) -> FsResult<()>;
        fn sync_data(file: Resource<Descriptor>) -> FsResult<()>;
        fn get_flags(file: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        fn get_type(file: Resource<Descriptor>) -> FsResult<DescriptorType>;
        fn set_times(file: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()>;
        fn read(file: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        fn sync(file: Resource<Descriptor>) -> FsResult<()>;
        fn create_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn stat(file: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        fn stat_at(dir: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        fn set_times_at(
            dir: Resource<Descriptor>, flags: PathFlags, path: String, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FsResult<()>;
        fn link_at(
            dir: Resource<Descriptor>, flags: PathFlags, path: String, new_dir: Resource<Descriptor>, new_path: String
        ) -> FsResult<()>;
        fn readlink_at(dir: Resource<Descriptor>, path: String) -> FsResult<String>;
        fn remove_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn rename_at(
            dir: Resource<Descriptor>, path: String, new_dir: Resource<Descriptor>, new_path: String
        ) -> FsResult<()>;
        fn symlink_at(dir: Resource<Descriptor>, target: String, path: String) -> FsResult<()>;
        fn unlink_file_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        fn is_same_object(one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        fn metadata_hash(file: Resource<Descriptor>) -> FsResult<MetadataHashValue>;
        fn metadata_hash_at(dir: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<MetadataHashValue>;
        fn drop(file: Resource<Descriptor>) -> wasmtime::Result<()>;
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        at: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        let (file, _) = self.file(&file)?;
        self.push(Reader::File(FileReader { file, at })).map_err(FsError::trap)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        at: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&file, Some(at))
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&file, None)
    }

    fn set_size(&mut self, descriptor: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let (file, _) = self.file(&descriptor)?;
        let by = size.saturating_sub(file.metadata().map_or(0, |metadata| metadata.len()));
        self.counted(&file, by, |library| library.set_size(descriptor, size), |()| by)
    }

    fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes: Vec<u8>,
        at: Filesize,
    ) -> FsResult<Filesize> {
        let (file, _) = self.file(&descriptor)?;
        let len = bytes.len() as u64;
        self.counted(&file, len, |library| library.write(descriptor, bytes, at), |written| *written)
    }

    fn read_directory(&mut self, dir: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let listed = self.library().read_directory(dir);
        self.opened_or_full(listed)
    }

    fn open_at(
        &mut self,
        dir: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let opened = self.library().open_at(dir, path_flags, path, open_flags, flags);
        self.opened_or_full(opened)
    }
}

impl HostDirectoryEntryStream for View<'_> {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        loop {
            let stream = Resource::new_borrow(stream.rep());
            match self.library().read_directory_entry(stream) {
                // Names that aren't UTF-8, which WASI can't express, are left out, as for modules.
                Err(error) if error.downcast_ref() == Some(&ErrorCode::IllegalByteSequence) => {}
                entry => return entry,
            }
        }
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.library(), stream)
    }
}
