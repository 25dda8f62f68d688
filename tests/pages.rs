//! The programs of the pages for embedders. The tests of the documentation compile each of them, and nothing else is here.
//!
//! The library includes no page itself: its package has none of the README's place.

#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../host/docs/components.md")]
    struct Components;

    #[doc = include_str!("../host/docs/embedding.md")]
    struct Embedding;

    #[doc = include_str!("../host/docs/pools.md")]
    struct Pools;

    #[doc = include_str!("../host/docs/untrusted.md")]
    struct Untrusted;
}
