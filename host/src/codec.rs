//! The encoding of what owner and supervisor tell each other. The only file that knows bincode.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(message, bincode::config::standard()).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (message, _) =
        bincode::serde::decode_from_slice(bytes, bincode::config::standard()).map_err(io::Error::other)?;
    Ok(message)
}
