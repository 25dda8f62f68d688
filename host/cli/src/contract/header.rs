//! The header for C: the table of the contract, and small functions above the imports.
//!
//! `guest-sdk/c/sandpool.h` is a copy of it, which a test compares. To write the copy again after a change:
//!
//! ```sh
//! SANDPOOL_REWRITE=1 cargo test --release --locked --workspace --bin sandpool contract
//! ```

use std::fmt::Write as _;

use sandpool_abi::process::{Limit, Trap};
use sandpool_abi::{CONSTANTS, Constant, Errno, Import, Layout, MODULES, Pointee, Type, Value};

use super::plain_text;

const BEGIN: &str = "\
// The contract between Sandpool's host and its guests, for C.
//
// Made from the table of the crate sandpool-abi: change the table, not this file. The texts are those of
// the crate: there, `JOINABLE` of the module `queue` is SANDPOOL_QUEUE_JOINABLE here, and the function `put` is
// sandpool_queue_put.
//
// A guest is a module for wasm32 with an export `memory` and, unless it has tasks only, an export `_start`. Compile it
// by clang with `--target=wasm32-wasi`, or, without a C library, with `--target=wasm32 -nostdlib`.
//
// A handle is a number greater than zero, and names the same thing in each process of a run. A timeout is in
// nanoseconds. A function with a result of 32 bits returns 0 or an error number, SANDPOOL_ERRNO_...; a function with a
// result of 64 bits returns a value of zero or more, or a negated error number.

#ifndef SANDPOOL_H
#define SANDPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SANDPOOL_ASSERT(condition, message) static_assert(condition, message)
extern \"C\" {
#else
#define SANDPOOL_ASSERT(condition, message) _Static_assert(condition, message)
#endif

#ifdef __wasm__
#define SANDPOOL_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#else
#define SANDPOOL_IMPORT(module, name)
#endif
";

const END: &str = "
#ifdef __cplusplus
}
#endif

#endif
";

/// Functions above the imports; a version and a list of error numbers are put in.
const HELPERS: &str = include_str!("helpers.h");

/// The text of the header.
pub(crate) fn text() -> String {
    let mut text = BEGIN.to_owned();
    text.push('\n');
    CONSTANTS.iter().for_each(|one| constant(&mut text, "", one));
    numbers(&mut text);
    for module in MODULES.iter().filter(|module| !module.constants.is_empty()) {
        let _ = write!(text, "\n// Constants of {}.\n\n", module.name);
        let prefix = format!("{}_", module.name.trim_start_matches("sandpool_").to_uppercase());
        module.constants.iter().for_each(|one| constant(&mut text, &prefix, one));
    }
    // Functions of one module have structures of another.
    MODULES.iter().flat_map(|module| module.layouts).for_each(|one| layout(&mut text, one));
    for module in MODULES {
        let _ = write!(text, "\n// Functions of {}.\n", module.name);
        module.imports.iter().for_each(|one| function(&mut text, one));
    }
    let errors: String = errnos()
        .map(|errno| format!("    case {}: return \"{}\";\n", errno as i32, errno.message()))
        .collect();
    let version = CONSTANTS.iter().find_map(|constant| match constant.value {
        Value::Number(_, version) if constant.name == "ABI_VERSION" => Some(version.to_string()),
        _ => None,
    });
    let version = version.unwrap_or_default();
    text.push_str(&HELPERS.replace("@VERSION@", &version).replace("@ERRORS@", &errors));
    text.push_str(END);
    text
}

/// The error numbers, in their order.
fn errnos() -> impl Iterator<Item = Errno> {
    let mut all = Errno::ALL.to_vec();
    all.sort_by_key(|errno| *errno as i32);
    all.into_iter()
}

