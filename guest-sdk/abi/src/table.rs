//! The contract as data, and the macros that make both the data and the items from one list.
//!
//! Each import module is a file with three lists: `imports!`, `constants!`, `layouts!`. A row of `imports!` is the
//! declaration that Rust has in an `extern` block for wasm32. From the rows come [`IMPORTS`](crate::queue::IMPORTS), by
//! which the host checks modules and which the fingerprint covers, and a macro for each import module, such as
//! `queue_imports!`, which passes the rows on: the Rust SDK makes its declarations of them, and the host its
//! registration. The header for C and the page of imports are made from [`MODULES`](crate::MODULES) by the tests in
//! `host/cli/src/contract/`.

use core::fmt;

/// A type of a parameter or result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// wasm's `i32`
    I32,
    /// wasm's `i64`
    I64,
}

/// Writes the name that the type has in WebAssembly's text format.
impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
        })
    }
}

/// A type as an SDK declares it, for a parameter, a result, a constant or a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// 32 bits, signed.
    I32,
    /// 32 bits, unsigned.
    U32,
    /// The size of something in the guest's memory: 32 bits, unsigned.
    Size,
    /// 64 bits, signed.
    I64,
    /// 64 bits, unsigned.
    U64,
    /// The address of what the host reads.
    Read(Pointee),
    /// The address of what the host writes.
    Write(Pointee),
}

impl Type {
    /// The type in WebAssembly.
    #[must_use]
    pub const fn value_type(self) -> ValueType {
        match self {
            Self::I64 | Self::U64 => ValueType::I64,
            Self::I32 | Self::U32 | Self::Size | Self::Read(_) | Self::Write(_) => ValueType::I32,
        }
    }
}

/// The type of the values at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointee {
    /// Bytes.
    Byte,
    /// Numbers of 32 bits.
    Word,
    /// Numbers of 64 bits, most often handles.
    Long,
    /// Structures of this name: see [`Layout`].
    Layout(&'static str),
}

/// A Rust type that a row of the table may have.
pub trait Declared {
    /// The type.
    const TYPE: Type;
    /// The type by which a host written in Rust receives such a value.
    type Received;
}

/// A Rust type to which a parameter may point.
pub trait Pointed {
    /// The type.
    const POINTEE: Pointee;
}

macro_rules! declared {
    ($($rust:ty: $type:ident, $received:ty;)*) => {
        $(impl Declared for $rust {
            const TYPE: Type = Type::$type;
            type Received = $received;
        })*
    };
}

declared! {
    i32: I32, i32;
    u32: U32, i32;
    usize: Size, i32;
    i64: I64, i64;
    u64: U64, i64;
}

impl<T: Pointed> Declared for *const T {
    const TYPE: Type = Type::Read(T::POINTEE);
    type Received = i32;
}

impl<T: Pointed> Declared for *mut T {
    const TYPE: Type = Type::Write(T::POINTEE);
    type Received = i32;
}

impl Pointed for u8 {
    const POINTEE: Pointee = Pointee::Byte;
}

impl Pointed for u32 {
    const POINTEE: Pointee = Pointee::Word;
}

impl Pointed for u64 {
    const POINTEE: Pointee = Pointee::Long;
}

/// An import module, and all that belongs to it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Module {
    /// The name by which guests import it, such as `sandpool_queue`.
    pub name: &'static str,
    /// The functions.
    pub imports: &'static [Import],
    /// The constants, such as flags.
    pub constants: &'static [Constant],
    /// The structures that functions read or write.
    pub layouts: &'static [Layout],
}

/// One import that the host provides.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Import {
    /// The import module, such as `sandpool_queue`.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// The parameters, in order.
    pub params: &'static [Field],
    /// The only result.
    pub result: Type,
    /// The documentation, line by line.
    pub docs: &'static [&'static str],
}

/// A parameter of an import, or a field of a layout.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Field {
    /// The name.
    pub name: &'static str,
    /// The type.
    pub ty: Type,
    /// The documentation, line by line. Parameters have none.
    pub docs: &'static [&'static str],
}

/// A structure in the guest's memory: its fields one after another, in little-endian order, aligned to 8 bytes if it
/// has a field of 64 bits, else to 4.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Layout {
    /// The name, such as `Item`.
    pub name: &'static str,
    /// The size in bytes.
    pub size: usize,
    /// The fields, in order.
    pub fields: &'static [Field],
    /// The documentation, line by line.
    pub docs: &'static [&'static str],
}

/// A named value.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Constant {
    /// The name, such as `JOINABLE`.
    pub name: &'static str,
    /// The value.
    pub value: Value,
    /// The documentation, line by line.
    pub docs: &'static [&'static str],
}

/// The value of a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// A number, and its type.
    Number(Type, i128),
    /// A text.
    Text(&'static str),
}

