//! The kinds of traps.

/// The kind of a trap: [`Status::detail`](super::Status::detail) of [`TRAPPED`](super::TRAPPED).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
#[allow(missing_docs, reason = "named as the WebAssembly specification names them")]
pub enum Trap {
    Unreachable = 1,
    StackOverflow = 2,
    MemoryOutOfBounds = 3,
    TableOutOfBounds = 4,
    IndirectCallToNull = 5,
    BadSignature = 6,
    IntegerOverflow = 7,
    IntegerDivisionByZero = 8,
    BadConversionToInteger = 9,
    Other = 10,
    UncaughtException = 11,
    NullReference = 12,
    ArrayOutOfBounds = 13,
    CastFailure = 14,
    UnknownImport = 15,
    MissingMemory = 16,
}

impl Trap {
    /// All traps.
    pub const ALL: [Self; 16] = [
        Self::Unreachable,
        Self::StackOverflow,
        Self::MemoryOutOfBounds,
        Self::TableOutOfBounds,
        Self::IndirectCallToNull,
        Self::BadSignature,
        Self::IntegerOverflow,
        Self::IntegerDivisionByZero,
        Self::BadConversionToInteger,
        Self::Other,
        Self::UncaughtException,
        Self::NullReference,
        Self::ArrayOutOfBounds,
        Self::CastFailure,
        Self::UnknownImport,
        Self::MissingMemory,
    ];

    /// The trap of this number, or [`Trap::Other`].
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|trap| *trap as u32 == code).unwrap_or(Self::Other)
    }

    /// The cause of the trap, as a fragment: `out of bounds memory access`.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable executed",
            Self::StackOverflow => "call stack exhausted",
            Self::MemoryOutOfBounds => "out of bounds memory access",
            Self::TableOutOfBounds => "out of bounds table access",
            Self::IndirectCallToNull => "call of an uninitialized table element",
            Self::BadSignature => "indirect call with the wrong type",
            Self::IntegerOverflow => "integer overflow",
            Self::IntegerDivisionByZero => "integer divide by zero",
            Self::BadConversionToInteger => "invalid conversion to integer",
            Self::Other => "other trap",
            Self::UncaughtException => "uncaught exception",
            Self::NullReference => "access through a null reference",
            Self::ArrayOutOfBounds => "out of bounds array access",
            Self::CastFailure => "cast of a reference to a type that it does not have",
            Self::UnknownImport => "call of an import that Sandpool does not provide",
            Self::MissingMemory => {
                "call of an import that needs a memory, and the module exports none as `memory`"
            }
        }
    }
}
