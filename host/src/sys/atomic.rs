//! The integers of the arena, which are those of the standard library. In test builds, each access is first announced
//! to the [model](super::model) in which the thread runs, if it runs in one.

pub(crate) use std::sync::atomic::{AtomicU8, AtomicU16, Ordering, compiler_fence};

#[cfg(not(test))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, fence};

#[cfg(test)]
pub(crate) use announced::{AtomicU32, AtomicU64, fence};

/// A sequentially consistent fence after a read-modify-write, which on x86 is such a fence itself.
#[inline]
pub(crate) fn fence_behind_rmw() {
    if cfg!(target_arch = "x86_64") {
        compiler_fence(Ordering::SeqCst);
    } else {
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod announced {
    use std::sync::atomic::Ordering;

    use crate::sys::model::{self, Cell};

    /// As [`std::sync::atomic::fence`]. Every fence of the arena is sequentially consistent.
    pub(crate) fn fence(order: Ordering) {
        model::before_barrier();
        std::sync::atomic::fence(order);
    }

    macro_rules! announced {
        ($name:ident, $integer:ty, $cell:ident, $($operation:ident)*) => {
            #[derive(Debug)]
            #[repr(transparent)]
            pub(crate) struct $name(std::sync::atomic::$name);

            #[allow(dead_code, reason = "of some operations, the arena needs but one of the two")]
            #[allow(dead_code, reason = "as the standard library's, whatever is used of it")]
            impl $name {
                pub(crate) const fn new(value: $integer) -> Self {
                    Self(std::sync::atomic::$name::new(value))
                }

                pub(crate) fn as_ptr(&self) -> *mut $integer {
                    self.0.as_ptr()
                }

                pub(crate) fn load(&self, order: Ordering) -> $integer {
                    match model::before_load(Cell::$cell(&self.0)) {
                        Some(own) => own as $integer,
                        None => self.0.load(order),
                    }
                }

                pub(crate) fn store(&self, value: $integer, order: Ordering) {
                    if !model::takes_store(Cell::$cell(&self.0), value.into(), order) {
                        self.0.store(value, order);
                    }
                }

                pub(crate) fn compare_exchange(
                    &self,
                    current: $integer,
                    new: $integer,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$integer, $integer> {
                    model::before_barrier();
                    self.0.compare_exchange(current, new, success, failure)
                }

                pub(crate) fn fetch_update(
                    &self,
                    success: Ordering,
                    failure: Ordering,
                    mut change: impl FnMut($integer) -> Option<$integer>,
                ) -> Result<$integer, $integer> {
                    let mut now = self.load(failure);
                    while let Some(new) = change(now) {
                        match self.compare_exchange(now, new, success, failure) {
                            Ok(before) => return Ok(before),
                            Err(other) => now = other,
                        }
                    }
                    Err(now)
                }

                $(pub(crate) fn $operation(&self, operand: $integer, order: Ordering) -> $integer {
                    model::before_barrier();
                    self.0.$operation(operand, order)
                })*
            }
        };
    }

    announced!(AtomicU32, u32, U32, swap fetch_add fetch_sub fetch_and fetch_or fetch_xor);
    announced!(AtomicU64, u64, U64, swap fetch_add fetch_sub fetch_and fetch_or fetch_xor);
}