/// The numbers that are enums in Rust.
fn numbers(text: &mut String) {
    text.push_str("\n// The reason why a call failed. The numbers are Linux's where Linux has one.\n\n");
    for errno in errnos() {
        let name = format!("{errno:?}").to_uppercase();
        let _ = writeln!(text, "#define SANDPOOL_ERRNO_{name} {} // {}", errno as i32, errno.message());
    }
    text.push_str(
        "\n// The kind of a trap: `detail` of a status whose `kind` is SANDPOOL_PROCESS_TRAPPED.\n\n",
    );
    for trap in Trap::ALL {
        let name = snake(&format!("{trap:?}")).to_uppercase();
        let _ = writeln!(text, "#define SANDPOOL_TRAP_{name} {} // {}", trap as u32, trap.message());
    }
    text.push_str(
        "\n// The number of a limit: `detail` of a status whose `kind` is SANDPOOL_PROCESS_LIMITED, and the argument of\n\
         // sandpool_process_limit.\n\n",
    );
    for code in 1..Limit::CODES {
        let name = Limit::from_parts(code, 0).name().replace('-', "_").to_uppercase();
        let _ = writeln!(text, "#define SANDPOOL_LIMIT_{name} {code}");
    }
}

fn comment(text: &mut String, indent: &str, docs: &[&str]) {
    for line in plain_text(docs) {
        let _ = writeln!(text, "{}", format!("{indent}// {line}").trim_end());
    }
}

fn constant(text: &mut String, prefix: &str, constant: &Constant) {
    comment(text, "", constant.docs);
    let value = match constant.value {
        Value::Text(value) => format!("\"{value}\""),
        Value::Number(Type::U32, value) => format!("UINT32_C({value})"),
        Value::Number(Type::U64, value) => format!("UINT64_C({value})"),
        Value::Number(Type::I64, value) => format!("INT64_C({value})"),
        Value::Number(_, value) => value.to_string(),
    };
    let _ = writeln!(text, "#define SANDPOOL_{prefix}{} {value}", constant.name);
}

fn layout(text: &mut String, layout: &Layout) {
    text.push('\n');
    comment(text, "", layout.docs);
    let name = structure(layout.name);
    let _ = writeln!(text, "{name} {{");
    for field in layout.fields {
        comment(text, "    ", field.docs);
        let _ = writeln!(text, "    {};", declaration(field.ty, field.name));
    }
    let _ = write!(
        text,
        "}};\nSANDPOOL_ASSERT(sizeof({name}) == {}, \"a layout of the contract\");\n",
        layout.size
    );
}

fn function(text: &mut String, import: &Import) {
    text.push('\n');
    comment(text, "", import.docs);
    let params: Vec<_> = import.params.iter().map(|param| declaration(param.ty, param.name)).collect();
    let params = if params.is_empty() { "void".to_owned() } else { params.join(",\n    ") };
    let params = if params.contains('\n') { format!("\n    {params}") } else { params };
    let (module, name) = (import.module, import.name);
    let result = declaration(import.result, &format!("{module}_{name}"));
    let _ = write!(text, "{result}({params})\n    SANDPOOL_IMPORT(\"{module}\", \"{name}\");\n");
}

fn declaration(ty: Type, name: &str) -> String {
    match ty {
        Type::I32 => format!("int32_t {name}"),
        Type::U32 => format!("uint32_t {name}"),
        Type::Size => format!("size_t {name}"),
        Type::I64 => format!("int64_t {name}"),
        Type::U64 => format!("uint64_t {name}"),
        Type::Read(pointee) => format!("const {} *{name}", pointed(pointee)),
        Type::Write(pointee) => format!("{} *{name}", pointed(pointee)),
    }
}

fn pointed(pointee: Pointee) -> String {
    match pointee {
        Pointee::Byte => "void".to_owned(),
        Pointee::Word => "uint32_t".to_owned(),
        Pointee::Long => "uint64_t".to_owned(),
        Pointee::Layout(name) => structure(name),
    }
}

fn structure(name: &str) -> String {
    format!("struct sandpool_{}", snake(name))
}

/// `StackOverflow` as `stack_overflow`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake
}
