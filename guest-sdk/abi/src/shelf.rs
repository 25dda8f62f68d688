//! `sandpool_shelf`: numbered places, each with a message or nothing, that are changed together.
//!
//! A shelf is for data that many processes read and change, in whatever structure an SDK gives it. A change of any
//! number of places is one step: a process that dies in the middle of it has changed all of them or none.

imports! { shelf_imports, "sandpool_shelf":
    /// Makes a shelf whose places are all empty and whose words are 0, and returns its handle.
    safe fn create() -> i64;
    /// Reads the message of a place, which stays there, and the [`WORDS`](super::WORDS) words of the shelf, in one step. A
    /// message of at most `capacity` bytes with no handles is copied to `buffer`; any other is held for the caller, as by
    /// `get` of a queue, and `take` copies it and gives the caller its handles. Writes an
    /// [`Item`](crate::queue::Item) to `result`. 0; `NOENT` if the place is empty (the words are written all the same);
    /// `NOMEM` if the arena has no room to hold a message with handles.
    unsafe fn read(
        shelf: u64, place: u64, buffer: *mut u8, capacity: usize, words: *mut u64,
        result: *mut sandpool_abi::queue::Item
    ) -> i32;
    /// Sets the words of the shelf and changes the given places, in one step: `change_count` of
    /// [`Change`](super::Change), at most [`CHANGES_MAX`](super::CHANGES_MAX), no two of which are of the same place. The
    /// handles of all of them follow one another at `handles`. An item that is held for the caller is dropped first. 0, or
    /// `NOMEM`, `MSGSIZE`; `INVAL` for a place of [`PLACES_MAX`](super::PLACES_MAX) or more, or if the handles aren't as many
    /// as the changes say. Then nothing has changed.
    unsafe fn change(
        shelf: u64, words: *const u64, changes: *const sandpool_abi::shelf::Change, change_count: usize,
        handles: *const u64, handle_count: usize
    ) -> i32;
}

constants! {
    /// The number of words of a shelf, of 64 bits each.
    WORDS: usize = 6;
    /// The number of places that a shelf can have.
    PLACES_MAX: u64 = 1_048_576;
    /// The maximum number of places that one call changes.
    CHANGES_MAX: usize = 262_144;
    /// In [`Change::len`]: the place is to be empty.
    EMPTY: u32 = 0xffff_ffff;
}

layouts! {
    /// The new content of a place. Little-endian.
    pub struct Change: 24 {
        /// The number of the place.
        pub place: u64,
        /// The address of the bytes.
        pub at: u32,
        /// The number of bytes, or [`EMPTY`].
        pub len: u32,
        /// The number of handles.
        pub handle_count: u32,
        /// 0.
        pub reserved: u32,
    }
}
