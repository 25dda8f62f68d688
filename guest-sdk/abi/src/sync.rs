//! `sandpool_sync`: locks, semaphores, events, conditions, barriers.

imports! { sync_imports, "sandpool_sync":
    /// Makes a lock. Flags: [`RECURSIVE`](super::RECURSIVE).
    safe fn lock_create(flags: u32) -> i64;
    /// Acquires a lock. 0; `AGAIN` or `TIMEDOUT`, without the lock; or `OWNERDEAD`, *with* the lock: the process
    /// that held it has ended and didn't release it, so the data that it guards may be half changed. A recursive
    /// lock that the caller holds is acquired once more; for any other lock that the caller holds, the caller
    /// waits.
    safe fn lock_acquire(lock: u64, timeout: u64) -> i32;
    /// Releases a lock, once. `OVERFLOW` if nobody holds the lock; `PERM` if it is recursive and another process
    /// holds it.
    safe fn lock_release(lock: u64) -> i32;
    /// Returns how often the caller holds the lock: above 0 if the caller holds it, 0 if nobody does,
    /// [`ELSEWHERE`](super::ELSEWHERE) if another process does.
    safe fn lock_held(lock: u64) -> i64;
    /// Makes a semaphore with `value` units, at most 2^62 (else `INVAL`). A process holds a unit from acquiring it
    /// until the process releases one. Flags: [`BOUNDED`](super::BOUNDED), [`RETURNED`](super::RETURNED).
    safe fn semaphore_create(value: u64, flags: u32) -> i64;
    /// Acquires one unit. 0, `AGAIN`, `TIMEDOUT`.
    safe fn semaphore_acquire(semaphore: u64, timeout: u64) -> i32;
    /// Releases `count` units, which other processes may have acquired. `OVERFLOW`, and nothing is released, if a
    /// bounded semaphore would have more units than it was made with, or any semaphore more than 2^62.
    safe fn semaphore_release(semaphore: u64, count: u64) -> i32;
    /// Returns the number of free units.
    safe fn semaphore_value(semaphore: u64) -> i64;
    /// Returns the number of units that processes held when they ended: those units are lost, or, with
    /// [`RETURNED`](super::RETURNED), were returned.
    safe fn semaphore_died(semaphore: u64) -> i64;
    /// Makes an event that isn't set.
    safe fn event_create() -> i64;
    /// Sets an event: all processes that wait for it go on, and no process waits until it is cleared.
    safe fn event_set(event: u64) -> i32;
    /// Clears an event.
    safe fn event_clear(event: u64) -> i32;
    /// Returns 1 if the event is set, else 0.
    safe fn event_is_set(event: u64) -> i64;
    /// Waits until the event is set, or was set since, even if it was cleared again at once. 0, `AGAIN`, `TIMEDOUT`.
    safe fn event_wait(event: u64, timeout: u64) -> i32;
    /// Makes a condition.
    safe fn condition_create() -> i64;
    /// Releases `lock` wholly, waits until notified, and acquires the lock as often as it was held, however long
    /// that takes. Returns [`NOTIFIED`](super::NOTIFIED), unless the time was over, and
    /// [`OWNER_DIED`](super::OWNER_DIED) if the lock was taken over from a process that has ended. `PERM` if the
    /// caller doesn't hold the lock.
    safe fn condition_wait(condition: u64, lock: u64, timeout: u64) -> i64;
    /// Wakes `count` processes, those that have waited longest, and returns the number of processes that were
    /// woken. `PERM` if the caller doesn't hold the lock.
    safe fn condition_notify(condition: u64, lock: u64, count: u64) -> i64;
    /// Makes a barrier for `parties` processes. `INVAL` if that is 0.
    safe fn barrier_create(parties: u64) -> i64;
    /// Waits until all parties wait, and returns the caller's index, from 0 in the order of arrival. `BROKEN` if the
    /// barrier is broken, or breaks meanwhile: by `barrier_abort`, `barrier_reset`, the end of a process that waits
    /// or acts, or because the time of one is over, even at once. With [`ACTION`](super::ACTION) in `flags`, the last
    /// process to arrive returns at once with [`ACT`](super::ACT) added to its index: it does its action, then calls
    /// `barrier_release`, upon which the others go on, or `barrier_abort`.
    safe fn barrier_wait(barrier: u64, flags: u32, timeout: u64) -> i64;
    /// Lets the others go on. `PERM` if the caller wasn't told to [`ACT`](super::ACT), `BROKEN`.
    safe fn barrier_release(barrier: u64) -> i32;
    /// Resets a barrier to its initial state; processes that wait get `BROKEN`.
    safe fn barrier_reset(barrier: u64) -> i32;
    /// Breaks a barrier until it is reset.
    safe fn barrier_abort(barrier: u64) -> i32;
    /// Writes a [`Barrier`](super::Barrier) to `state`.
    unsafe fn barrier_state(barrier: u64, state: *mut sandpool_abi::sync::Barrier) -> i32;
}

constants! {
    /// Flag of `lock_create`: the lock's owner may acquire it again, and only the owner may release it.
    RECURSIVE: u32 = 1;
    /// Result of `lock_held`: another process holds the lock.
    ELSEWHERE: i64 = 1 << 40;
    /// Flag of `semaphore_create`: the semaphore never has more units than it was made with.
    BOUNDED: u32 = 1;
    /// Flag of `semaphore_create`: units that a process holds when it ends are returned.
    RETURNED: u32 = 2;
    /// Result of `condition_wait`: another process has notified the caller.
    NOTIFIED: i64 = 1;
    /// Result of `condition_wait`: the lock was acquired as with `OWNERDEAD` of `lock_acquire`.
    OWNER_DIED: i64 = 2;
    /// Flag of `barrier_wait`: the last process to arrive acts before the others go on.
    ACTION: u32 = 1;
    /// Added to the index of the process that is to act.
    ACT: i64 = 1 << 40;
}

layouts! {
    /// The state of a barrier: the structure that `barrier_state` writes. Little-endian.
    pub struct Barrier: 24 {
        /// The number of processes that the barrier is for.
        pub parties: u64,
        /// The number of processes that wait.
        pub waiting: u64,
        /// 1 if the barrier is broken.
        pub broken: u32,
        /// Always 0.
        pub reserved: u32,
    }
}
