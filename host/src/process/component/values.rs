//! Values of components as JSON, both ways.
//!
//! | WIT | JSON |
//! | --- | --- |
//! | `bool`, `string` | the same |
//! | integers | a number without fraction or exponent, within the range of the type: all 64 bits are exact |
//! | `f32`, `f64` | a number, which comes back as it was; `"NaN"`, `"Infinity"` and `"-Infinity"` for those that JSON doesn't have |
//! | `char` | a string of one character |
//! | `list<T>`, `tuple<…>` | an array |
//! | `record` | an object; a field of type `option` may be left out |
//! | `variant` | `"case"`, or `{"case": payload}` if the case has a payload |
//! | `enum` | `"case"` |
//! | `flags` | an array of the names that are set |
//! | `option<T>` | `null`, or the value; `{"some": value}` if the value is an option as well |
//! | `result<T, E>` | `{"ok": value}` or `{"err": value}`, with `null` for nothing |
//!
//! Names are as WIT writes them. Each problem says where in the JSON it is, as `.reviews[3].stars`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use wasmtime::component::types::{Field, Flags, Record};
use wasmtime::component::{Type, Val};

use crate::guest_text::escaped_up_to;

/// The most characters that are shown of a value.
const SHOWN_MAX: usize = 40;

/// The most problems' worth of names that are listed.
const NAMES_MAX: usize = 20;

/// Why a text is no value of a type.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where, from the innermost place outwards.
    path: Vec<Step>,
    what: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Item(usize),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.path.iter().rev() {
            match step {
                Step::Field(name) => write!(f, ".{name}")?,
                Step::Item(at) => write!(f, "[{at}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.what)
    }
}

impl Problem {
    fn new(what: impl Into<String>) -> Self {
        Self { path: Vec::new(), what: what.into() }
    }

    fn below(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }
}

type Result<T> = std::result::Result<T, Problem>;

/// Reads a JSON text.
pub(super) fn parse(text: &[u8]) -> Result<&RawValue> {
    serde_json::from_slice(text).map_err(|error| Problem::new(format!("the input is not JSON: {error}")))
}

/// A JSON value as people see it in a problem.
fn shown(raw: &RawValue) -> String {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => escaped_up_to(SHOWN_MAX, raw.get()),
    }
}

fn is_no(raw: &RawValue, what: &str) -> Problem {
    Problem::new(format!("{} is not {what}", shown(raw)))
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue, what: &str) -> Result<T> {
    serde_json::from_str(raw.get()).map_err(|_| is_no(raw, what))
}

/// The fields of an object, in their order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Object<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    fields.push((Cow::Owned(key), value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// The items of an array.
pub(super) fn items(raw: &RawValue) -> Result<Vec<&RawValue>> {
    read(raw, "an array")
}

fn object<'a>(raw: &'a RawValue, what: &str) -> Result<Vec<(Cow<'a, str>, &'a RawValue)>> {
    read::<Object<'a>>(raw, what).map(|object| object.0)
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// An integer of a type with this name.
fn integer<T: std::str::FromStr + fmt::Display>(raw: &RawValue, name: &str, min: T, max: T) -> Result<T> {
    raw.get().parse().map_err(|_| is_no(raw, &format!("a {name}, an integer from {min} to {max}")))
}

/// A floating-point number: the text is read as the type itself, so that no second rounding changes it.
fn float<T: std::str::FromStr + From<f32>>(
    raw: &RawValue,
    name: &str,
    is_finite: impl Fn(&T) -> bool,
) -> Result<T> {
    match raw.get() {
        r#""NaN""# => return Ok(T::from(f32::NAN)),
        r#""Infinity""# => return Ok(T::from(f32::INFINITY)),
        r#""-Infinity""# => return Ok(T::from(f32::NEG_INFINITY)),
        _ => {}
    }
    // Rust reads words such as `inf` as well, which no JSON text has outside of strings.
    let number = raw.get().parse().ok();
    number.filter(is_finite).ok_or_else(|| is_no(raw, &format!("a finite {name}")))
}

/// Names that there are, for people.
fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<_> = names.take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        names.truncate(NAMES_MAX);
        names.push("…");
    }
    names.join(", ")
}

