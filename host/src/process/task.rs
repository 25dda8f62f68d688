//! A task that a worker calls: its input, and what it makes of it.

use crate::ipc::Result;

/// The task that is called.
#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
}

impl Task {
    /// Takes the output over; the last one counts.
    pub(crate) fn set_output(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.clear();
        self.output.extend_from_slice(bytes);
        Ok(())
    }
}
