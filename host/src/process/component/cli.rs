//! Arguments, variables, the exit, standard streams and terminals; the wall clock; random bytes.

use std::time::{SystemTime, UNIX_EPOCH};

use wasmtime::component::Resource;
use wasmtime_wasi::cli::IsTerminal as _;
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::bindings::clocks::wall_clock::{self, Datetime};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::streams::{Reader, Writer};
use super::{HOSTCALL_BYTES, View};
use crate::process::stdio::{Input, Output};
use crate::sys::process::{FAILED, exit_now, fill_with_random};

/// A text of the process, without the zero byte that ends it. Texts of WIT are UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}

impl environment::Host for View<'_> {
    fn get_environment(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let variables = self.process().strings.env.iter().map(|variable| {
            let variable = text(variable);
            match variable.split_once('=') {
                Some((key, value)) => (key.to_owned(), value.to_owned()),
                None => (variable, String::new()),
            }
        });
        Ok(variables.collect())
    }

    fn get_arguments(&mut self) -> wasmtime::Result<Vec<String>> {
        Ok(self.process().strings.args.iter().map(|arg| text(arg)).collect())
    }

    fn initial_cwd(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(None)
    }
}

impl exit::Host for View<'_> {
    fn exit(&mut self, status: Result<(), ()>) -> wasmtime::Result<()> {
        crate::process::exit::exit(self.0, i32::from(status.is_err()))
    }

    fn exit_with_code(&mut self, code: u8) -> wasmtime::Result<()> {
        crate::process::exit::exit(self.0, i32::from(code))
    }
}

impl stdin::Host for View<'_> {
    fn get_stdin(&mut self) -> wasmtime::Result<Resource<DynInputStream>> {
        let input = Input(self.process().stdio.clone());
        self.push(Reader::Stdin(input))
    }
}

impl stdout::Host for View<'_> {
    fn get_stdout(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let output = Output::stdout(&self.process().stdio);
        self.push(Writer::Standard(output))
    }
}

impl stderr::Host for View<'_> {
    fn get_stderr(&mut self) -> wasmtime::Result<Resource<DynOutputStream>> {
        let output = Output::stderr(&self.process().stdio);
        self.push(Writer::Standard(output))
    }
}

/// A terminal, of which a component can only know that it is one.
struct Terminal;

impl View<'_> {
    fn terminal<T: 'static>(&mut self, is_one: bool) -> wasmtime::Result<Option<Resource<T>>> {
        if is_one { self.push(Terminal).map(Some) } else { Ok(None) }
    }
}

impl terminal_input::Host for View<'_> {}
impl terminal_input::HostTerminalInput for View<'_> {
    fn drop(&mut self, terminal: Resource<terminal_input::TerminalInput>) -> wasmtime::Result<()> {
        self.delete::<Terminal, _>(&terminal).map(drop)
    }
}

impl terminal_output::Host for View<'_> {}
impl terminal_output::HostTerminalOutput for View<'_> {
    fn drop(&mut self, terminal: Resource<terminal_output::TerminalOutput>) -> wasmtime::Result<()> {
        self.delete::<Terminal, _>(&terminal).map(drop)
    }
}

impl terminal_stdin::Host for View<'_> {
    fn get_terminal_stdin(&mut self) -> wasmtime::Result<Option<Resource<terminal_input::TerminalInput>>> {
        let is_one = Input(self.process().stdio.clone()).is_terminal();
        self.terminal(is_one)
    }
}

impl terminal_stdout::Host for View<'_> {
    fn get_terminal_stdout(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        let is_one = Output::stdout(&self.process().stdio).is_terminal();
        self.terminal(is_one)
    }
}

impl terminal_stderr::Host for View<'_> {
    fn get_terminal_stderr(&mut self) -> wasmtime::Result<Option<Resource<terminal_output::TerminalOutput>>> {
        let is_one = Output::stderr(&self.process().stdio).is_terminal();
        self.terminal(is_one)
    }
}

impl wall_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<Datetime> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Datetime { seconds: now.as_secs(), nanoseconds: now.subsec_nanos() })
    }

    fn resolution(&mut self) -> wasmtime::Result<Datetime> {
        Ok(Datetime { seconds: 0, nanoseconds: 1 })
    }
}

/// Random bytes from the kernel, at each call, as for modules.
fn random_bytes(len: u64) -> wasmtime::Result<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|len| *len <= HOSTCALL_BYTES);
    let Some(len) = len else {
        return Err(wasmtime::Error::msg(format!("more than {HOSTCALL_BYTES} random bytes at once")));
    };
    let mut bytes = vec![0; len];
    if fill_with_random(&mut bytes).is_err() {
        // No bytes are better than bytes that aren't random.
        exit_now(FAILED);
    }
    Ok(bytes)
}

fn random_number() -> wasmtime::Result<u64> {
    let bytes = random_bytes(8)?;
    Ok(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

impl random::Host for View<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        random_number()
    }
}

impl insecure::Host for View<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        random_number()
    }
}

impl insecure_seed::Host for View<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((random_number()?, random_number()?))
    }
}
