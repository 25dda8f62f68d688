//! Functions with an argument filled in: see [`Pool::partial`](crate::Pool::partial), and
//! [`Pool::partial_by_value`](crate::Pool::partial_by_value) for closures.
//!
//! ```no_run
//! use sandpool_guest::Pool;
//!
//! let pool = Pool::new()?;
//! let texts = ["cat", "dog"].map(str::to_owned);
//! let words = vec!["cat".to_owned(), "hare".to_owned()];
//! let known = pool.partial(&words).map(|words, text| words.contains(&text), texts)?;
//! assert_eq!(known, [true, false]);
//! # Ok::<(), sandpool_guest::pool::PoolError>(())
//! ```

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::sealed::Callable;

/// The kind of function that [`Options`](crate::pool::Options) take: [`Plain`], [`Partial`], or [`ByValue`].
pub trait Call: Callable {}

/// A function that takes only its arguments: `fn(A) -> R`.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

/// A function that takes a state before its arguments: `fn(&S, A) -> R`.
#[derive(Debug, Clone, Copy)]
pub struct Partial<S>(PhantomData<fn() -> S>);

/// A function that takes a state before its arguments, such as a closure, copied byte by byte: `fn(&S, A) -> R`.
#[derive(Debug, Clone, Copy)]
pub struct ByValue<S>(PhantomData<fn() -> S>);

impl Call for Plain {}
impl<S: Serialize + DeserializeOwned> Call for Partial<S> {}
impl<S: Copy + 'static> Call for ByValue<S> {}

mod sealed {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{ByValue, Partial, Plain};
    use crate::pool::worker;
    use crate::raw::function;

    /// A pool's knowledge of functions of a kind.
    pub trait Callable {
        /// The type of the functions.
        ///
        /// A closure that captures nothing is coerced to this pointer type, because the compiler knows the type before
        /// it looks at the closure.
        type Function<A, R>: Copy;

        /// The number of a function.
        fn number<A, R>(function: Self::Function<A, R>) -> u64;

        /// The number of the function that a worker calls to call such a function.
        fn trampoline<A: DeserializeOwned, R: Serialize>() -> u64;
    }

    impl Callable for Plain {
        type Function<A, R> = fn(A) -> R;

        fn number<A, R>(function: fn(A) -> R) -> u64 {
            function::number(function)
        }

        fn trampoline<A: DeserializeOwned, R: Serialize>() -> u64 {
            worker::number(worker::call::<A, R>)
        }
    }

    impl<S: DeserializeOwned> Callable for Partial<S> {
        type Function<A, R> = fn(&S, A) -> R;

        fn number<A, R>(function: fn(&S, A) -> R) -> u64 {
            function::number_with_state(function)
        }

        fn trampoline<A: DeserializeOwned, R: Serialize>() -> u64 {
            worker::number(worker::call_partial::<S, A, R>)
        }
    }

    impl<S: Copy + 'static> Callable for ByValue<S> {
        type Function<A, R> = fn(&S, A) -> R;

        fn number<A, R>(function: fn(&S, A) -> R) -> u64 {
            function::number_with_state(function)
        }

        fn trampoline<A: DeserializeOwned, R: Serialize>() -> u64 {
            worker::number(worker::call_by_value::<S, A, R>)
        }
    }
}
