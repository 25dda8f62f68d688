//! The life of a pool.

/// A phase of a pool. `E` is the reason of an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase<E> {
    /// The pool takes tasks.
    Running,
    /// No new tasks are taken; tasks that were submitted are still done.
    Closing,
    /// All tasks are done, the queue of tasks is closed, and the workers end.
    Closed,
    /// The pool has ended.
    Ended(E),
}

impl<E> Phase<E> {
    /// Whether tasks are given out, and workers are started for them.
    #[must_use]
    pub fn gives_out(&self) -> bool {
        matches!(self, Self::Running | Self::Closing)
    }

    /// Takes no more tasks.
    pub fn close(&mut self) {
        if matches!(self, Self::Running) {
            *self = Self::Closing;
        }
    }

    /// Ends the pool. Returns whether the pool hadn't ended: only the first reason counts.
    pub fn end(&mut self, why: E) -> bool {
        let ends = !self.has_ended();
        if ends {
            *self = Self::Ended(why);
        }
        ends
    }

    /// Whether the pool has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Ended(_))
    }

    /// The reason why the pool has ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<&E> {
        match self {
            Self::Ended(why) => Some(why),
            Self::Running | Self::Closing | Self::Closed => None,
        }
    }
}
