//! A use of a handle, for everything that the host counts the uses of.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::codec;

/// One use of a handle, which all clones in a process share. It is released with the last of them.
pub(crate) struct Object(u64);

impl Object {
    /// Takes over one use of the handle.
    pub(crate) fn adopt(handle: u64) -> Arc<Self> {
        Arc::new(Self(handle))
    }

    #[inline]
    pub(crate) fn handle(&self) -> u64 {
        self.0
    }

    /// Encodes it, inside a message only. `what` it is, such as `queue`, is for the error.
    pub(crate) fn serialize<S: Serializer>(&self, what: &str, serializer: S) -> Result<S::Ok, S::Error> {
        self.offer::<S::Error>(what)?.serialize(serializer)
    }

    /// Decodes what `serialize` has encoded.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        what: &str,
        deserializer: D,
    ) -> Result<Arc<Self>, D::Error> {
        Self::claim(u32::deserialize(deserializer)?, what).map(Self::adopt)
    }

    /// Adds it to the message that is being encoded, and returns what stands for it there.
    pub(crate) fn offer<E: ser::Error>(&self, what: &str) -> Result<u32, E> {
        codec::offer(self.0).map_err(|reason| {
            E::custom(format_args!("{} {what} can't be encoded here: {reason}", article(what)))
        })
    }

    /// The handle that `offer` has added to the message that is being decoded. One use of it is the caller's.
    pub(crate) fn claim<E: de::Error>(index: u32, what: &str) -> Result<u64, E> {
        codec::claim(index).map_err(|reason| {
            E::custom(format_args!("{} {what} can't be decoded here: {reason}", article(what)))
        })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        codec::release(self.0);
    }
}

fn article(what: &str) -> &'static str {
    if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}