/// The value of this type that a JSON value stands for.
pub(super) fn decode(raw: &RawValue, ty: &Type) -> Result<Val> {
    Ok(match ty {
        Type::Bool => Val::Bool(read(raw, "a bool")?),
        Type::S8 => Val::S8(integer(raw, "s8", i8::MIN, i8::MAX)?),
        Type::U8 => Val::U8(integer(raw, "u8", u8::MIN, u8::MAX)?),
        Type::S16 => Val::S16(integer(raw, "s16", i16::MIN, i16::MAX)?),
        Type::U16 => Val::U16(integer(raw, "u16", u16::MIN, u16::MAX)?),
        Type::S32 => Val::S32(integer(raw, "s32", i32::MIN, i32::MAX)?),
        Type::U32 => Val::U32(integer(raw, "u32", u32::MIN, u32::MAX)?),
        Type::S64 => Val::S64(integer(raw, "s64", i64::MIN, i64::MAX)?),
        Type::U64 => Val::U64(integer(raw, "u64", u64::MIN, u64::MAX)?),
        Type::Float32 => Val::Float32(float(raw, "f32", |number: &f32| number.is_finite())?),
        Type::Float64 => Val::Float64(float(raw, "f64", |number: &f64| number.is_finite())?),
        Type::Char => Val::Char(read(raw, "a string of one character")?),
        Type::String => Val::String(read(raw, "a string")?),
        Type::List(list) => {
            let ty = list.ty();
            Val::List(all(items(raw)?.into_iter().map(|item| (item, &ty)))?)
        }
        Type::Tuple(tuple) => {
            let types: Vec<_> = tuple.types().collect();
            Val::Tuple(decode_all(items(raw)?, &types)?)
        }
        Type::Record(record) => decode_record(raw, record)?,
        Type::Variant(variant) => {
            let (name, payload) = case(raw)?;
            let names = || listed(variant.cases().map(|case| case.name));
            let Some(case) = variant.cases().find(|case| case.name == name) else {
                return Err(is_no(raw, &format!("one of the cases {}", names())));
            };
            Val::Variant(case.name.to_owned(), decode_payload(&name, payload, case.ty.as_ref())?)
        }
        Type::Enum(cases) => {
            let name: String = read(raw, "the name of a case")?;
            if !cases.names().any(|known| known == name) {
                return Err(is_no(raw, &format!("one of {}", listed(cases.names()))));
            }
            Val::Enum(name)
        }
        Type::Option(_) if is_null(raw) => Val::Option(None),
        Type::Option(option) => Val::Option(Some(Box::new(decode_some(raw, &option.ty())?))),
        Type::Result(result) => {
            const FORM: &str = "{\"ok\": …} or {\"err\": …}";
            let fields = object(raw, FORM)?;
            let [(key, payload)] = fields.as_slice() else { return Err(is_no(raw, FORM)) };
            let payload = (!is_null(payload)).then_some(*payload);
            match key.as_ref() {
                "ok" => Val::Result(Ok(decode_nullable("ok", payload, result.ok().as_ref())?)),
                "err" => Val::Result(Err(decode_nullable("err", payload, result.err().as_ref())?)),
                _ => return Err(is_no(raw, FORM)),
            }
        }
        Type::Flags(flags) => Val::Flags(decode_flags(raw, flags)?),
        _ => return Err(Problem::new("the function takes a value that JSON cannot express")),
    })
}

/// Decodes the value of an option that has one. An option of an option has an object of its own, because `null` would be either.
fn decode_some(raw: &RawValue, ty: &Type) -> Result<Val> {
    const FORM: &str = "null or {\"some\": …}";
    if !matches!(ty, Type::Option(_)) {
        return decode(raw, ty);
    }
    let fields = object(raw, FORM)?;
    let [(key, inner)] = fields.as_slice() else { return Err(is_no(raw, FORM)) };
    if key != "some" {
        return Err(is_no(raw, FORM));
    }
    decode(inner, ty).map_err(|problem| problem.below(Step::Field("some".to_owned())))
}

/// Decodes an array of names of flags, each of which counts once.
fn decode_flags(raw: &RawValue, flags: &Flags) -> Result<Vec<String>> {
    let mut set = Vec::new();
    for (at, item) in items(raw)?.into_iter().enumerate() {
        let name: String =
            read(item, "the name of a flag").map_err(|problem| problem.below(Step::Item(at)))?;
        if !flags.names().any(|known| known == name) {
            let problem = is_no(item, &format!("one of {}", listed(flags.names())));
            return Err(problem.below(Step::Item(at)));
        }
        if !set.contains(&name) {
            set.push(name);
        }
    }
    Ok(set)
}

fn all<'a>(pairs: impl Iterator<Item = (&'a RawValue, &'a Type)>) -> Result<Vec<Val>> {
    let below = |at| move |problem: Problem| problem.below(Step::Item(at));
    pairs.enumerate().map(|(at, (item, ty))| decode(item, ty).map_err(below(at))).collect()
}

/// Decodes an array of items, each of the type at the same place.
pub(super) fn decode_all(items: Vec<&RawValue>, types: &[Type]) -> Result<Vec<Val>> {
    if items.len() != types.len() {
        return Err(Problem::new(format!("an array of {} items, and not of {}", items.len(), types.len())));
    }
    all(items.into_iter().zip(types))
}

