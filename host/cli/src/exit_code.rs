//! The exit codes of the command, and the errors that lead to them.

use std::fmt::Write as _;

use sandpool::{Error, ErrorKind};

use crate::toolchain;

/// The exit codes that are Sandpool's own. Otherwise, `sandpool run` ends with the main guest's: its exit code, 128 plus the number
/// of the signal that killed it, or 134 (as for SIGABRT) after a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ExitCode {
    /// everything went well
    Success = 0,
    /// the command line is not valid
    Usage = 2,
    /// the jail lacks a layer that is required
    Jail = 117,
    /// `sandpool map`: some records failed, and the others are done
    RecordsFailed = 118,
    /// `sandpool map`: a record failed, and the rest was not done
    Stopped = 119,
    /// the guest toolchain is missing, or a guest didn't compile
    Toolchain = 120,
    /// the module was refused
    Module = 121,
    /// a directory couldn't be granted
    Grant = 122,
    /// the supervisor ended before the run did
    SupervisorLost = 123,
    /// every process of the run waited for another
    Deadlock = 124,
    /// Sandpool or the operating system failed
    Internal = 125,
    /// native code in a guest process was caught
    Escape = 159,
}

impl ExitCode {
    /// All exit codes.
    pub(crate) const ALL: &[Self] = &[
        Self::Success,
        Self::Usage,
        Self::Jail,
        Self::RecordsFailed,
        Self::Stopped,
        Self::Toolchain,
        Self::Module,
        Self::Grant,
        Self::SupervisorLost,
        Self::Deadlock,
        Self::Internal,
        Self::Escape,
    ];

    /// The exit code of a command that ends with this error.
    pub(crate) fn from_error(error: &anyhow::Error) -> Self {
        let code = error.chain().find_map(|cause| match cause.downcast_ref::<Error>() {
            Some(error) => Some(Self::from(error.kind())),
            None => cause.is::<toolchain::Error>().then_some(Self::Toolchain),
        });
        code.unwrap_or(Self::Internal)
    }

    /// The number of the exit code.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The meaning of the exit code, in a few words.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Success => "everything went well",
            Self::Usage => "the command line is not valid",
            Self::Jail => "the jail lacks a layer that is required",
            Self::RecordsFailed => "map: some records failed, and the others are done",
            Self::Stopped => "map: a record failed, and the rest was not done",
            Self::Toolchain => "the guest toolchain is missing, or a guest did not compile",
            Self::Module => "the module was refused",
            Self::Grant => "a directory or an address could not be granted",
            Self::SupervisorLost => "the supervisor ended before the run did",
            Self::Deadlock => "every process of the run waited for another",
            Self::Internal => "Sandpool or the operating system failed",
            Self::Escape => "a system call that the jail forbids, or processes that the run does not know of",
        }
    }
}

impl From<ErrorKind> for ExitCode {
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::Module => Self::Module,
            ErrorKind::Grant => Self::Grant,
            ErrorKind::Jail => Self::Jail,
            ErrorKind::Invalid => Self::Usage,
            ErrorKind::SupervisorLost => Self::SupervisorLost,
            ErrorKind::Escape => Self::Escape,
            ErrorKind::Internal | ErrorKind::Task => Self::Internal,
        }
    }
}

/// The text on exit codes that the help of commands ends with.
pub(crate) fn help() -> String {
    let mut help = "Exit codes:\n".to_owned();
    for code in ExitCode::ALL {
        // Writing to a string can't fail.
        let _ = writeln!(help, "  {:<6} {}", code.code(), code.meaning());
    }
    help.push_str(
        "  other  the guest's own: its exit code, 128 + the signal that killed it, or 134 after a trap",
    );
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_exit_code_wherever_it_stands() {
        let lacks = Error::Jail { lacks: "seccomp".to_owned() };
        assert_eq!(ExitCode::from_error(&anyhow::Error::from(lacks).context("more about it")).code(), 117);
        assert_eq!(ExitCode::from_error(&anyhow::anyhow!("none of the library's")).code(), 125);
    }

    #[test]
    fn every_exit_code_is_in_the_help() {
        let help = help();
        for code in ExitCode::ALL {
            assert!(help.contains(&format!("  {:<6} {}", code.code(), code.meaning())));
        }
    }
}
