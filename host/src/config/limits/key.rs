//! The table of limits as code, and a limit by its name.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::nearest::nearest_name;
use crate::{Error, Result, units};

/// A table of limits: a struct with a field for each, their values, and the keys by which people name them. A row is
///
/// ```text
/// /// Documentation of the field.
/// memory_max {
///     limit: Memory,          the limit of the contract, which has a name; for any other, `name: "…"`
///     value: Size u64,        the variant of `Field`, and its type
///     usual: 4 << 30,         when nothing is said
///     untrusted: 256 << 20,   for code that nobody trusts
///     within: RANGE,          if not each value from one on can be had
///     about: "Most …",        a phrase, for people
/// }
/// ```
macro_rules! limits {
    (
        $(#[$struct_doc:meta])*
        pub struct $limits:ident;

        $(#[$key_doc:meta])*
        pub type $key:ident;

        $(
            $(#[$doc:meta])*
            $field:ident {
                $(limit: $limit:ident,)?
                $(name: $name:literal,)?
                value: $kind:ident $type:ty,
                usual: $usual:expr,
                untrusted: $untrusted:expr,
                $(within: $within:expr,)?
                about: $about:literal,
            }
        )*
    ) => {
        $(#[$struct_doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[non_exhaustive]
        pub struct $limits {
            $($(#[$doc])* pub $field: $type,)*
        }

        impl Default for $limits {
            fn default() -> Self {
                Self { $($field: $usual,)* }
            }
        }

        $(#[$key_doc])*
        pub type $key = Key<$limits>;

        impl $key {
            /// All limits of this table.
            pub const ALL: &[Self] = &[$(
                Self {
                    name: key::name!($($name)? $($kind $limit)?),
                    code: key::code!($($kind $limit)?),
                    value: key::unit!($kind),
                    help: $about,
                    within: key::optional!($($within)?),
                    field: |limits| Field::$kind(&mut limits.$field),
                },
            )*];

            /// The key with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<&'static Self> {
                Self::ALL.iter().find(|key| key.name == name)
            }
        }

        impl $limits {
            /// The limits for untrusted code: everything that such code uses is bounded.
            ///
            /// [`Sandbox::untrusted`](crate::Sandbox::untrusted) has the other settings for such code.
            #[must_use]
            pub fn untrusted() -> Self {
                Self { $($field: $untrusted,)* }
            }

            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Self#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, value: key::given!($kind $type)) -> Self {
                    self.$field = value.into();
                    self
                }
            )*

            /// These limits, each reduced to the other's value if that is lower.
            ///
            /// ```
            /// use sandpool::Limits;
            ///
            /// let limits = Limits::default().no_higher_than(&Limits::untrusted());
            /// assert_eq!(limits, Limits::untrusted());
            /// ```
            #[must_use]
            pub fn no_higher_than(mut self, others: &Self) -> Self {
                key::lower($key::ALL, &mut self, others);
                self
            }

            /// Sets a limit by its name.
            ///
            /// ```
            /// let mut limits = sandpool::Limits::default();
            /// limits.set("wall-time", "5min")?;
            /// assert_eq!(limits.wall_time.map(|time| time.as_secs()), Some(300));
            /// # Ok::<(), sandpool::Error>(())
            /// ```
            ///
            /// # Errors
            /// [`Error::Invalid`](crate::Error::Invalid) for an unknown name, and for a value that isn't allowed.
            pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
                key::set($key::ALL, self, name, value)
            }

            /// The value of a limit by its name, as [`set`](Self::set) takes it; `None` for an unknown name.
            #[must_use]
            pub fn get(&self, name: &str) -> Option<String> {
                Some($key::from_name(name)?.show(self))
            }

            /// Refuses values that aren't allowed.
            pub(crate) fn check(&self) -> Result<()> {
                $key::ALL.iter().try_for_each(|key| key.check_range(self))
            }
        }
    };
}

/// The word for a type of value, in help.
macro_rules! unit {
    (Count) => {
        "N"
    };
    (MaybeCount) => {
        "N"
    };
    (Size) => {
        "SIZE"
    };
    (MaybeSize) => {
        "SIZE"
    };
    (Time) => {
        "TIME"
    };
    (MaybeTime) => {
        "TIME"
    };
}

/// The name of a limit, as the contract has it.
macro_rules! name {
    ($name:literal) => {
        $name
    };
    ($kind:ident $limit:ident) => {
        key::of_kind!($kind $limit).name()
    };
}

/// The number of a limit in the contract, or 0.
macro_rules! code {
    () => {
        0
    };
    ($kind:ident $limit:ident) => {
        key::of_kind!($kind $limit).code()
    };
}

/// The limit of the contract with some value, which has the type that the kind of the row has.
macro_rules! of_kind {
    (Time $limit:ident) => {
        Limit::$limit(Duration::ZERO)
    };
    (MaybeTime $limit:ident) => {
        Limit::$limit(Duration::ZERO)
    };
    ($number:ident $limit:ident) => {
        Limit::$limit(0)
    };
}

/// The type of a setter's argument. An optional limit is set by its value as well as by an `Option`.
macro_rules! given {
    (Count $type:ty) => { $type };
    (Size $type:ty) => { $type };
    (Time $type:ty) => { $type };
    ($maybe:ident $type:ty) => { impl Into<$type> };
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

pub(super) use {code, given, limits, name, of_kind, optional, unit};

/// How an unset limit is written.
pub(super) const NONE: &str = "none";

/// A limit of some kind, with its name: a [`LimitKey`](super::LimitKey) or a [`CompileLimitKey`](super::CompileLimitKey).
#[derive(Debug)]
#[non_exhaustive]
pub struct Key<L: 'static> {
    /// the limit's name in a file, and that of its flag
    pub name: &'static str,
    /// the type of its values: `N`, `SIZE` or `TIME`
    pub value: &'static str,
    /// what the limit bounds, as a phrase
    pub help: &'static str,
    /// The limit's number in the contract with guests, or 0.
    pub(super) code: u32,
    /// The least and the greatest value of the limit, where these differ from one and the greatest number.
    pub(super) within: Option<RangeInclusive<u64>>,
    pub(in crate::config) field: for<'a> fn(&'a mut L) -> Field<'a>,
}

/// The place of a limit's value.
pub(in crate::config) enum Field<'a> {
    Count(&'a mut u32),
    Size(&'a mut u64),
    MaybeCount(&'a mut Option<u64>),
    MaybeSize(&'a mut Option<u64>),
    MaybeTime(&'a mut Option<Duration>),
    Time(&'a mut Duration),
}

impl<L: Clone + Default> Key<L> {
    /// The value of the limit by default.
    #[must_use]
    pub fn default(&self) -> String {
        (self.field)(&mut L::default()).show()
    }

    /// Refuses text that isn't a value of this limit.
    ///
    /// # Errors
    /// The text says what to write instead.
    pub fn check(&self, value: &str) -> Result<(), String> {
        (self.field)(&mut L::default()).set(value)
    }

    /// The value of the limit, in the form in which it can be set.
    pub(super) fn show(&self, limits: &L) -> String {
        (self.field)(&mut limits.clone()).show()
    }

    /// Refuses a value outside of the range, and one that is no limit at all.
    pub(super) fn check_range(&self, limits: &L) -> Result<()> {
        let mut limits = limits.clone();
        let field = (self.field)(&mut limits);
        if field.is_nothing() {
            return Err(self.invalid("0", "give more than nothing, or no limit"));
        }
        let (value, show): (_, fn(u64) -> String) = match &field {
            Field::Count(count) => (u64::from(**count), |count| count.to_string()),
            Field::Size(size) => (**size, units::of_size),
            _ => return Ok(()),
        };
        match &self.within {
            Some(within) if !within.contains(&value) => {
                let why = match *within.end() {
                    u64::MAX => format!("at least {}", show(*within.start())),
                    end => format!("between {} and {}", show(*within.start()), show(end)),
                };
                Err(self.invalid(&show(value), &why))
            }
            _ => Ok(()),
        }
    }

    fn invalid(&self, value: &str, why: &str) -> Error {
        Error::Invalid {
            what: format!("`{value}` is no value for {}", self.name),
            hint: Some(why.to_owned()),
        }
    }
}

impl Field<'_> {
    fn is_nothing(&self) -> bool {
        match self {
            Self::Count(count) => **count == 0,
            Self::Size(size) => **size == 0,
            Self::MaybeCount(count) | Self::MaybeSize(count) => **count == Some(0),
            Self::MaybeTime(time) => **time == Some(Duration::ZERO),
            Self::Time(time) => time.is_zero(),
        }
    }

    pub(in crate::config) fn set(self, text: &str) -> Result<(), String> {
        fn maybe<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
            if text == NONE {
                return Ok(None);
            }
            parse(text).map(Some).map_err(|why| format!("{why}; or {NONE}"))
        }
        fn count<T: FromStr + Default + PartialEq>(text: &str) -> Result<T, String> {
            let number = text.parse().ok().filter(|number| *number != T::default());
            number.ok_or_else(|| "give a number, 1 or more".to_owned())
        }
        let size = |text: &str| units::size(text).map_err(str::to_owned);
        let time = |text: &str| units::time(text).map_err(str::to_owned);
        match self {
            Self::Count(field) => *field = count(text)?,
            Self::Size(field) => *field = size(text)?,
            Self::Time(field) => *field = time(text)?,
            Self::MaybeCount(field) => *field = maybe(text, count)?,
            Self::MaybeSize(field) => *field = maybe(text, size)?,
            Self::MaybeTime(field) => *field = maybe(text, time)?,
        }
        Ok(())
    }

    /// Reduces the limit to the other's value, if that is lower.
    fn lower(self, other: Self) {
        fn maybe<T: Ord + Copy>(limit: &mut Option<T>, other: Option<T>) {
            *limit = match (*limit, other) {
                (Some(limit), Some(other)) => Some(limit.min(other)),
                (limit, other) => limit.or(other),
            };
        }
        match (self, other) {
            (Self::Count(limit), Self::Count(other)) => *limit = *other.min(limit),
            (Self::Size(limit), Self::Size(other)) => *limit = *other.min(limit),
            (Self::Time(limit), Self::Time(other)) => *limit = *other.min(limit),
            (Self::MaybeCount(limit), Self::MaybeCount(other))
            | (Self::MaybeSize(limit), Self::MaybeSize(other)) => maybe(limit, *other),
            (Self::MaybeTime(limit), Self::MaybeTime(other)) => maybe(limit, *other),
            // Both fields are of the same key.
            _ => {}
        }
    }

    fn show(self) -> String {
        let none = || NONE.to_owned();
        match self {
            Self::Count(field) => field.to_string(),
            Self::Size(field) => units::of_size(*field),
            Self::Time(field) => units::of_time(*field),
            Self::MaybeCount(field) => field.map_or_else(none, |count| count.to_string()),
            Self::MaybeSize(field) => field.map_or_else(none, units::of_size),
            Self::MaybeTime(field) => field.map_or_else(none, units::of_time),
        }
    }
}

/// Reduces each of these limits to the value of the other, if that is lower.
pub(super) fn lower<L: Clone>(keys: &[Key<L>], limits: &mut L, others: &L) {
    let mut others = others.clone();
    for key in keys {
        (key.field)(limits).lower((key.field)(&mut others));
    }
}

/// Sets one of several limits by its name.
pub(super) fn set<L: Clone + Default>(
    keys: &[Key<L>],
    limits: &mut L,
    name: &str,
    value: &str,
) -> Result<()> {
    let Some(key) = keys.iter().find(|key| key.name == name) else {
        let near = nearest_name(keys.iter().map(|key| key.name), name);
        return Err(Error::Invalid {
            what: format!("there is no limit {name}"),
            hint: near.map(|name| format!("the nearest name is {name}")),
        });
    };
    (key.field)(limits).set(value).map_err(|why| key.invalid(value, &why))
}

/// Whether one of these limits has this number in the contract.
pub(super) const fn has_code<L>(mut keys: &[Key<L>], code: u32) -> bool {
    while let [key, rest @ ..] = keys {
        if key.code == code {
            return true;
        }
        keys = rest;
    }
    false
}