fn decode_record(raw: &RawValue, record: &Record) -> Result<Val> {
    let given = object(raw, "an object")?;
    let names = || listed(record.fields().map(|field| field.name));
    for (at, (key, _)) in given.iter().enumerate() {
        if !record.fields().any(|field| field.name == key) {
            let key = escaped_up_to(SHOWN_MAX, key);
            return Err(Problem::new(format!("there is no field {key}; there are: {}", names())));
        }
        if given.iter().take(at).any(|(other, _)| other == key) {
            return Err(Problem::new(format!("the field {key} is there twice")));
        }
    }
    let field = |field: Field<'_>| {
        let found = given.iter().find(|(key, _)| key == field.name);
        let value = match (found, &field.ty) {
            (Some((_, value)), ty) => {
                decode(value, ty).map_err(|problem| problem.below(Step::Field(field.name.to_owned())))?
            }
            (None, Type::Option(_)) => Val::Option(None),
            (None, _) => return Err(Problem::new(format!("the field {} is missing", field.name))),
        };
        Ok((field.name.to_owned(), value))
    };
    Ok(Val::Record(record.fields().map(field).collect::<Result<_>>()?))
}

/// The name of a variant's case, and its payload.
fn case(raw: &RawValue) -> Result<(String, Option<&RawValue>)> {
    const FORM: &str = "the name of a case, or an object of one case and its payload";
    if raw.get().starts_with('"') {
        return Ok((read(raw, FORM)?, None));
    }
    match object(raw, FORM)?.as_slice() {
        [(name, payload)] => Ok((name.clone().into_owned(), Some(payload))),
        _ => Err(is_no(raw, FORM)),
    }
}

fn decode_payload(name: &str, payload: Option<&RawValue>, ty: Option<&Type>) -> Result<Option<Box<Val>>> {
    match (payload, ty) {
        (None, None) => Ok(None),
        (Some(payload), None) if is_null(payload) => Ok(None),
        (Some(payload), Some(ty)) => decode(payload, ty)
            .map(|value| Some(Box::new(value)))
            .map_err(|problem| problem.below(Step::Field(name.to_owned()))),
        (Some(_), None) => Err(Problem::new(format!("the case {name} has no payload"))),
        (None, Some(_)) => Err(Problem::new(format!("the case {name} has a payload, which is missing"))),
    }
}

/// As [`decode_payload`], where `null` is there instead of nothing. A payload may be `null` itself.
fn decode_nullable(name: &str, payload: Option<&RawValue>, ty: Option<&Type>) -> Result<Option<Box<Val>>> {
    match ty {
        None => decode_payload(name, payload, None),
        Some(ty) => decode_payload(name, Some(payload.unwrap_or(RawValue::NULL)), Some(ty)),
    }
}

/// Writes a value as JSON. `None` if JSON can't express it.
pub(super) fn encode(value: &Val, to: &mut Vec<u8>) -> Option<()> {
    match value {
        Val::Bool(value) => write(value, to),
        Val::S8(value) => write(value, to),
        Val::U8(value) => write(value, to),
        Val::S16(value) => write(value, to),
        Val::U16(value) => write(value, to),
        Val::S32(value) => write(value, to),
        Val::U32(value) => write(value, to),
        Val::S64(value) => write(value, to),
        Val::U64(value) => write(value, to),
        Val::Float32(value) if value.is_finite() => write(value, to),
        Val::Float64(value) if value.is_finite() => write(value, to),
        Val::Float32(value) => write(not_finite(f64::from(*value)), to),
        Val::Float64(value) => write(not_finite(*value), to),
        Val::Char(value) => write(value, to),
        Val::String(value) | Val::Enum(value) | Val::Variant(value, None) => write(value, to),
        Val::List(values) | Val::Tuple(values) => {
            to.push(b'[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                encode(value, to)?;
            }
            to.push(b']');
            Some(())
        }
        Val::Record(fields) => {
            to.push(b'{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                write(name, to)?;
                to.push(b':');
                encode(value, to)?;
            }
            to.push(b'}');
            Some(())
        }
        Val::Variant(name, payload @ Some(_)) => encode_one(name, payload.as_deref(), to),
        Val::Option(None) => encode_nothing(to),
        Val::Option(Some(value)) if matches!(**value, Val::Option(_)) => encode_one("some", Some(value), to),
        Val::Option(Some(value)) => encode(value, to),
        Val::Result(Ok(value)) => encode_one("ok", value.as_deref(), to),
        Val::Result(Err(value)) => encode_one("err", value.as_deref(), to),
        Val::Flags(names) => write(names, to),
        _ => None,
    }
}

fn not_finite(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

fn write(value: impl serde::Serialize, to: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(to, &value).ok()
}

pub(super) fn encode_nothing(to: &mut Vec<u8>) -> Option<()> {
    to.extend_from_slice(b"null");
    Some(())
}

fn encode_one(name: &str, value: Option<&Val>, to: &mut Vec<u8>) -> Option<()> {
    to.push(b'{');
    write(name, to)?;
    to.push(b':');
    match value {
        Some(value) => encode(value, to)?,
        None => encode_nothing(to)?,
    }
    to.push(b'}');
    Some(())
}
