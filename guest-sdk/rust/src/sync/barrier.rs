//! A place where processes wait for each other.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::Errno;
use sandpool_abi::sync::{ACT, ACTION};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::Patience;
use crate::object::{Object, Role};
use crate::{Error, raw};

/// A barrier, where a fixed number of processes wait until all of them have arrived, again and again.
///
/// ```no_run
/// use sandpool_guest::{Barrier, Process};
/// use sandpool_guest::sync::BarrierError;
///
/// let barrier = Barrier::new(3)?;
/// for number in 1..=3 {
///     let barrier = barrier.clone();
///     Process::fork(move || -> Result<(), BarrierError> {
///         println!("{number} has done the first part");
///         barrier.wait()?;
///         println!("so have all others, says {number}");
///         Ok(())
///     })?;
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A barrier **breaks** when somebody [aborts](Self::abort) it, when the time of a waiting process is over, and when
/// a waiting process ends, in whatever way. Then no process is left waiting: all of them, and those that come later,
/// get [`BarrierError::Broken`], until the barrier is [reset](Self::reset). A process that ends elsewhere doesn't
/// break the barrier; other processes would wait for it in vain, unless they have a timeout.
///
/// A forked process has all barriers of its creator. A barrier is also data: it can be an argument of a spawned process
/// and an item, or part of an item, of a queue. A clone is the same barrier.
#[derive(Clone)]
pub struct Barrier {
    object: Arc<Object>,
    /// The timeout of `wait`, in every process.
    timeout: Option<Duration>,
}

same_object!(Barrier, "barrier");

impl Barrier {
    /// Makes a barrier for `parties` processes, at least one.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`]; [`Error::OutOfRange`] for no process at all.
    pub fn new(parties: usize) -> Result<Self, Error> {
        Self::create(parties, None)
    }

    /// Makes a barrier at which no process waits longer than `timeout`, unless it passes another timeout.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use sandpool_guest::Barrier;
    /// use sandpool_guest::sync::BarrierError;
    ///
    /// let barrier = Barrier::with_timeout(2, Duration::from_millis(10))?;
    /// assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_timeout(parties: usize, timeout: Duration) -> Result<Self, Error> {
        Self::create(parties, Some(timeout))
    }

    fn create(parties: usize, timeout: Option<Duration>) -> Result<Self, Error> {
        if parties == 0 {
            return Err(Error::OutOfRange("a barrier is for at least one process"));
        }
        Ok(Self { object: Object::adopt(raw::sync::barrier_create(parties as u64)?), timeout })
    }

    /// Waits until all processes have arrived, and returns a number that differs for each of them: from 0 on, in the
    /// order in which they came.
    ///
    /// ```no_run
    /// # let barrier = sandpool_guest::Barrier::new(1)?;
    /// if barrier.wait()? == 0 {
    ///     println!("only one of us says this");
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`BarrierError::Broken`], [`BarrierError::Host`].
    pub fn wait(&self) -> Result<usize, BarrierError> {
        Ok(self.arrive(0, self.patience())?.0)
    }

    /// Like [`wait`](Self::wait), but when `timeout` is over, the barrier breaks.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[doc(alias = "wait")]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        Ok(self.arrive(0, Patience::Limited(timeout))?.0)
    }

    /// Waits until all processes have arrived. The last one runs its `action` before any process goes on.
    ///
    /// ```no_run
    /// use sandpool_guest::{Barrier, Process};
    ///
    /// let barrier = Barrier::new(2)?;
    /// let work = || -> Result<(), sandpool_guest::Error> {
    ///     for step in 1..=3 {
    ///         barrier.wait_with(|| {
    ///             println!("step {step} is done");
    ///             Ok::<_, std::io::Error>(())
    ///         })?;
    ///     }
    ///     Ok(())
    /// };
    /// let process = Process::fork(work)?;
    /// work()?;
    /// process.join()?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// All parties pass an action, of which one is run: in the process that comes last, so the others don't see its
    /// changes to memory. If the action returns an error, the barrier breaks; likewise if it panics, because that ends
    /// the process.
    ///
    /// # Errors
    /// [`BarrierError::Action`] with the error of the action, for the process that ran it; all others get
    /// [`BarrierError::Broken`]. Otherwise as [`wait`](Self::wait).
    #[doc(alias = "action")]
    pub fn wait_with<E>(&self, action: impl FnOnce() -> Result<(), E>) -> Result<usize, BarrierError<E>> {
        self.act_within(action, self.patience())
    }

    /// Like [`wait_with`](Self::wait_with), but when `timeout` is over, the barrier breaks.
    ///
    /// # Errors
    /// As [`wait_with`](Self::wait_with).
    pub fn wait_with_timeout<E>(
        &self,
        timeout: Duration,
        action: impl FnOnce() -> Result<(), E>,
    ) -> Result<usize, BarrierError<E>> {
        self.act_within(action, Patience::Limited(timeout))
    }

    fn patience(&self) -> Patience {
        self.timeout.map_or(Patience::Endless, Patience::Limited)
    }

    fn act_within<E>(
        &self,
        action: impl FnOnce() -> Result<(), E>,
        patience: Patience,
    ) -> Result<usize, BarrierError<E>> {
        let (index, is_to_act) = self.arrive(ACTION, patience)?;
        if is_to_act {
            if let Err(error) = action() {
                // The other processes must not go on; nothing more can be done than to tell them.
                let _ = raw::sync::barrier_abort(self.object.handle());
                return Err(BarrierError::Action(error));
            }
            raw::sync::barrier_release(self.object.handle()).map_err(BarrierError::new)?;
        }
        Ok(index)
    }

    /// Returns the caller's index, and whether the caller is to run the action.
    fn arrive<E>(&self, flags: u32, patience: Patience) -> Result<(usize, bool), BarrierError<E>> {
        const TO_ACT: u64 = ACT.cast_unsigned();
        let arrived = raw::sync::barrier_wait(self.object.handle(), flags, patience.timeout());
        let arrived = arrived.map_err(BarrierError::new)?;
        let index = usize::try_from(arrived & !TO_ACT).map_err(|_| BarrierError::Host(Errno::Io))?;
        Ok((index, arrived & TO_ACT != 0))
    }

    /// Breaks the barrier: all waiting processes get [`BarrierError::Broken`], and so does each process that comes
    /// until the barrier is reset.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn abort(&self) -> Result<(), Error> {
        Ok(raw::sync::barrier_abort(self.object.handle())?)
    }

    /// Resets the barrier to its initial state. Processes that wait get [`BarrierError::Broken`].
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn reset(&self) -> Result<(), Error> {
        Ok(raw::sync::barrier_reset(self.object.handle())?)
    }

    /// The number of processes that the barrier is for.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn parties(&self) -> Result<usize, Error> {
        Ok(count(self.state()?.parties)?)
    }

    /// The number of processes that wait. With other processes at work, the number may have changed already.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn n_waiting(&self) -> Result<usize, Error> {
        Ok(count(self.state()?.waiting)?)
    }

    /// Whether the barrier is broken.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> Result<bool, Error> {
        Ok(self.state()?.broken != 0)
    }

    fn state(&self) -> Result<sandpool_abi::sync::Barrier, Errno> {
        raw::sync::barrier_state(self.object.handle())
    }
}

