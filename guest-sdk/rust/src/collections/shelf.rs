//! A shelf with its lock, and sections: changes of several places in one step.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sandpool_abi::Errno;
use sandpool_abi::handle::Record;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::handles::Handles;
use crate::message::{self, Failure};
use crate::object::{self, Object, Role, Use, mismatched};
use crate::raw::shelf::{Content, Words};
use crate::sync::{AcquireError, LockGuard};
use crate::{DecodeError, Error, Lock, codec, raw};

/// A place that never has a message: who reads it gets the words.
const NOWHERE: u64 = u64::MAX;

/// The error for a shelf whose content isn't what a collection writes.
pub(super) fn damaged() -> Error {
    Error::Decode(DecodeError::new("the collection was changed by something else"))
}

/// An object that a place refers to, with the host's record of it, if it was read there.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    object: Arc<Object>,
    record: Option<Record>,
}

/// The content of a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) bytes: Vec<u8>,
    pub(super) handles: Vec<Kept>,
}

/// An encoded value.
#[derive(Debug, Clone, Default)]
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) handles: Vec<Kept>,
}

impl Encoded {
    pub(super) fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let handles = codec::append(&mut bytes, value)?;
        let handles = match handles.as_slice() {
            [] => Vec::new(),
            _ => object::keep(handles)?.into_iter().map(|object| Kept { object, record: None }).collect(),
        };
        Ok(Self { bytes, handles })
    }
}

/// Decodes a value.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], handles: &[Kept]) -> Result<T, Error> {
    if handles.is_empty() {
        return Ok(codec::decode_plain(bytes)?);
    }
    let records: Option<Vec<_>> = handles.iter().map(|kept| kept.record).collect();
    match records {
        Some(records) => {
            for record in &records {
                raw::handle::retain(record.handle)?;
            }
            Ok(codec::decode(bytes, Handles::from_records(records))?)
        }
        // The value was put in by this process just now. A message tells what its handles name.
        None => {
            let [receiver, sender] = raw::pipe::create(0, 0)?.map(Object::adopt);
            let all: Vec<_> = handles.iter().map(|kept| kept.object.handle()).collect();
            raw::pipe::send(sender.handle(), &[bytes], &all, sandpool_abi::NO_WAIT)?;
            let receive =
                |buffer: &mut [u8]| raw::pipe::recv(receiver.handle(), buffer, sandpool_abi::NO_WAIT);
            Ok(message::receive(receive, |bytes, handles| codec::decode(&bytes, handles))
                .map_err(failed)??)
        }
    }
}

fn failed(failure: Failure) -> Error {
    match failure {
        Failure::Host(errno) => errno.into(),
        Failure::OutOfMemory => Error::OutOfMemory,
    }
}

/// A shelf that belongs to a collection.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    object: Arc<Object>,
    /// A process that changes the shelf has this lock. The content is whole even if its holder has died.
    lock: Lock,
    /// A word that this process has seen, as a guess for the next time; and one that never changes.
    guess: Arc<[AtomicU64; 2]>,
}

thread_local! {
    /// The sections that this process is in the middle of.
    static OPEN: RefCell<Vec<Open>> = const { RefCell::new(Vec::new()) };
}

/// A section that a process is in the middle of. A fork has a copy, which is none of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    process: u64,
    shelf: u64,
    lock: u64,
}

/// Ends all sections of this process, whose code will never go on. They have changed nothing.
#[cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "only WebAssembly aborts this way"))]
pub(crate) fn abandon_sections() {
    let current = raw::process::current();
    for open in OPEN.take() {
        if current == Ok(open.process) {
            // Whether it was held no longer matters.
            let _ = raw::sync::lock_release(open.lock);
        }
    }
}

impl Shelf {
    pub(super) fn new(r#use: Use, words: &Words) -> Result<Self, Error> {
        let lock = Lock::new_for_shelf()?;
        let object = Object::adopt(raw::shelf::create()?);
        object.made_as(r#use, 0, lock.object().handle())?;
        raw::shelf::change(object.handle(), words, &[], &[])?;
        Ok(Self { object, lock, guess: Arc::default() })
    }

    pub(super) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(super) fn guess(&self) -> u64 {
        let [guess, _] = &*self.guess;
        guess.load(Ordering::Relaxed)
    }

    pub(super) fn set_guess(&self, guess: u64) {
        let [known, _] = &*self.guess;
        known.store(guess, Ordering::Relaxed);
    }

    /// The word that never changes, if this process knows it.
    pub(super) fn seed(&self) -> Option<u64> {
        let [_, seed] = &*self.guess;
        Some(seed.load(Ordering::Relaxed)).filter(|seed| *seed != 0)
    }

    pub(super) fn set_seed(&self, word: u64) {
        let [_, seed] = &*self.guess;
        seed.store(word, Ordering::Relaxed);
    }

    /// Returns the words.
    pub(super) fn words(&self) -> Result<Words, Error> {
        let mut words = Words::default();
        raw::shelf::read(self.handle(), NOWHERE, &mut [], &mut words)?;
        Ok(words)
    }

    /// Passes on the content of a place and the words, as they are at one instant.
    pub(super) fn look<R>(
        &self,
        place: u64,
        look: impl FnOnce(&[u8], &[Kept], &Words) -> Result<R, Error>,
    ) -> Result<R, Error> {
        message::with_buffer(|buffer| {
            let mut words = Words::default();
            let Some(item) = raw::shelf::read(self.handle(), place, buffer, &mut words)? else {
                return look(&[], &[], &words);
            };
            let (bytes, handles) = message::take(item, buffer).map_err(failed)?;
            look(&bytes, &kept(handles), &words)
        })
    }

    /// Begins a section: nobody else changes the shelf meanwhile.
    pub(super) fn section(&self) -> Result<Section<'_>, Error> {
        let current = raw::process::current()?;
        let own = Open { process: current, shelf: self.handle(), lock: self.lock.object().handle() };
        if OPEN.with_borrow(|open| open.contains(&own)) {
            // This process would wait for itself.
            return Err(Error::Host(Errno::Deadlock));
        }
        let guard = match self.lock.acquire() {
            Ok(guard) | Err(AcquireError::OwnerDied(guard)) => guard,
            Err(AcquireError::Host(errno)) => return Err(errno.into()),
            Err(_) => return Err(Errno::Again.into()),
        };
        OPEN.with_borrow_mut(|open| open.push(own));
        Ok(Section { shelf: self, words: None, changed: false, places: BTreeMap::new(), own, _guard: guard })
    }

