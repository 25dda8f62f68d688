//! The encoding of what owner and supervisor tell each other, and of the inputs and outputs of tasks. The only file that
//! knows bincode.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) fn encode(message: &(impl Serialize + ?Sized)) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(message, bincode::config::standard()).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (message, _) =
        bincode::serde::decode_from_slice(bytes, bincode::config::standard()).map_err(io::Error::other)?;
    Ok(message)
}

/// Decodes a value of which nothing may be left.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (value, len) =
        bincode::serde::decode_from_slice(bytes, bincode::config::standard()).map_err(io::Error::other)?;
    if len == bytes.len() {
        Ok(value)
    } else {
        Err(io::Error::other(format!("{} bytes of {} are left", bytes.len() - len, bytes.len())))
    }
}
