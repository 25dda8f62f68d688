//! The registers of a thread in which a system call has its number and its result, on each architecture.

use nix::sys::ptrace;
use nix::unistd::Pid;

/// Replaces the number of the system call that a thread begins.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_call(thread: Pid, number: i64) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.orig_rax = number.cast_unsigned();
    ptrace::setregs(thread, registers).unwrap();
}

/// Replaces the result of the system call that a thread has made.
#[cfg(target_arch = "x86_64")]
pub(super) fn set_result(thread: Pid, result: i64) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.rax = result.cast_unsigned();
    ptrace::setregs(thread, registers).unwrap();
}

/// Replaces the number of the system call that a thread begins. Here the kernel doesn't take it from a register.
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code, reason = "nix has no call for this set of registers")]
pub(super) fn set_call(thread: Pid, number: i64) {
    use nix::libc;
    const NT_ARM_SYSTEM_CALL: usize = 0x404;
    let mut number = i32::try_from(number).unwrap();
    let mut set = libc::iovec { iov_base: (&raw mut number).cast(), iov_len: size_of::<i32>() };
    // SAFETY: `set` describes `number`; the kernel reads both during the call, and writes the length of `set`.
    let done =
        unsafe { libc::ptrace(libc::PTRACE_SETREGSET, thread.as_raw(), NT_ARM_SYSTEM_CALL, &raw mut set) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// Replaces the result of the system call that a thread has made.
#[cfg(target_arch = "aarch64")]
pub(super) fn set_result(thread: Pid, result: i64) {
    let mut registers = ptrace::getregs(thread).unwrap();
    registers.regs[0] = result.cast_unsigned();
    ptrace::setregs(thread, registers).unwrap();
}
