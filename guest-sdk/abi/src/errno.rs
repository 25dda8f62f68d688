//! The reasons why a call failed.

use core::fmt;

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $message:literal;)*) => {
        /// The reason why a call failed. The numbers are Linux's where Linux has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        #[non_exhaustive]
        pub enum Errno { $($(#[$doc])* $name = $value),* }

        impl Errno {
            /// All error numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the meaning of the error, as a fragment of a sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$name => $message),* }
            }
        }
    };
}

errno! {
    /// The requested thing doesn't exist.
    Noent = 2, "no such thing";
    /// The arena holds something that it must not: a process of the run has damaged it.
    Io = 5, "the arena is damaged";
    /// A handle that names nothing, or nothing that this process was given.
    Badf = 9, "stale or foreign handle";
    /// Not the caller's child (nor, where that is allowed, its parent).
    Child = 10, "not a child of this process";
    /// The call would have to wait.
    Again = 11, "would block";
    /// The arena has no room.
    Nomem = 12, "the arena is full";
    /// Not allowed: a daemonic process may not start children, a lock is another's, an end of a pipe doesn't do that.
    Perm = 1, "not permitted";
    /// A pointer or length outside of the guest's memory, or in a part of it that is mapped.
    Fault = 14, "bad address";
    /// The name is taken.
    Exist = 17, "the name is taken";
    /// The process is alive.
    Busy = 16, "still running";
    /// A bad flag, signal, or number.
    Inval = 22, "invalid argument";
    /// The object table is full.
    Nfile = 23, "too many objects";
    /// The process has as many descriptors as it may.
    Mfile = 24, "too many open descriptors";
    /// Nobody is left to receive what is sent.
    Pipe = 32, "nobody is left to receive it";
    /// A name is longer than [`NAME_MAX`](crate::NAME_MAX).
    Nametoolong = 36, "name too long";
    /// A message can't fit into the arena, ever.
    Msgsize = 90, "message too long for the arena";
    /// More was released, or said to be done, than there was.
    Overflow = 75, "released too many times";
    /// The connection with the outside was cut.
    Connreset = 104, "the connection was cut";
    /// The time is over.
    Timedout = 110, "timed out";
    /// The object was closed.
    Closed = 108, "closed";
    /// The caller has the lock now. The last holder has ended without releasing it.
    Ownerdead = 130, "the process that held the lock has ended";
    /// The run has as many processes as it may.
    Procs = 11001, "too many processes";
    /// The barrier is broken.
    Broken = 11002, "the barrier is broken";
    /// Every process of the run waits, and nobody is left to end it: only the host sees this one.
    Deadlock = 11003, "deadlock";
    /// A process that is forked would have more memory than is left to the run.
    Runmem = 11004, "too much memory for the run";
    /// The operating system has no process, or no memory for one.
    System = 11005, "the operating system has no room for another process";
}

impl Errno {
    /// Returns the error of this number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|errno| *errno as i32 == code)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Errno {}
