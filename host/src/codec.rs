//! The encoding of what owner and supervisor tell each other, and of the inputs and outputs of tasks. The only file that
//! knows bincode.

use std::io;

use bincode::config::{Config, Configuration, Fixint, LittleEndian};
use bincode::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::nesting::Bounded;

/// Numbers are as long as they are. It is that of the SDK as well.
const CONFIGURATION: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

pub(crate) fn encode(message: &(impl Serialize + ?Sized)) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(message, CONFIGURATION).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    Ok(decode_some(bytes)?.0)
}

/// Decodes a value of which nothing may be left.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (value, len) = decode_some(bytes)?;
    if len == bytes.len() {
        Ok(value)
    } else {
        Err(io::Error::other(format!("{} bytes of {} are left", bytes.len() - len, bytes.len())))
    }
}

/// Decodes a value from the start of what may be anybody's bytes, and says how long it was.
///
/// A string says its own length, and bincode allocates that before it looks whether there are so many bytes. So the sum
/// of all lengths has a limit: 16 bytes for each that there is. A limit is a constant of a type, so there are a few, each
/// for inputs of up to a 16th of it.
fn decode_some<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<(T, usize)> {
    match bytes.len() {
        ..=0x1000 => decode_with(bytes, CONFIGURATION.with_limit::<0x1_0000>()),
        0x1001..=0x4_0000 => decode_with(bytes, CONFIGURATION.with_limit::<0x40_0000>()),
        0x4_0001..=0x100_0000 => decode_with(bytes, CONFIGURATION.with_limit::<0x1000_0000>()),
        _ => decode_with(bytes, CONFIGURATION.with_limit::<0x10_0000_0000>()),
    }
    .map_err(|error| match error {
        DecodeError::OtherString(why) => io::Error::other(why),
        error => io::Error::other(error),
    })
}

fn decode_with<T: DeserializeOwned>(bytes: &[u8], config: impl Config) -> Result<(T, usize), DecodeError> {
    bincode::serde::seed_decode_from_slice(Bounded::<T>::of(bytes), bytes, config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{decode_all, encode};

    #[test]
    fn a_length_that_is_a_lie_allocates_nothing() {
        for len in [1 << 20, 1 << 45, 1 << 62, u64::MAX] {
            // A string of so many bytes, of which there is one.
            let mut bytes = encode(&len).unwrap();
            for padding in [1, 0x2000, 0x5_0000] {
                bytes.resize(8 + padding, b'x');
                assert!(decode_all::<String>(&bytes).is_err());
                assert!(decode_all::<Vec<String>>(&bytes).is_err());
                assert!(decode_all::<(u8, Box<[u8]>)>(&bytes).is_err());
            }
        }
    }

    #[test]
    fn the_densest_values_are_within_the_limit() {
        for count in [1, 4000, 100_000] {
            let numbers = vec![1_u128; count];
            assert_eq!(decode_all::<Vec<u128>>(&encode(&numbers).unwrap()).unwrap(), numbers);
            let strings = vec![String::new(); count];
            assert_eq!(decode_all::<Vec<String>>(&encode(&strings).unwrap()).unwrap(), strings);
        }
    }
}
