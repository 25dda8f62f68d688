//! The encoding of messages between owner and supervisor, and of the inputs and outputs of tasks. Only this file knows bincode.

use std::io;

use bincode::config::{Config, Configuration, Fixint, LittleEndian};
use bincode::error::DecodeError;
use sandpool_abi::nesting::Bounded;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Numbers have their full length. The SDK has the same configuration.
const CONFIGURATION: Configuration<LittleEndian, Fixint> =
    bincode::config::standard().with_fixed_int_encoding();

pub(crate) fn encode(message: &(impl Serialize + ?Sized)) -> io::Result<Vec<u8>> {
    bincode::serde::encode_to_vec(message, CONFIGURATION).map_err(io::Error::other)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    Ok(decode_some(bytes)?.0)
}

/// Decodes a value that must use up all bytes.
pub(crate) fn decode_all<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let (value, len) = decode_some(bytes)?;
    if len == bytes.len() {
        Ok(value)
    } else {
        Err(io::Error::other(format!("{} bytes of {} are left", bytes.len() - len, bytes.len())))
    }
}

/// Decodes a value from the start of untrusted bytes, and returns its length.
///
/// A string states its own length, and bincode allocates that length before it looks whether the bytes are there. So the sum of all
/// lengths has a limit: 16 bytes for each byte of the input. A limit is a constant of a type, so there are a few, each for inputs
/// of up to a 16th of it.
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
    bincode::serde::seed_decode_from_slice(Bounded::<T>::new(bytes), bytes, config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use sandpool_abi::nesting::{DEPTH_MAX, EMPTY_MAX};
    use serde::de::{DeserializeOwned, Deserializer, SeqAccess, Visitor};
    use serde::{Deserialize, Serialize};

    use super::{decode_all, encode};

    #[test]
    fn a_length_that_is_a_lie_allocates_nothing() {
        for len in [1 << 20, 1 << 45, 1 << 62, u64::MAX] {
            // A string that claims this number of bytes, and has one.
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

    // The bounds of `sandpool_abi::nesting`, which the SDK has as well.

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        children: Vec<Node>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Link(Option<Box<Link>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Term {
        Nothing,
        Not(Box<Term>),
        And(Box<Term>, Box<Term>),
        Named { name: String, term: Box<Term> },
        All(BTreeMap<String, Term>),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Empty {
        nothing: (),
        no_more: [(); 4],
    }

    fn refusal<T: DeserializeOwned>(bytes: &[u8]) -> String {
        decode_all::<T>(bytes).err().unwrap().to_string()
    }

    /// A length, as it is encoded.
    fn length(of: u64) -> Vec<u8> {
        encode(&of).unwrap()
    }

    /// Values as deep as the bytes say, on a stack that has less room than a thread's.
    #[test]
    fn what_is_too_deep_is_refused() {
        let deep = || {
            let nodes = length(1).repeat(1 << 18);
            // Each value is the second of the choices.
            let terms = encode(&1_u32).unwrap().repeat(1 << 18);
            for refusal in [
                refusal::<Node>(&nodes),
                refusal::<Vec<Node>>(&nodes),
                refusal::<Term>(&terms),
                refusal::<(u8, Option<Term>)>(&[&[1, 1], &*terms].concat()),
                refusal::<Link>(&[1; 1 << 20]),
            ] {
                assert_eq!(refusal, format!("its values lie within each other more than {DEPTH_MAX} deep"));
            }
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(deep).unwrap().join().unwrap();
    }

    #[test]
    fn what_is_not_too_deep_is_what_it_was() {
        let mut node = Node { children: Vec::new() };
        // Each step is a struct and a sequence.
        for _ in 1..DEPTH_MAX / 2 {
            node = Node { children: vec![node, Node { children: Vec::new() }] };
        }
        let bytes = encode(&node).unwrap();
        assert_eq!(decode_all::<Node>(&bytes).unwrap(), node);
        assert!(decode_all::<Vec<Node>>(&[length(1), bytes].concat()).is_err());
        let term = Term::And(
            Box::new(Term::Not(Box::new(Term::Nothing))),
            Box::new(Term::Named {
                name: "n".to_owned(),
                term: Box::new(Term::All(BTreeMap::from([("a".to_owned(), Term::Nothing)]))),
            }),
        );
        let all = (
            (true, -1_i8, -2_i16, -3_i32, -4_i64, -5_i128),
            (1_u8, 2_u16, 3_u32, 4_u64, 5_u128, 1.5_f32, 2.5_f64),
            ('x', "text".to_owned(), Some(()), None::<u8>, [7_u8; 3], Link(None)),
            term,
        );
        assert_eq!(decode_all(&encode(&all).unwrap()).ok(), Some(all));
    }

    #[test]
    fn more_elements_without_bytes_than_there_may_be_are_refused() {
        let bytes = length(u64::MAX);
        let expected = format!("more than {EMPTY_MAX} of its elements take no bytes");
        for refusal in [
            refusal::<Vec<()>>(&bytes),
            refusal::<Vec<Empty>>(&bytes),
            refusal::<BTreeMap<(), Empty>>(&bytes),
            // Each inner sequence alone has few elements.
            refusal::<Vec<Vec<()>>>(&encode(&vec![vec![(); 3]; 1 << 20]).unwrap()),
        ] {
            assert_eq!(refusal, expected);
        }
        let some = (vec![(); EMPTY_MAX as usize - 3], vec![Empty { nothing: (), no_more: [(); 4] }; 3]);
        assert_eq!(decode_all(&encode(&some).unwrap()).ok(), Some(some));
        // These use up much of the limit, whatever the last element takes.
        let full = (vec![(1_u8, ()); 2 << 20], vec![Some(()); 2 << 20], vec![Vec::<()>::new(); 2 << 20]);
        assert_eq!(decode_all(&encode(&full).unwrap()).ok(), Some(full));
    }

    /// The number of elements for which a visitor would make room.
    struct Hint(Option<usize>);

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Look;
            impl<'de> Visitor<'de> for Look {
                type Value = Hint;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a sequence")
                }

                fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<Hint, A::Error> {
                    Ok(Hint(elements.size_hint()))
                }
            }
            deserializer.deserialize_seq(Look)
        }
    }

    #[test]
    fn room_is_made_for_no_more_elements_than_there_are_bytes() {
        let bytes = length(1 << 60);
        assert_eq!(decode_all::<Hint>(&bytes).unwrap().0, Some(bytes.len()));
        let bytes = length(3);
        assert_eq!(decode_all::<Hint>(&bytes).unwrap().0, Some(bytes.len().min(3)));
    }
}
