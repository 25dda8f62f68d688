//! The machine that a pickle is a program for: a stack, and a memo of what may be needed again. It has only the instructions that
//! make plain data.
//!
//! Values are nodes, which have each other by number, since a list that lies in the memo gets its items later, and may get
//! itself. Each instruction makes one node at most, so there are no more than the pickle has bytes.
//!
//! The instructions are those of `pickletools` of Python's library.

use std::collections::BTreeMap;

use super::Failure;

/// The most characters of a name that an error shows.
const SHOWN: usize = 100;

/// The number of a node.
pub(super) type Id = u32;

/// A value whose parts are nodes.
#[derive(Debug)]
pub(super) enum Node<'a> {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Set(Vec<Id>),
    /// Keys and values in turns.
    Dict(Vec<Id>),
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    nodes: Vec<Node<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn node(&self, id: Id) -> Result<&Node<'a>, Failure> {
        self.nodes.get(id as usize).ok_or_else(|| Failure::new("it is malformed"))
    }
}

/// Runs a pickle.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, Failure> {
    let mut machine = Machine {
        rest: bytes,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
    };
    loop {
        if let Some(root) = machine.step()? {
            if !machine.rest.is_empty() {
                return Err(Failure::new(format!("{} bytes follow its end", machine.rest.len())));
            }
            return Ok(Pickle { nodes: machine.nodes, root });
        }
    }
}

struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Carries out an instruction. The last one returns the value.
    fn step(&mut self) -> Result<Option<Id>, Failure> {
        let [opcode] = self.array()?;
        match opcode {
            // PROTO
            0x80 => {
                let [version] = self.array()?;
                if version > 5 {
                    return Err(Failure::new(format!(
                        "it is of protocol {version}, and 5 is the last known one"
                    )));
                }
            }
            // FRAME
            0x95 => _ = self.array::<8>()?,
            // STOP
            b'.' => return self.pop().map(Some),
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' | b'M' | b'J' | 0x8a | 0x8b | b'G' => self.number(opcode)?,
            b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 => self.text(opcode)?,
            b']' => self.push(Node::List(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            0x8f => self.push(Node::Set(Vec::new()))?,
            b't' | b'l' | b'd' | 0x91 | 0x85..=0x87 => self.collection(opcode)?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.extend(opcode)?,
            b'(' => {
                self.marks.try_reserve(1).map_err(|_| Failure::no_memory())?;
                self.marks.push(self.stack.len());
            }
            // POP, of a mark as well
            b'0' if self.marks.last() == Some(&self.stack.len()) => _ = self.marks.pop(),
            b'0' => _ = self.pop()?,
            // POP_MARK
            b'1' => _ = self.pop_mark()?,
            // DUP
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.remember(opcode)?,
            b'c' | 0x93 | b'R' | b'b' | 0x81 | 0x92 | b'i' | b'o' | 0x82..=0x84 => {
                return Err(self.object(opcode));
            }
            b'P' | b'Q' => return Err(Failure::new("it refers to an object outside of it")),
            0x97 | 0x98 => return Err(Failure::new("it has buffers outside of it")),
            b'I' | b'L' | b'F' | b'S' | b'U' | b'T' | b'V' | b'g' | b'p' => {
                return Err(Failure::new("it is of protocol 0 or 1, or of Python 2"));
            }
            other => {
                return Err(Failure::new(format!("it is no pickle: it has no instruction {other:#04x}")));
            }
        }
        Ok(None)
    }

    fn number(&mut self, opcode: u8) -> Result<(), Failure> {
        let node = match opcode {
            b'K' => Node::Int(u8::from_le_bytes(self.array()?).into()),
            b'M' => Node::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Node::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => Node::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let [len] = self.array()?;
                self.long(u64::from(len))?
            }
            _ => {
                let len = u32::from_le_bytes(self.array()?);
                self.long(u64::from(len))?
            }
        };
        self.push(node)
    }

    /// An integer of this number of bytes.
    fn long(&mut self, len: u64) -> Result<Node<'a>, Failure> {
        let digits = self.take(len)?;
        let sign = if digits.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
        let mut bytes = [sign; 16];
        let Some(room) = bytes.get_mut(..digits.len()) else {
            return Err(Failure::new("it has an integer of more than 128 bits"));
        };
        room.copy_from_slice(digits);
        Ok(Node::Int(i128::from_le_bytes(bytes)))
    }

    fn text(&mut self, opcode: u8) -> Result<(), Failure> {
        let len = match opcode {
            0x8c | b'C' => u64::from(u8::from_le_bytes(self.array()?)),
            b'X' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        let bytes = self.take(len)?;
        self.push(match opcode {
            b'X' | 0x8c | 0x8d => Node::Str(
                std::str::from_utf8(bytes).map_err(|_| Failure::new("it has a text that isn't UTF-8"))?,
            ),
            _ => Node::Bytes(bytes),
        })
    }

    /// Makes a collection of what lies on the stack.
    fn collection(&mut self, opcode: u8) -> Result<(), Failure> {
        let node = match opcode {
            b't' => Node::Tuple(self.pop_mark()?),
            b'l' => Node::List(self.pop_mark()?),
            0x91 => Node::Set(self.pop_mark()?),
            b'd' => Node::Dict(pairs(self.pop_mark()?)?),
            // TUPLE1 to TUPLE3
            _ => {
                let mut items = Vec::new();
                items.try_reserve(3).map_err(|_| Failure::no_memory())?;
                for _ in 0x85..=opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                Node::Tuple(items)
            }
        };
        self.push(node)
    }

    /// Adds what lies on the stack to the collection below.
    fn extend(&mut self, opcode: u8) -> Result<(), Failure> {
        let items = match opcode {
            b'a' => vec![self.pop()?],
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            b'u' => pairs(self.pop_mark()?)?,
            _ => self.pop_mark()?,
        };
        let to = self.top()?;
        let all = match (self.nodes.get_mut(to as usize), opcode) {
            (Some(Node::List(all)), b'a' | b'e') => all,
            (Some(Node::Dict(all)), b's' | b'u') => all,
            (Some(Node::Set(all)), 0x90) => all,
            _ => return Err(Failure::new("it is malformed: it adds to something that isn't of the kind")),
        };
        all.try_reserve(items.len()).map_err(|_| Failure::no_memory())?;
        all.extend(items);
        Ok(())
    }

    /// Writes to the memo, or reads it.
    fn remember(&mut self, opcode: u8) -> Result<(), Failure> {
        let at = match opcode {
            b'h' | b'q' => u32::from(u8::from_le_bytes(self.array()?)),
            b'j' | b'r' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| Failure::no_memory())?,
        };
        if matches!(opcode, b'h' | b'j') {
            let id = self.memo.get(&at).copied();
            return self.push_id(id.ok_or_else(|| Failure::new("it is malformed: its memo lacks an entry"))?);
        }
        self.memo.insert(at, self.top()?);
        Ok(())
    }

    /// The error of an instruction that makes an object, or calls something.
    #[cold]
    fn object(&mut self, opcode: u8) -> Failure {
        let name = match opcode {
            // GLOBAL: two lines
            b'c' => {
                let start = self.rest.get(..self.rest.len().min(2 * SHOWN)).unwrap_or_default();
                let mut lines =
                    start.split(|byte| *byte == b'\n').map(|line| String::from_utf8_lossy(line).into_owned());
                Some((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
            }
            0x93 => {
                let mut text = || match self.pop().ok().and_then(|id| self.nodes.get(id as usize)) {
                    Some(Node::Str(text)) => Some(text.chars().take(SHOWN).collect()),
                    _ => None,
                };
                text().and_then(|name| Some((text()?, name)))
            }
            _ => None,
        };
        match name {
            Some((module, name)) => {
                let shown: String = format!("{module}.{name}").chars().take(SHOWN).collect();
                Failure::new(format!("it has `{}` in it, and only plain data is read", shown.escape_debug()))
            }
            None => Failure::new("it has an object in it, and only plain data is read"),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], Failure> {
        let parts = usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len));
        let (taken, rest) = parts.ok_or_else(|| Failure::new("it ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Failure> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| Failure::new("it ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), Failure> {
        let id = Id::try_from(self.nodes.len()).map_err(|_| Failure::no_memory())?;
        self.nodes.try_reserve(1).map_err(|_| Failure::no_memory())?;
        self.nodes.push(node);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<(), Failure> {
        self.stack.try_reserve(1).map_err(|_| Failure::no_memory())?;
        self.stack.push(id);
        Ok(())
    }

    /// Whether the stack has nothing above the last mark: no instruction sees what lies below.
    fn is_empty(&self) -> bool {
        self.stack.len() <= self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, Failure> {
        let top = self.stack.last().copied().filter(|_| !self.is_empty());
        top.ok_or_else(|| Failure::new("it is malformed: its stack is empty"))
    }

    fn pop(&mut self) -> Result<Id, Failure> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, Failure> {
        let height = self.marks.pop().filter(|height| *height <= self.stack.len());
        let height = height.ok_or_else(|| Failure::new("it is malformed: it lacks a mark"))?;
        let mut items = Vec::new();
        items.try_reserve_exact(self.stack.len() - height).map_err(|_| Failure::no_memory())?;
        items.extend(self.stack.drain(height..));
        Ok(items)
    }
}

/// Keys and values in turns.
fn pairs(items: Vec<Id>) -> Result<Vec<Id>, Failure> {
    match items.len() % 2 {
        0 => Ok(items),
        _ => Err(Failure::new("it is malformed: a key has no value")),
    }
}
