//! `sandpool_connection`: connections with what is outside of the run, at addresses that were granted.
//!
//! | address | means |
//! | --- | --- |
//! | `tcp:HOST:PORT` | a port of TCP. HOST is an address, in brackets if it is one of IPv6, or a name that was granted |
//! | `unix:PATH` | a socket of the host's file system, by the path that was granted |
//! | `sandpool:NAME` | another run of the same user |
//!
//! Both functions return an end of a [pipe](crate::pipe) at once. The first message that comes there is the answer: an
//! [`Answer`], then text.
//!
//! * The text of an answer with [`DONE`] is the address at this side: for a listener, with the port that
//!   it has got.
//! * Any other text says what went wrong. Nothing follows then.
//!
//! After that, the end of `connect` is the connection: each message is a frame of Python's `multiprocessing.connection` (a length of
//! four bytes, big-endian and signed; if it is -1, one of eight bytes follows). A message that comes at the end of `listen` is
//! a connection that was accepted: its only handle is the connection's end, and its bytes are the address at the other side. To
//! release an end closes what it stands for.

imports! { connection_imports, "sandpool_connection":
    /// Asks for a listener at an address of `len` bytes, and writes its end, 64 bits, to `end`. At most `backlog` connections
    /// wait to be received; those beyond wait in the kernel, as long as it lets them. 0; `PERM` if no address was granted to the
    /// run; `NAMETOOLONG` for more than [`ADDRESS_MAX`](super::ADDRESS_MAX) bytes; `INVAL` if the address isn't UTF-8; `CLOSED` if
    /// the host's part of connections has failed; `TIMEDOUT` if too many requests wait; `NFILE`, `NOMEM`.
    unsafe fn listen(address: *const u8, len: usize, backlog: u32, end: *mut u64) -> i32;
    /// Asks for a connection to an address of `len` bytes, and writes its end, 64 bits, to `end`. If there is no connection
    /// after `timeout`, or half a minute, the answer is [`FAILED`](super::FAILED). Errors are those of `listen`.
    unsafe fn connect(address: *const u8, len: usize, timeout: u64, end: *mut u64) -> i32;
}

constants! {
    /// The maximum number of bytes of an address.
    ADDRESS_MAX: usize = 512;
    /// [`Answer::code`]: it was done.
    DONE: u32 = 0;
    /// [`Answer::code`]: the address wasn't granted. The text is the grant that it takes.
    NOT_GRANTED: u32 = 1;
    /// [`Answer::code`]: the text isn't an address.
    NO_ADDRESS: u32 = 2;
    /// [`Answer::code`]: the run has as many listeners and connections as it may.
    TOO_MANY: u32 = 3;
    /// [`Answer::code`]: the operating system has refused it, with the error number in [`Answer::errno`].
    FAILED: u32 = 4;
}

layouts! {
    /// The beginning of an answer. Little-endian.
    pub struct Answer: 8 {
        /// [`DONE`], or another of these numbers.
        pub code: u32,
        /// The error number of Linux, or 0.
        pub errno: u32,
    }
}