/// There are never more processes than a guest can count.
fn count(processes: u64) -> Result<usize, Errno> {
    usize::try_from(processes).map_err(|_| Errno::Io)
}

/// Puts the barrier into an item of a queue, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for Barrier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object: u32 = self.object.offer(Role::BARRIER.what)?;
        (object, self.timeout).serialize(serializer)
    }
}

/// Takes the barrier out of an item of a queue, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for Barrier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (object, timeout) = Deserialize::deserialize(deserializer)?;
        Ok(Self { object: Object::claim(object, &Role::BARRIER)?.object, timeout })
    }
}

/// The reason why a process at a [`Barrier`] goes on without the others.
///
/// ```no_run
/// use sandpool_guest::Barrier;
/// use sandpool_guest::sync::BarrierError;
///
/// let barrier = Barrier::new(2)?;
/// barrier.abort()?;
/// assert!(matches!(barrier.wait(), Err(BarrierError::Broken)));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// `E` is the error of an action. A wait without an action can't fail like that.
#[derive(Debug)]
#[non_exhaustive]
pub enum BarrierError<E = Infallible> {
    /// The barrier is broken, or became broken or was reset while this process waited: Python's `BrokenBarrierError`.
    Broken,
    /// The action of this process returned an error, which has broken the barrier.
    Action(E),
    /// Anything else that the host reported.
    Host(Errno),
}

impl<E> BarrierError<E> {
    fn new(errno: Errno) -> Self {
        match errno {
            // A timeout that is over breaks the barrier, also one that was over before the wait began.
            Errno::Broken | Errno::Again | Errno::Timedout => Self::Broken,
            other => Self::Host(other),
        }
    }
}

impl<E: fmt::Display> fmt::Display for BarrierError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken => Errno::Broken.fmt(f),
            Self::Action(error) => error.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl<E: fmt::Debug + fmt::Display> std::error::Error for BarrierError<E> {}

impl<E: fmt::Debug + fmt::Display + Send + Sync + 'static> From<BarrierError<E>> for Error {
    fn from(error: BarrierError<E>) -> Self {
        Self::other(error)
    }
}
