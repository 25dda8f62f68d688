//! One interface for pools of processes and for running in this process.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pool;
use super::error::PoolError;

/// Something that runs functions: a [`Pool`], or, in this process, [`SerialPool`].
///
/// ```no_run
/// use sandpool_guest::{Pool, SerialPool};
/// use sandpool_guest::pool::{Mapper, PoolError};
///
/// fn sum_of_squares(mapper: &impl Mapper) -> Result<u64, PoolError> {
///     Ok(mapper.map(|n: u64| n * n, 0..1000)?.into_iter().sum())
/// }
///
/// // The same with one process, such as to debug it, and with many.
/// assert_eq!(sum_of_squares(&SerialPool)?, sum_of_squares(&Pool::new()?)?);
/// # Ok::<(), PoolError>(())
/// ```
///
/// A `Mapper` takes functions without a state: the state that [`Pool::partial`] fills in is in the arguments here.
#[doc(alias = "AbstractWorkerPool")]
pub trait Mapper {
    /// Like [`Pool::apply`].
    ///
    /// # Errors
    /// The errors of [`Pool::apply`].
    #[doc(alias = "pipe")]
    fn apply<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static;

    /// Like [`Pool::map`].
    ///
    /// # Errors
    /// The errors of [`Pool::map`].
    fn map<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static;

    /// Like [`Pool::imap`].
    ///
    /// # Errors
    /// The errors of [`Pool::imap`].
    fn imap<'p, A, R, I>(
        &'p self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<impl Iterator<Item = Result<R, super::TaskError>> + use<'p, Self, A, R, I>, PoolError>
    where
        I: IntoIterator<Item = A> + 'p,
        A: Serialize + DeserializeOwned + 'p,
        R: Serialize + DeserializeOwned + 'static;
}

impl Mapper for Pool {
    fn apply<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.apply(function, arguments)
    }

    fn map<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.map(function, arguments)
    }

    fn imap<'p, A, R, I>(
        &'p self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<impl Iterator<Item = Result<R, super::TaskError>> + use<'p, A, R, I>, PoolError>
    where
        I: IntoIterator<Item = A> + 'p,
        A: Serialize + DeserializeOwned + 'p,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.imap(function, arguments)
    }
}

/// Runs functions in this process, one after another. A panic of a function ends this process; no other error occurs.
#[derive(Debug, Clone, Copy, Default)]
pub struct SerialPool;

impl Mapper for SerialPool {
    fn apply<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(function(arguments))
    }

    fn map<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(arguments.into_iter().map(function).collect())
    }

    fn imap<'p, A, R, I>(
        &'p self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<impl Iterator<Item = Result<R, super::TaskError>> + use<'p, A, R, I>, PoolError>
    where
        I: IntoIterator<Item = A> + 'p,
        A: Serialize + DeserializeOwned + 'p,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(arguments.into_iter().map(move |arguments| Ok(function(arguments))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_pool_runs_functions_here() {
        let square = |n: u64| n * n;
        assert_eq!(SerialPool.apply(square, 3).ok(), Some(9));
        assert_eq!(SerialPool.map(square, 0..4).ok(), Some(vec![0, 1, 4, 9]));
        let lazy = SerialPool.imap(square, 0..).ok().map(|squares| squares.take(3).flatten().sum::<u64>());
        assert_eq!(lazy, Some(5));
    }
}
