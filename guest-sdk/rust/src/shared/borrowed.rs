//! The arrays that this process has as slices.

use std::cell::RefCell;

thread_local! {
    /// The handles of borrowed arrays: the same array may have been received several times. A process has one thread.
    static BORROWED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Marks an array as borrowed while this value lives.
#[derive(Debug)]
pub(crate) struct Borrow {
    handle: u64,
    // The value belongs to its thread's list.
    thread: std::marker::PhantomData<*const ()>,
}

impl Borrow {
    /// Panics if the array is borrowed already, because there is a guard for it.
    pub(crate) fn new(handle: u64) -> Self {
        check(handle);
        BORROWED.with_borrow_mut(|borrowed| borrowed.push(handle));
        Self { handle, thread: std::marker::PhantomData }
    }
}

impl Drop for Borrow {
    fn drop(&mut self) {
        BORROWED.with_borrow_mut(|borrowed| borrowed.retain(|handle| *handle != self.handle));
    }
}

/// Panics if the array is borrowed, as a `RefCell` does.
pub(crate) fn check(handle: u64) {
    let clashes = BORROWED.with_borrow(|borrowed| borrowed.contains(&handle));
    assert!(!clashes, "the array is borrowed already: this process has an `ArrayGuard` of it");
}

/// Whether there is any guard in this process.
pub(crate) fn is_borrowed() -> bool {
    BORROWED.with_borrow(|borrowed| !borrowed.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let first = Borrow::new(7);
        check(8);
        assert!(is_borrowed());
        assert!(std::panic::catch_unwind(|| check(7)).is_err());
        assert!(std::panic::catch_unwind(|| Borrow::new(7)).is_err());
        drop(first);
        assert!(!is_borrowed());
        check(7);
    }
}
