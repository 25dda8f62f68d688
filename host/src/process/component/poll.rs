//! `wasi:io/poll`, and the monotonic clock: a component waits in one sleep, until the first of several times has come, or stdin can
//! be read.

use std::time::Duration;

use wasmtime::component::Resource;
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::sync::io::poll;

use super::View;
use crate::process::wasi;
use crate::sys::futex::monotonic;

/// The thing that a pollable waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// Nothing: files and outputs are always ready.
    Ready,
    /// A time of the monotonic clock.
    Until(Duration),
    Stdin,
}

/// The longest sleep at once, for a process that waits for what never comes.
const LONG: Duration = Duration::from_secs(3600);

fn now() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX)
}

impl monotonic_clock::Host for View<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(now())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.push(Wait::Until(Duration::from_nanos(when)))
    }

    fn subscribe_duration(&mut self, duration: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.push(Wait::Until(monotonic().saturating_add(Duration::from_nanos(duration))))
    }
}

impl View<'_> {
    /// Waits until one of these is ready, or only looks. Returns which are.
    fn wait(&mut self, waits: &[Wait], is_patient: bool) -> Vec<u32> {
        let stdio = self.process().stdio.clone();
        // Bytes that were read ahead can be had at once.
        let may_wait_for_stdin = stdio.has_stdin() && !stdio.has_read_ahead();
        let waits_for_stdin = may_wait_for_stdin && waits.iter().any(|wait| matches!(wait, Wait::Stdin));
        let deadlines = waits.iter().filter_map(|wait| match wait {
            Wait::Until(at) => Some(*at),
            Wait::Stdin if may_wait_for_stdin => None,
            Wait::Ready | Wait::Stdin => Some(Duration::ZERO),
        });
        let deadline = if is_patient { deadlines.min() } else { Some(Duration::ZERO) };
        if is_patient {
            stdio.flush();
        }
        loop {
            let at = deadline.unwrap_or_else(|| monotonic().saturating_add(LONG));
            let stdin_ready = wasi::sleep(Some(at), waits_for_stdin);
            let now = monotonic();
            let is_ready = |wait: &Wait| match wait {
                Wait::Ready => true,
                Wait::Until(at) => *at <= now,
                Wait::Stdin => stdin_ready || !may_wait_for_stdin,
            };
            let ready = waits.iter().zip(0_u32..).filter(|(wait, _)| is_ready(wait)).map(|(_, at)| at);
            let ready: Vec<_> = ready.collect();
            if !ready.is_empty() || !is_patient {
                return ready;
            }
        }
    }
}

impl poll::Host for View<'_> {
    fn poll(&mut self, list: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        if list.is_empty() {
            return Err(wasmtime::Error::msg("it polls an empty list, which would wait for ever"));
        }
        let mut waits = Vec::with_capacity(list.len());
        for pollable in &list {
            waits.push(*self.get::<Wait, _>(pollable)?);
        }
        Ok(self.wait(&waits, true))
    }
}

impl poll::HostPollable for View<'_> {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        let wait = *self.get::<Wait, _>(&pollable)?;
        Ok(!self.wait(&[wait], false).is_empty())
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        let wait = *self.get::<Wait, _>(&pollable)?;
        self.wait(&[wait], true);
        Ok(())
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.delete::<Wait, _>(&pollable).map(drop)
    }
}
