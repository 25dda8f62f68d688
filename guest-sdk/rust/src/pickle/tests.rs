#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests panic where something is wrong")]

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{DEPTH_MAX, from_slice, to_vec};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct All {
    int: Vec<i64>,
    wide: (i128, u128),
    float: f64,
    text: String,
    letter: char,
    nothing: Option<u8>,
    something: Option<Option<bool>>,
    unit: (),
    map: BTreeMap<u16, Vec<String>>,
    variants: Vec<Variant>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Variant {
    Unit,
    Newtype(u8),
    Tuple(u8, String),
    Struct { field: bool },
}

fn all() -> All {
    let edges = [0, 1, 255, 256, 65_535, 65_536, 1 << 31, (1 << 31) - 1, 1 << 40, i64::MAX, i64::MIN];
    All {
        int: edges.iter().flat_map(|edge: &i64| [*edge, edge.wrapping_neg()]).collect(),
        wide: (i128::MIN, i128::MAX.unsigned_abs()),
        float: -0.1,
        text: "é\n".repeat(200),
        letter: 'ß',
        nothing: None,
        something: Some(Some(true)),
        unit: (),
        map: BTreeMap::from([(1, vec![]), (2, vec!["a".to_owned()])]),
        variants: vec![
            Variant::Unit,
            Variant::Newtype(7),
            Variant::Tuple(1, "b".to_owned()),
            Variant::Struct { field: true },
        ],
    }
}

#[test]
fn a_value_of_any_type_is_read_as_it_was_written() {
    assert_eq!(from_slice::<All>(&to_vec(&all()).unwrap()).unwrap(), all());
    assert_eq!(from_slice::<u64>(&to_vec(&u64::MAX).unwrap()).unwrap(), u64::MAX);
}

/// From `pickle.dumps(value, protocol)` of Python.
#[test]
fn pickles_of_each_protocol_are_read() {
    type Value = BTreeMap<String, (i32, Vec<f64>)>;
    let expected = Value::from([("a".to_owned(), (-2, vec![1.5]))]);
    for bytes in [
        &b"\x80\x02}q\0X\x01\0\0\0aq\x01J\xfe\xff\xff\xff]q\x02G?\xf8\0\0\0\0\0\0a\x86q\x03s."[..],
        b"\x80\x03}q\0X\x01\0\0\0aq\x01J\xfe\xff\xff\xff]q\x02G?\xf8\0\0\0\0\0\0a\x86q\x03s.",
        b"\x80\x04\x95\x1d\0\0\0\0\0\0\0}\x94\x8c\x01a\x94J\xfe\xff\xff\xff]\x94G?\xf8\0\0\0\0\0\0a\x86\x94s.",
        b"\x80\x05\x95\x1d\0\0\0\0\0\0\0}\x94\x8c\x01a\x94J\xfe\xff\xff\xff]\x94G?\xf8\0\0\0\0\0\0a\x86\x94s.",
    ] {
        assert_eq!(from_slice::<Value>(bytes).unwrap(), expected, "{bytes:?}");
    }
    // {1, 2}, frozenset({3}), bytearray(b'x'), and b'y' from the memo
    assert_eq!(from_slice::<Vec<u8>>(b"\x80\x04\x8f\x94(K\x01K\x02\x90.").unwrap(), [1, 2]);
    assert_eq!(from_slice::<Vec<u8>>(b"\x80\x04(K\x03\x91\x94.").unwrap(), [3]);
    assert_eq!(from_slice::<(String, String)>(b"\x80\x04\x8c\x01y\x94h\0\x86.").unwrap().1, "y");
}

#[track_caller]
fn refuses<T: DeserializeOwned + std::fmt::Debug>(bytes: &[u8], why: &str) {
    let error = from_slice::<T>(bytes).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_pickle_that_calls_something_is_refused_by_name() {
    // os.system('id'), by each way to name a function
    refuses::<String>(b"cos\nsystem\n(S'id'\ntR.", "it has `os.system` in it, and only plain data is read");
    refuses::<String>(b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", "it has `os.system` in it");
    refuses::<String>(b"\x80\x04c\x1b[31m\nx\n.", r"it has `\u{1b}[31m.x` in it");
    for opcode in *b"Rboi" {
        refuses::<String>(&[0x80, 4, opcode, b'.'], "it has an object in it");
    }
    refuses::<String>(b"\x80\x04\x82\x01.", "it has an object in it");
    refuses::<String>(b"\x80\x05\x97.", "buffers outside of it");
    refuses::<String>(b"\x80\x04Ka\x51.", "an object outside of it");
}

#[test]
fn a_pickle_that_lies_is_an_error() {
    refuses::<u8>(b"", "it ends too early");
    refuses::<u8>(b"\x80\x04K\x01", "it ends too early");
    refuses::<u8>(b"\x80\x04K\x01..", "1 bytes follow its end");
    refuses::<u8>(b"\x80\x06K\x01.", "it is of protocol 6");
    refuses::<u8>(b"I1\n.", "it is of protocol 0 or 1");
    refuses::<u8>(b"\x80\x04\xff.", "it has no instruction 0xff");
    refuses::<u8>(b"\x80\x04.", "its stack is empty");
    refuses::<u8>(b"\x80\x04(0.", "its stack is empty");
    // No instruction takes what lies below a mark.
    refuses::<u8>(b"\x80\x04K\x01(\x85.", "its stack is empty");
    refuses::<u8>(b"\x80\x04K\x01t.", "it lacks a mark");
    refuses::<u8>(b"\x80\x04h\x09.", "its memo lacks an entry");
    refuses::<u8>(b"\x80\x04}K\x01a.", "isn't of the kind");
    refuses::<u8>(b"\x80\x04}(K\x01u.", "a key has no value");
    for lie in
        [&b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffab"[..], b"X\xff\xff\xff\x7fab", b"\x8b\xff\xff\xff\xff"]
    {
        refuses::<String>(&[b"\x80\x04", lie, b"."].concat(), "it ends too early");
    }
    refuses::<String>(b"\x80\x04\x8c\x01\xff.", "a text that isn't UTF-8");
    refuses::<i128>(b"\x80\x04\x8a\x1100000000000000000.", "an integer of more than 128 bits");
    refuses::<u8>(b"\x80\x04M\0\x01.", "integer `256`, expected u8");
    refuses::<(u8, u8)>(b"\x80\x04K\x01\x85.", "invalid length 1");
    refuses::<Variant>(b"\x80\x04\x8c\x04None.", "unknown variant `None`");
}

#[test]
fn a_value_is_no_deeper_and_not_much_larger_than_its_bytes() {
    fn nested(depth: usize) -> Vec<u8> {
        [b"\x80\x04".to_vec(), b"]".repeat(depth), b"a".repeat(depth - 1), b".".to_vec()].concat()
    }
    // An ignored value is decoded as well.
    #[derive(Debug, Deserialize)]
    struct Nothing {}
    let named = |value: &[u8]| [b"\x80\x04}\x8c\x01x", &value[2..value.len() - 1], b"s."].concat();
    assert!(from_slice::<Nothing>(&named(&nested(DEPTH_MAX - 1))).is_ok());
    refuses::<Nothing>(&named(&nested(DEPTH_MAX + 1)), "it is nested more than 64 deep");
    refuses::<Nothing>(&named(&nested(100_000)), "it is nested more than 64 deep");
    // A list that has itself
    refuses::<Nothing>(&named(b"\x80\x04]\x94h\0a."), "it is nested more than 64 deep");
    // A type of which no value but this one ends
    #[derive(Debug, Deserialize)]
    struct Endless(#[expect(dead_code, reason = "it is decoded only")] Option<Box<Endless>>);
    assert!(from_slice::<Endless>(b"\x80\x04N.").is_ok());
    refuses::<Endless>(b"\x80\x04K\x01.", "it is nested more than 64 deep");
    // Lists of lists of lists, each of which has the one before ten times
    let mut bomb = b"\x80\x04]\x940".to_vec();
    for level in 0..20_u8 {
        bomb.extend(b"](");
        (0..10).for_each(|_| bomb.extend([b'h', level]));
        bomb.extend(b"e\x940");
    }
    bomb.extend(b"h\x14.");
    refuses::<Nothing>(&named(&bomb), "it refers to its own parts too often");
    // The same text again and again, as Python's pickles have it, is none.
    let often = [&b"\x80\x04](\x8c\x05hello\x94"[..], &b"h\0".repeat(1000), b"e."].concat();
    assert_eq!(from_slice::<Vec<String>>(&often).unwrap().len(), 1001);
}

#[test]
fn no_bytes_make_it_panic() {
    let valid = to_vec(&all()).unwrap();
    for at in 0..valid.len() {
        for byte in [0, 1, b'(', b'.', b'0', b'a', b'e', b'h', b't', 0x80, 0x85, 0x8b, 0x94, 0xff] {
            let mut changed = valid.clone();
            changed[at] = byte;
            drop(from_slice::<All>(&changed));
        }
        drop(from_slice::<All>(&valid[..at]));
    }
}
