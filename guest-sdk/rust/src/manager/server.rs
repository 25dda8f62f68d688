//! The manager's process: it has the values, and does the calls, one after another.
//!
//! In each turn the manager does at most one call of each connection, so no process can hold up the others by many calls.
//! It never waits for a client: a client that doesn't take its reply loses its connection.
//!
//! # Whom a value belongs to
//!
//! Each value has a *token*: a pipe whose one end all its proxies have, and whose other end only the manager has. The host
//! counts who has an end. So the pipe ends when the last proxy is gone, whether it was dropped, lay in a message that was
//! thrown away, or belonged to a process that was killed.
//!
//! # Panics
//!
//! A panic can't be unwound in WebAssembly. It ends in a trap, after which the host calls the guest once more
//! ([`resume`]), and the manager goes on from there. The frames of the call that panicked are never continued and never
//! destroyed, as if their thread slept for ever: so nothing that they refer to is touched again. The value that the
//! method had is given up for this reason, even if the object lives on: then it goes on with the copy that was made before
//! the call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic;
use std::rc::Rc;
use std::sync::Arc;

use sandpool_abi::pipe::READABLE;
use sandpool_abi::{Errno, FOREVER, NO_WAIT, WAIT_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{Answer, Call, Encoded, HEAD, Head, MANAGER, ObjectId, encode};
use super::client::{self, Door, DoorEnd, Own};
use super::error::CallError;
use super::proxy::{Managed, Proxy};
use crate::handles::Handles;
use crate::message::{self, Failure};
use crate::object::{Object, Use};
use crate::pipe::RecvError;
use crate::start::Termination;
use crate::{Connection, DecodeError, Error, collections, handles, logging, raw, start};

/// New connections that are accepted in one turn.
const ACCEPTED_AT_ONCE: usize = 16;
/// How long the manager looks at a part of its connections only, if it has more than it can wait for at once.
const PART_NANOS: u64 = 1_000_000;

/// Objects whose tokens are looked at in each turn.
const FEW: usize = 16;
/// In one of this number of turns, all tokens are looked at.
const TOKENS_EACH: u32 = 256;
/// How long the manager waits for the next call before it looks at many tokens.
const BRIEF_NANOS: u64 = 20_000;

/// The arguments that the manager is started with: the inner ends of the door and of the pipe by which its creator ends it, the outer
/// end of the door, the pipe by which it says that it is ready; types with the numbers of their constructors; and the
/// numbers of the initializer's caller and of the initializer, with its arguments.
pub(super) type Startup<I> =
    (Connection, DoorEnd, Connection, Connection, Vec<(u64, u64)>, Option<(u64, u64, I)>);

type Constructor = fn((u32, Call)) -> Answer;

/// The number of a type's constructor.
pub(super) fn constructor<T: Managed>() -> u64 {
    let constructor: Constructor = |(method, call)| T::construct(method, call);
    raw::function::number(constructor)
}

/// The number of the function that calls an initializer of this type.
pub(super) fn initialize<I, R: Termination>() -> u64 {
    let initialize: fn((u64, I)) -> Result<(), String> = |(number, arguments)| {
        let function = raw::function::from_number::<I, R>(number).ok_or("it isn't of this program")?;
        function(arguments).failure().map_or(Ok(()), Err)
    };
    raw::function::number(initialize)
}

thread_local! {
    static SERVER: RefCell<Option<Rc<Server>>> = const { RefCell::new(None) };
    /// The message of the panic that is under way.
    static PANIC: Cell<Option<String>> = const { Cell::new(None) };
}

fn server() -> Option<Rc<Server>> {
    SERVER.with_borrow(Clone::clone)
}

impl<T: Managed> Proxy<T> {
    /// Takes a value into the manager in whose process this is called, and returns a proxy of it.
    ///
    /// # Errors
    /// [`CallError::NotInManager`] in any other process; [`CallError::Process`] if the run has no room for another object.
    pub fn host(value: T) -> Result<Self, CallError> {
        let server = server().filter(|server| server.is_here()).ok_or(CallError::NotInManager)?;
        server.host(value)
    }
}

/// A value, whatever its type.
trait Dispatch {
    fn call(&mut self, method: u32, call: Call) -> Answer;

    fn checkpoint(&self) -> Option<Box<dyn Dispatch>>;
}

impl<T: Managed> Dispatch for T {
    fn call(&mut self, method: u32, call: Call) -> Answer {
        Managed::call(self, method, call)
    }

    fn checkpoint(&self) -> Option<Box<dyn Dispatch>> {
        Managed::checkpoint(self).map(|value| -> Box<dyn Dispatch> { Box::new(value) })
    }
}

/// The value of an object, which a method takes out while it runs.
enum ServerState {
    Idle(Box<dyn Dispatch>),
    Busy,
    Poisoned,
}

struct Hosted {
    of: u64,
    /// Ends when nobody has a proxy any more.
    token: Arc<Object>,
    state: RefCell<ServerState>,
}

/// The object that is called, and the value that it goes on with if the method panics.
type Called = (Rc<Hosted>, Option<Box<dyn Dispatch>>);

/// A call that is being done.
struct Current {
    /// The connection that wants a reply. A value that is being dropped has none.
    caller: Option<Arc<Object>>,
    object: Option<Called>,
}

struct Server {
    process: u64,
    door: Connection,
    door_end: Arc<Object>,
    keep: Connection,
    types: HashMap<u64, Constructor>,
    clients: RefCell<Vec<Arc<Object>>>,
    objects: RefCell<HashMap<ObjectId, Rc<Hosted>>>,
    /// The calls that are being done: each but the first is made by the one before.
    current: RefCell<Vec<Current>>,
    /// Pipes by which the manager calls itself, while none is in use.
    loops: RefCell<Vec<[Arc<Object>; 2]>>,
    /// The first of the handles that the next turn looks at, if there are too many for one.
    from: Cell<usize>,
    turns: Cell<u32>,
}

/// The main function of the manager's process.
pub(super) fn serve<I: Serialize + DeserializeOwned>(startup: Startup<I>) -> i32 {
    match prepare(startup) {
        Ok((server, ready)) => {
            SERVER.set(Some(server.clone()));
            client::set_own(server.clone());
            panic::set_hook(Box::new(report));
            start::resume_by(resume);
            // If the creator is gone, then so is this process soon.
            let _ = ready.try_send(&());
            drop(ready);
            server.run()
        }
        Err(reason) => {
            logging::complain(&format!("error: {reason}"));
            1
        }
    }
}

fn prepare<I>(startup: Startup<I>) -> Result<(Rc<Server>, Connection), String> {
    let (door, DoorEnd(door_end), keep, ready, types, initializer) = startup;
    let constructor =
        |(of, number): (u64, u64)| Some((of, raw::function::from_number::<(u32, Call), Answer>(number)?));
    let types = types.into_iter().map(constructor).collect::<Option<_>>();
    let server = Rc::new(Server {
        process: raw::process::current().map_err(|errno| errno.to_string())?,
        door,
        door_end,
        keep,
        types: types.ok_or("a type isn't of this program")?,
        clients: RefCell::default(),
        objects: RefCell::default(),
        current: RefCell::default(),
        loops: RefCell::default(),
        from: Cell::new(0),
        turns: Cell::new(0),
    });
    if let Some((caller, number, arguments)) = initializer {
        let call = raw::function::from_number::<(u64, I), Result<(), String>>(caller);
        call.ok_or("the initializer isn't of this program")?((number, arguments))?;
    }
    Ok((server, ready))
}

/// The hook for panics. A panic of a method leads to [`resume`].
fn report(info: &panic::PanicHookInfo<'_>) {
    let is_in_call = server().is_some_and(|server| server.is_here() && !server.current.borrow().is_empty());
    if is_in_call {
        raw::mute::end();
        let message = info.payload_as_str().unwrap_or("a value that is no message");
        PANIC.set(Some(match info.location() {
            Some(location) => format!("{message} (at {location})"),
            None => message.to_owned(),
        }));
    } else {
        start::panicked(info);
    }
}

/// Goes on after a method has panicked, or has aborted in another way, and returns the exit code in the end. `None` if this
/// is no manager, or no method was running.
fn resume() -> Option<u8> {
    let server = server().filter(|server| server.is_here())?;
    let calls = server.current.take();
    if calls.is_empty() {
        return None;
    }
    raw::mute::end();
    handles::forget_all();
    collections::shelf::abandon_sections();
    let message = PANIC.take().unwrap_or_else(|| "it has no message".to_owned());
    for call in calls {
        if let Some((object, checkpoint)) = call.object {
            object.state.replace(checkpoint.map_or(ServerState::Poisoned, ServerState::Idle));
        }
        // Those after the first wait in frames that are gone; their pipes go with the first.
        if let Some(caller) = call.caller {
            server.reply(&caller, Err(CallError::Panicked(message.clone())));
        }
    }
    server.loops.take();
    Some(server.run().to_le_bytes()[0])
}

impl Own for Server {
    fn has_door(&self, door: u64) -> bool {
        self.door_end.handle() == door && self.is_here()
    }

    fn serve_one(&self, end: &Arc<Object>) -> bool {
        self.serve_one(end)
    }

    fn loops(&self) -> &RefCell<Vec<[Arc<Object>; 2]>> {
        &self.loops
    }
}

impl Server {
    /// A child that a method has forked has a copy of the manager, which is none.
    fn is_here(&self) -> bool {
        raw::process::current() == Ok(self.process)
    }

    fn run(&self) -> i32 {
        loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break,
                Err(errno) => {
                    logging::complain(&format!("error: the manager can't wait for calls: {errno}"));
                    return 1;
                }
            }
        }
        loop {
            let next = self.objects.borrow().keys().next().copied();
            match next {
                Some(id) => self.remove(id),
                None => return 0,
            }
        }
    }

    /// Waits for something to do, and does it. Returns `false` if the manager is to end.
    fn turn(&self) -> Result<bool, Errno> {
        let clients = self.clients.borrow().clone();
        let mut handles = vec![self.keep.object().handle(), self.door.object().handle()];
        handles.extend(clients.iter().map(|client| client.handle()));
        let turn = self.turns.get();
        self.turns.set(turn.wrapping_add(1));
        // To look at all tokens takes longer than a call, if there are many. So calls that follow each other come first.
        if self.objects.borrow().len() > FEW && handles.len() <= WAIT_MAX && !turn.is_multiple_of(TOKENS_EACH)
        {
            let mut ready = vec![0; handles.len()];
            if raw::handle::wait(&handles, BRIEF_NANOS, &mut ready)? != 0 {
                return Ok(self.work(&clients, &[], &ready));
            }
        }
        let tokens: Vec<_> =
            self.objects.borrow().iter().map(|(id, hosted)| (*id, hosted.token.handle())).collect();
        handles.extend(tokens.iter().map(|(_, token)| *token));
        let mut ready = vec![0; handles.len()];
        self.wait(&handles, &mut ready)?;
        Ok(self.work(&clients, &tokens, &ready))
    }

    /// Does what is to be done at the keep, the door, connections and tokens, in this order. Returns `false` if the manager
    /// is to end.
    fn work(&self, clients: &[Arc<Object>], tokens: &[(ObjectId, u64)], ready: &[u8]) -> bool {
        let mut ready = ready.iter().map(|ready| *ready != 0);
        if ready.next() == Some(true) {
            return false;
        }
        if ready.next() == Some(true) {
            self.accept();
        }
        for client in clients {
            if ready.next() == Some(true) && !self.serve_one(client) {
                self.clients.borrow_mut().retain(|other| !Arc::ptr_eq(other, client));
            }
        }
        for (id, token) in tokens {
            if ready.next() == Some(true) && has_ended(*token) {
                self.remove(*id);
            }
        }
        true
    }

    /// Waits until one of these is ready.
    fn wait(&self, handles: &[u64], ready: &mut [u8]) -> Result<(), Errno> {
        let parts = handles.len().div_ceil(WAIT_MAX);
        if parts <= 1 {
            return raw::handle::wait(handles, FOREVER, ready).map(drop);
        }
        let part = self.from.get() % parts;
        self.from.set(part + 1);
        let places = handles.chunks(WAIT_MAX).zip(ready.chunks_mut(WAIT_MAX)).nth(part);
        places.map_or(Ok(()), |(handles, ready)| raw::handle::wait(handles, PART_NANOS, ready).map(drop))
    }

    /// Accepts new connections. Any other message is thrown away.
    fn accept(&self) {
        for _ in 0..ACCEPTED_AT_ONCE {
            match self.door.try_recv::<Hello>() {
                // Nobody can wait for an end that only sends.
                Ok(Hello(end)) if reads(&end) => self.clients.borrow_mut().push(end),
                Err(RecvError::Empty) => break,
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Does a call of a connection. Returns whether the connection may be used on.
    fn serve_one(&self, client: &Arc<Object>) -> bool {
        let receive = |buffer: &mut [u8]| raw::pipe::recv(client.handle(), buffer, NO_WAIT);
        // The bytes are copied: the buffer would be lost in a panic.
        let request = message::receive(receive, |bytes, handles| (bytes.into_owned(), handles));
        let answer = match request {
            Ok((bytes, handles)) => self.answer(client, bytes, handles),
            Err(Failure::Host(Errno::Again)) => return true,
            Err(Failure::Host(_)) => return false,
            Err(Failure::OutOfMemory) => {
                Err(CallError::Refused("the manager has no memory for the arguments".to_owned()))
            }
        };
        self.reply(client, answer)
    }

    fn answer(&self, client: &Arc<Object>, bytes: Vec<u8>, handles: Handles) -> Result<Encoded, CallError> {
        let (head, _) =
            Head::read(&bytes).ok_or_else(|| CallError::Refused("the request is too short".to_owned()))?;
        let call = Call::new(bytes, HEAD, handles);
        if head.object == MANAGER {
            let constructor = self.types.get(&head.of).ok_or(CallError::NotRegistered)?;
            return self.during(Some(client), None, || constructor((head.method, call)).0);
        }
        let hosted = self.objects.borrow().get(&head.object).filter(|hosted| hosted.of == head.of).cloned();
        let hosted = hosted.ok_or(CallError::NoSuchObject)?;
        let taken = hosted.state.replace(ServerState::Busy);
        let mut value = match taken {
            ServerState::Idle(value) => value,
            ServerState::Busy => return Err(CallError::Reentrant),
            ServerState::Poisoned => {
                hosted.state.replace(ServerState::Poisoned);
                return Err(CallError::Poisoned);
            }
        };
        // The copy is made by the type's own code, which may panic as well.
        let checkpoint = self.during(Some(client), Some((hosted.clone(), None)), || value.checkpoint());
        let answer =
            self.during(Some(client), Some((hosted.clone(), checkpoint)), || value.call(head.method, call).0);
        hosted.state.replace(ServerState::Idle(value));
        answer
    }

    /// Runs code of the program's.
    fn during<R>(&self, caller: Option<&Arc<Object>>, object: Option<Called>, run: impl FnOnce() -> R) -> R {
        self.current.borrow_mut().push(Current { caller: caller.cloned(), object });
        let result = run();
        let ended = self.current.borrow_mut().pop();
        // The copy of the value is dropped by the program's code, too.
        if let Some(Current { object: Some((object, Some(checkpoint))), .. }) = ended {
            self.current.borrow_mut().push(Current { caller: caller.cloned(), object: Some((object, None)) });
            drop(checkpoint);
            self.current.borrow_mut().pop();
        }
        result
    }

    /// Sends a reply. Returns whether the connection may be used on.
    fn reply(&self, client: &Object, answer: Result<Encoded, CallError>) -> bool {
        let send =
            |bytes: &[u8], handles: &[u64]| raw::pipe::send(client.handle(), &[bytes], handles, NO_WAIT);
        let refused = match answer {
            Ok(Encoded { bytes, handles, kept }) => {
                let sent = send(&bytes, &handles);
                drop(kept);
                match sent {
                    Ok(()) => return true,
                    Err(Errno::Pipe) => return false,
                    Err(Errno::Msgsize) => CallError::TooLarge,
                    Err(errno) => CallError::Refused(format!("the result can't be sent: {errno}")),
                }
            }
            Err(error) => error,
        };
        send(&refused.to_reply(), &[]).is_ok()
    }

    /// Removes an object that nobody has a proxy of, and drops its value.
    fn remove(&self, id: ObjectId) {
        let removed = self.objects.borrow_mut().remove(&id);
        if let Some(ServerState::Idle(value)) =
            removed.map(|hosted| hosted.state.replace(ServerState::Poisoned))
        {
            self.during(None, None, || drop(value));
        }
    }

    fn host<T: Managed>(&self, value: T) -> Result<Proxy<T>, CallError> {
        let [token, end] = raw::pipe::create(0, 0)?.map(Object::adopt);
        end.made_as(Use::Managed, 0, self.door_end.handle())?;
        let bytes = raw::random::bytes().ok_or_else(|| CallError::Refused("no random numbers".to_owned()))?;
        let id = ObjectId::from_le_bytes(bytes).max(MANAGER + 1);
        let state = RefCell::new(ServerState::Idle(Box::new(value)));
        let hosted = Rc::new(Hosted { of: T::FINGERPRINT, token, state });
        self.objects.borrow_mut().insert(id, hosted);
        Ok(Proxy::new(Door::from_object(self.door_end.clone()), end, id))
    }
}

fn reads(end: &Object) -> bool {
    raw::pipe::flags(end.handle()).is_ok_and(|flags| flags & READABLE != 0)
}

/// Whether nobody has the other end of a token any more. A message is no token's, and is thrown away.
fn has_ended(token: u64) -> bool {
    let received =
        message::receive(|buffer| raw::pipe::recv(token, buffer, NO_WAIT), |_, handles| drop(handles));
    matches!(received, Err(Failure::Host(Errno::Closed)))
}

/// The message through the door: the manager's end of a new connection.
struct Hello(Arc<Object>);

impl<'de> serde::Deserialize<'de> for Hello {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(&crate::object::Role::CONNECTION, deserializer).map(Self)
    }
}

impl Call {
    /// Takes a value into the manager, and answers with a proxy of it.
    pub fn construct<A, T>(self, make: impl FnOnce(A) -> T) -> Answer
    where
        A: DeserializeOwned,
        T: Managed,
    {
        self.try_construct(|arguments| Ok::<_, ()>(make(arguments)), |made| made.ok())
    }

    /// Takes the value of a function that can fail into the manager, and answers with a proxy of the value, or the error.
    pub fn construct_result<A, T, E>(self, make: impl FnOnce(A) -> Result<T, E>) -> Answer
    where
        A: DeserializeOwned,
        T: Managed,
        E: Serialize,
    {
        self.try_construct(make, |made| made)
    }

    fn try_construct<A, T, E, R>(
        self,
        make: impl FnOnce(A) -> Result<T, E>,
        result: impl FnOnce(Result<Proxy<T>, E>) -> R,
    ) -> Answer
    where
        A: DeserializeOwned,
        T: Managed,
        R: Serialize,
    {
        Answer(self.arguments().and_then(|arguments| {
            let made = match make(arguments) {
                Ok(value) => Ok(Proxy::host(value)?),
                Err(error) => Err(error),
            };
            encode(&result(made))
        }))
    }
}

impl From<DecodeError> for CallError {
    fn from(error: DecodeError) -> Self {
        Error::Decode(error).into()
    }
}