    /// Does a section's worth of changes. If `change` fails, nothing has changed.
    pub(super) fn with<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut Section<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut section = self.section()?;
        let result = change(&mut section)?;
        section.commit()?;
        Ok(result)
    }

    pub(super) fn serialize<S: Serializer>(&self, what: &str, serializer: S) -> Result<S::Ok, S::Error> {
        let shelf = self.object.offer::<S::Error>(what)?;
        let lock = self.lock.object().offer::<S::Error>(what)?;
        (shelf, lock).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        role: &Role,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (shelf, lock) = <(u32, u32)>::deserialize(deserializer)?;
        let shelf = Object::claim::<D::Error>(shelf, role)?;
        let lock = Object::claim::<D::Error>(lock, &Role::SHELF_LOCK)?.object;
        if shelf.partner != lock.handle() {
            return Err(mismatched(role.what));
        }
        Ok(Self { object: shelf.object, lock: Lock::from_object(lock), guess: Arc::default() })
    }
}

fn kept(handles: Handles) -> Vec<Kept> {
    let keep = |record: Record| Kept { object: Object::adopt(record.handle), record: Some(record) };
    handles.into_records().into_iter().map(keep).collect()
}

struct Loaded {
    place: Option<Place>,
    changed: bool,
}

/// Changes of a shelf that become one step in the end.
pub(super) struct Section<'a> {
    shelf: &'a Shelf,
    words: Option<Words>,
    changed: bool,
    places: BTreeMap<u64, Loaded>,
    own: Open,
    _guard: LockGuard,
}

impl Section<'_> {
    pub(super) fn shelf(&self) -> &Shelf {
        self.shelf
    }

    /// The words, as this section has them.
    pub(super) fn words(&mut self) -> Result<&mut Words, Error> {
        if self.words.is_none() {
            self.words = Some(self.shelf.words()?);
        }
        self.words.as_mut().ok_or_else(damaged)
    }

    /// The words, to be changed.
    pub(super) fn words_mut(&mut self) -> Result<&mut Words, Error> {
        self.changed = true;
        self.words()
    }

    fn load(&mut self, number: u64) -> Result<&mut Loaded, Error> {
        if !self.places.contains_key(&number) {
            let place = message::with_buffer(|buffer| -> Result<_, Error> {
                let mut words = Words::default();
                let item = raw::shelf::read(self.shelf.handle(), number, buffer, &mut words)?;
                self.words.get_or_insert(words);
                let Some(item) = item else { return Ok(None) };
                let (bytes, handles) = message::take(item, buffer).map_err(failed)?;
                Ok(Some(Place { bytes: Cow::into_owned(bytes), handles: kept(handles) }))
            })?;
            self.places.insert(number, Loaded { place, changed: false });
        }
        self.places.get_mut(&number).ok_or_else(damaged)
    }

    /// The content of a place, as this section has it.
    pub(super) fn place(&mut self, number: u64) -> Result<Option<&Place>, Error> {
        Ok(self.load(number)?.place.as_ref())
    }

    /// The content of a place, to be changed. An empty place has an empty content from now on.
    pub(super) fn place_mut(&mut self, number: u64) -> Result<&mut Place, Error> {
        self.changed = true;
        let loaded = self.load(number)?;
        loaded.changed = true;
        Ok(loaded.place.get_or_insert_default())
    }

    /// Sets the content of a place.
    pub(super) fn set(&mut self, number: u64, place: Option<Place>) {
        self.changed = true;
        self.places.insert(number, Loaded { place, changed: true });
    }

    fn commit(mut self) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        // A child that was forked in the middle of a section hasn't the lock.
        if raw::process::current()? != self.own.process {
            return Err(Error::NotAChild);
        }
        let words = *self.words()?;
        let (mut contents, mut handles) = (Vec::new(), Vec::new());
        for (number, loaded) in self.places.iter().filter(|(_, loaded)| loaded.changed) {
            // A place without a record is empty.
            let place = loaded.place.as_ref().filter(|place| !place.bytes.is_empty());
            let own = place.map_or(&[][..], |place| &place.handles);
            handles.extend(own.iter().map(|kept| kept.object.handle()));
            contents.push(Content {
                place: *number,
                bytes: place.map(|place| place.bytes.as_slice()),
                handles: u32::try_from(own.len()).map_err(|_| Error::TooLarge)?,
            });
        }
        raw::shelf::change(self.shelf.handle(), &words, &contents, &handles).map_err(|errno| match errno {
            // There are more places, or more handles in one, than a shelf has.
            Errno::Inval => Error::TooLarge,
            other => other.into(),
        })
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|open| open.retain(|one| *one != self.own));
    }
}
