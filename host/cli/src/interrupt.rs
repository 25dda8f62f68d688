//! Ctrl-C and similar signals: the guests end first, then the command, in the way that the signal asks for.

use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal, raise};

use crate::text;

/// Watches for SIGINT, SIGTERM and SIGHUP.
pub(crate) struct Interrupt {
    shared: Arc<Shared>,
}

/// A function that handles a signal. It is told whether the signal is the first.
type Call = Box<dyn Fn(Signal, bool) + Send + Sync>;

#[derive(Default)]
struct Shared {
    call: OnceLock<Call>,
    /// The first signal that was caught, and when.
    signal: Mutex<Option<(Signal, Instant)>>,
    caught: Condvar,
}

/// The signals that are watched for.
const SIGNALS: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// How long a signal may take to reach the thread that waits for it here, after the guests got it as well.
const LATE: Duration = Duration::from_millis(200);

/// Within this time, the same signal counts as one request: `timeout` sends it to a command and to its process group.
const ONE: Duration = Duration::from_millis(200);

impl Interrupt {
    /// Must be called before the first thread is started. Threads inherit from the caller that these signals are blocked: a thread
    /// that didn't would take the signal and die of it.
    pub(crate) fn watch() -> anyhow::Result<Self> {
        // A caller that ignores a signal for this command, as nohup does, wants it to stay ignored.
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let signals: SigSet =
            SIGNALS.into_iter().filter(|signal| ignored >> (*signal as u32 - 1) & 1 == 0).collect();
        signals.thread_block().context("cannot block signals")?;
        // A file that would become too large is then an error with a message.
        SigSet::from(Signal::SIGXFSZ).thread_block().context("cannot block signals")?;
        // Among hundreds of guests that want the processors, a second would pass before this process hears a signal, or ends when
        // it is killed, and the supervisor learns of its end only then. Threads inherit the setting.
        sandpool::command_support::wake_soon();
        let shared = Arc::new(Shared::default());
        let watcher = Arc::clone(&shared);
        if signals.iter().next().is_some() {
            let watch = move || {
                while let Ok(signal) = signals.wait() {
                    watcher.caught(signal);
                }
            };
            thread::Builder::new()
                .name("signals".to_owned())
                .spawn(watch)
                .context("cannot start a thread")?;
        }
        Ok(Self { shared })
    }

    /// Makes signals call this function from now on. Before that, only this process needs to be ended.
    pub(crate) fn calls(&self, call: impl Fn(Signal, bool) + Send + Sync + 'static) {
        let _ = self.shared.call.set(Box::new(call));
    }

    /// Must be called when everything has ended. If a signal ended it, this process dies of the same signal, so that a shell sees
    /// it.
    pub(crate) fn die_if_caught(&self, died_of: Option<i32>) {
        if let Some(signal) = self.caught(died_of) {
            text::note("interrupted");
            die_of(signal);
        }
    }

    /// The first signal that came. A guest may get the signal as well: if `died_of` is such a signal, this waits for it to come
    /// here too.
    pub(crate) fn caught(&self, died_of: Option<i32>) -> Option<Signal> {
        let is_late = SIGNALS.into_iter().any(|signal| died_of == Some(signal as i32));
        let patience = if is_late { LATE } else { Duration::ZERO };
        let signal = self.shared.signal.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.shared.caught.wait_timeout_while(signal, patience, |signal| signal.is_none());
        let (signal, _) = waited.unwrap_or_else(PoisonError::into_inner);
        signal.map(|(signal, _)| signal)
    }
}

impl Shared {
    fn caught(&self, signal: Signal) {
        let Some(call) = self.call.get() else { die_of(signal) };
        let is_first = {
            let mut caught = self.signal.lock().unwrap_or_else(PoisonError::into_inner);
            match *caught {
                None => {
                    *caught = Some((signal, Instant::now()));
                    true
                }
                Some((first, when)) if first == signal && when.elapsed() < ONE => return,
                Some(_) => false,
            }
        };
        self.caught.notify_all();
        call(signal, is_first);
    }
}

/// The signal's disposition is the default one, so unblocking the signal is enough.
pub(crate) fn die_of(signal: Signal) -> ! {
    let _ = SigSet::from(signal).thread_unblock();
    let _ = raise(signal);
    process::exit(128 + signal as i32)
}

/// The bits of the signals that this process ignores, from the text of `/proc/self/status`.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read_from_status() {
        assert_eq!(ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n"), 0x1001);
        assert_eq!(ignored("nonsense"), 0);
    }
}