/// Declares the functions of an import module: makes `MODULE`, `IMPORTS` and `functions`, and the macro that passes the
/// rows on.
macro_rules! imports {
    ($passes_on:ident, $module:tt: $($rows:tt)*) => {
        /// The import module's name.
        pub const MODULE: &str = $module;

        rows! { $($rows)* }

        /// Passes the rows of this import module to the macro of the given name: `"module": safe fn name(…) -> …; …`,
        /// with the documentation of each row before it. A row is `unsafe` if it takes an address.
        #[macro_export]
        macro_rules! $passes_on {
            ($callback:ident) => {
                $callback! { $module: $($rows)* }
            };
        }
    };
}

macro_rules! rows {
    ($(
        $(#[doc = $doc:literal])*
        $safety:ident fn $name:ident($($param:ident: $ty:ty),*) -> $result:ty;
    )*) => {
        /// The functions of this import module.
        #[allow(unused_qualifications, reason = "rows name types by paths that are good in any crate")]
        pub const IMPORTS: &[$crate::Import] = &[$($crate::Import {
            module: MODULE,
            name: stringify!($name),
            params: &[$($crate::Field {
                name: stringify!($param),
                ty: <$ty as $crate::Declared>::TYPE,
                docs: &[],
            }),*],
            result: <$result as $crate::Declared>::TYPE,
            docs: &[$($doc),*],
        }),*];

        /// The functions, one documented name each.
        pub mod functions {
            $(
                $(#[doc = $doc])*
                #[doc = concat!(
                    "\n\nDeclaration: `", stringify!($name), "(", $(stringify!($param), ": ", stringify!($ty), ", ",)*
                    ") -> ", stringify!($result), "`"
                )]
                #[allow(non_upper_case_globals, reason = "named as the import is")]
                pub const $name: &str = stringify!($name);
            )*
        }
    };
}

/// Declares named values, and makes `CONSTANTS`. The type `text` is that of a text.
macro_rules! constants {
    ($($(#[doc = $doc:literal])* $name:ident: $ty:ident = $value:expr;)*) => {
        $($(#[doc = $doc])* pub const $name: value!(type $ty) = $value;)*

        /// The constants of this module.
        pub const CONSTANTS: &[$crate::Constant] = &[$($crate::Constant {
            name: stringify!($name),
            value: value!($ty $name),
            docs: &[$($doc),*],
        }),*];
    };
}

macro_rules! value {
    (type text) => {
        &str
    };
    (type $ty:ident) => {
        $ty
    };
    (text $name:ident) => {
        $crate::Value::Text($name)
    };
    ($ty:ident $name:ident) => {
        $crate::Value::Number(<$ty as $crate::Declared>::TYPE, $name as i128)
    };
}

/// Declares structures of a size, and makes `LAYOUTS`.
macro_rules! layouts {
    ($(
        $(#[doc = $doc:literal])*
        pub struct $name:ident: $size:literal {
            $($(#[doc = $field_doc:literal])* pub $field:ident: $ty:ty,)*
        }
    )*) => {
        $(
            $(#[doc = $doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            #[repr(C)]
            pub struct $name {
                $($(#[doc = $field_doc])* pub $field: $ty,)*
            }

            impl $crate::Pointed for $name {
                const POINTEE: $crate::Pointee = $crate::Pointee::Layout(stringify!($name));
            }

            const _: () = assert!(
                size_of::<$name>() == $size,
                "a layout of the ABI has changed: compiled guests would read garbage, so raise ABI_VERSION first"
            );
        )*

        /// The layouts of this module.
        pub const LAYOUTS: &[$crate::Layout] = &[$($crate::Layout {
            name: stringify!($name),
            size: $size,
            fields: &[$($crate::Field {
                name: stringify!($field),
                ty: <$ty as $crate::Declared>::TYPE,
                docs: &[$($field_doc),*],
            }),*],
            docs: &[$($doc),*],
        }),*];
    };
}

#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
const fn fnv(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

const fn letter(ty: Type) -> &'static str {
    match ty.value_type() {
        ValueType::I32 => "i",
        ValueType::I64 => "I",
    }
}

#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
const fn of_module(mut hash: u64, imports: &[Import]) -> u64 {
    let mut at = 0;
    while at < imports.len() {
        let import = &imports[at];
        hash = fnv(fnv(hash, import.module), import.name);
        let mut param = 0;
        while param < import.params.len() {
            hash = fnv(hash, letter(import.params[param].ty));
            param += 1;
        }
        hash = fnv(hash, letter(import.result));
        at += 1;
    }
    hash
}

/// A hash of the names and signatures of all imports.
#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
pub(crate) const fn fingerprint(modules: &[Module]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < modules.len() {
        hash = of_module(hash, modules[at].imports);
        at += 1;
    }
    hash
}
