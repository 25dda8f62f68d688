//! Starts a gateway, and waits for its end.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{LINGER, Settings};
use crate::child::{Child, GATEWAY};
use crate::config::RunConfig;
use crate::control;
use crate::ipc::arena::Geometry;
use crate::{Error, Result};

/// How long a gateway may take to end, beyond the time in which it sends what is left.
const PATIENCE: Duration = Duration::from_secs(1);

/// A gateway that runs. Dropping this kills it.
#[derive(Debug)]
pub(crate) struct Gateway {
    child: Child,
}

impl Gateway {
    /// Starts the gateway of a run. `supervisor` is its end of a socket whose other end the supervisor has.
    pub(crate) fn start(
        program: &Path,
        config: &RunConfig,
        memory: BorrowedFd<'_>,
        supervisor: BorrowedFd<'_>,
    ) -> Result<Self> {
        let os = |source| Error::Os { what: "start the gateway", source };
        let Geometry { processes_max, objects_max, heap_pages } = config.geometry();
        let settings = Settings {
            listen: config.sandbox.listen.clone(),
            connect: config.sandbox.connect.clone(),
            connections_max: config.sandbox.limits.connections_max,
            message_max: config.sandbox.limits.connection_message_max,
            processes_max,
            objects_max,
            heap_pages,
        };
        let (socket, theirs) = control::pair().map_err(os)?;
        let streams = [theirs.into(), Stdio::null(), Stdio::inherit()];
        let gateway = Self { child: Child::start(program, GATEWAY, streams, 0).map_err(os)? };
        control::send_message_with(socket.as_fd(), &settings, &[memory, supervisor]).map_err(os)?;
        Ok(gateway)
    }

    /// Waits until the gateway has ended. It ends soon after its supervisor.
    pub(crate) fn ended(self) {
        let time = PollTimeout::try_from(LINGER + PATIENCE).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(self.child.pidfd(), PollFlags::POLLIN)], time);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill();
        let _ = self.child.wait();
    }
}
