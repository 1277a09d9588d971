//! The part of pickle that a PyTorch state dict uses, read as data: nothing is imported, called or built.
//!
//! Every value is a node of one list and names others by their place, so that no input makes a deep recursion or a cycle
//! that is followed, and each instruction makes at most one node.
//! # Source
//! Python's `pickletools` for the instructions, `torch.serialization` for what it writes with them.

use super::Kind;

/// Nodes, stack entries and memo entries of one pickle, each.
const MOST: usize = 1 << 20;
/// Dimensions of a tensor.
const MAX_RANK: usize = 8;

/// What the names in a pickle may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// A value; a `usize` is the place of another.
#[derive(Debug, PartialEq)]
pub(super) enum Node {
    None,
    Int(i128),
    Bool(bool),
    Float,
    Text(String),
    Global(Global),
    Sequence(Vec<usize>),
    Dict(Vec<(usize, usize)>),
    Storage { kind: Kind, key: usize },
    Tensor(View),
}

/// Where a tensor lies in a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub kind: Kind,
    /// Node of the storage's key.
    pub key: usize,
    /// Values before the first.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// One pickle, read.
pub(super) struct Pickle {
    pub nodes: Vec<Node>,
    /// Node of the result.
    pub root: usize,
    /// Bytes read.
    pub len: usize,
}

impl Pickle {
    /// The text at a node.
    pub fn text(&self, node: usize) -> Option<&str> {
        match &self.nodes[node] {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads the pickle that `bytes` start with.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, String> {
    let mut reader = Reader {
        bytes,
        at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
    };
    let root = reader.run()?;
    Ok(Pickle {
        nodes: reader.nodes,
        root,
        len: reader.at,
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    stack: Vec<usize>,
    /// Lengths of the stack where marks stand.
    marks: Vec<usize>,
    memo: Vec<Option<usize>>,
}

impl Reader<'_> {
    #[expect(clippy::too_many_lines, reason = "one arm for each instruction")]
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let at = self.at;
            match self.take::<1>()?[0] {
                0x80 => match self.take::<1>()?[0] {
                    2 => {}
                    other => {
                        return Err(format!(
                            "pickle protocol {other}, expected 2, which torch.save writes unless told otherwise; save it again"
                        ));
                    }
                },
                b'}' => self.new_value(Node::Dict(Vec::new()))?,
                b']' | b')' => self.new_value(Node::Sequence(Vec::new()))?,
                b'(' => {
                    if self.marks.len() == MOST {
                        return Err(format!("more than {MOST} pickle marks"));
                    }
                    self.marks.push(self.stack.len());
                }
                b'N' => self.new_value(Node::None)?,
                0x88 => self.new_value(Node::Bool(true))?,
                0x89 => self.new_value(Node::Bool(false))?,
                b'J' => {
                    let value = i32::from_le_bytes(self.take()?);
                    self.new_value(Node::Int(value.into()))?;
                }
                b'K' => {
                    let value = self.take::<1>()?[0];
                    self.new_value(Node::Int(value.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.take()?);
                    self.new_value(Node::Int(value.into()))?;
                }
                0x8a => self.long()?,
                b'G' => {
                    self.take::<8>()?;
                    self.new_value(Node::Float)?;
                }
                b'X' => {
                    let len = u32::from_le_bytes(self.take()?) as usize;
                    self.text(len)?;
                }
                b'U' => {
                    let len = self.take::<1>()?[0].into();
                    self.text(len)?;
                }
                b'q' => {
                    let place = self.take::<1>()?[0].into();
                    self.put(place)?;
                }
                b'r' => {
                    let place = u32::from_le_bytes(self.take()?) as usize;
                    self.put(place)?;
                }
                b'h' => {
                    let place = self.take::<1>()?[0].into();
                    self.get(place)?;
                }
                b'j' => {
                    let place = u32::from_le_bytes(self.take()?) as usize;
                    self.get(place)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    let global = global(&module, &name)?;
                    self.new_value(Node::Global(global))?;
                }
                b't' => {
                    let values = self.since_mark()?;
                    self.new_value(Node::Sequence(values))?;
                }
                code @ 0x85..=0x87 => {
                    let mut values = Vec::new();
                    for _ in 0x85..=code {
                        values.push(self.pop()?);
                    }
                    values.reverse();
                    self.new_value(Node::Sequence(values))?;
                }
                b'a' => {
                    let value = self.pop()?;
                    self.extend(vec![value])?;
                }
                b'e' => {
                    let values = self.since_mark()?;
                    self.extend(values)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.set(&[key, value])?;
                }
                b'u' => {
                    let values = self.since_mark()?;
                    self.set(&values)?;
                }
                // The state of an ordered dict is its `_metadata`, versions of modules.
                b'b' => {
                    self.pop()?;
                    let dict = self.top()?;
                    if !matches!(self.nodes[dict], Node::Dict(_)) {
                        return Err("state for what is no dict".to_owned());
                    }
                }
                b'Q' => self.storage()?,
                b'R' => self.reduce()?,
                b'.' => return self.pop(),
                other => {
                    return Err(format!(
                        "pickle instruction {other:#04x} at byte {at}, which no state dict has"
                    ));
                }
            }
        }
    }

    fn slice(&mut self, len: usize) -> Result<&[u8], String> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        let end = end.ok_or_else(|| format!("pickle ends early, at byte {}", self.bytes.len()))?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&self.bytes[start..end])
    }

    fn take<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], String> {
        let mut bytes = [0; SIZE];
        bytes.copy_from_slice(self.slice(SIZE)?);
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().take(256).position(|&byte| byte == b'\n');
        let len = len.ok_or("a pickle name without end")?;
        let line = String::from_utf8_lossy(self.slice(len)?).into_owned();
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        let text = std::str::from_utf8(self.slice(len)?).map_err(|error| error.to_string())?;
        let text = Node::Text(text.to_owned());
        self.new_value(text)
    }

    fn long(&mut self) -> Result<(), String> {
        let len = self.take::<1>()?[0].into();
        let bytes = self.slice(len)?;
        if len > 16 {
            return Err(format!("an integer of {len} bytes, expected at most 16"));
        }
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut full = [if negative { 0xff } else { 0 }; 16];
        full[..len].copy_from_slice(bytes);
        self.new_value(Node::Int(i128::from_le_bytes(full)))
    }

    fn new_value(&mut self, node: Node) -> Result<(), String> {
        if self.nodes.len() == MOST {
            return Err(format!("more than {MOST} pickled values"));
        }
        self.nodes.push(node);
        self.push(self.nodes.len() - 1)
    }

    fn push(&mut self, node: usize) -> Result<(), String> {
        if self.stack.len() == MOST {
            return Err(format!("a pickle stack of more than {MOST}"));
        }
        self.stack.push(node);
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, String> {
        let node = self.top()?;
        self.stack.pop();
        Ok(node)
    }

    /// The last value above the last mark.
    fn top(&self) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..]
            .last()
            .copied()
            .ok_or_else(|| "an empty pickle stack".to_owned())
    }

    fn since_mark(&mut self) -> Result<Vec<usize>, String> {
        let mark = self
            .marks
            .pop()
            .ok_or("a pickle without the mark it needs")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, place: usize) -> Result<(), String> {
        if place >= MOST {
            return Err(format!("memo entry {place}, expected at most {MOST}"));
        }
        if place >= self.memo.len() {
            self.memo.resize(place + 1, None);
        }
        self.memo[place] = Some(self.top()?);
        Ok(())
    }

    fn get(&mut self, place: usize) -> Result<(), String> {
        let node = self.memo.get(place).copied().flatten();
        self.push(node.ok_or_else(|| format!("memo entry {place} is not set"))?)
    }

    fn extend(&mut self, values: Vec<usize>) -> Result<(), String> {
        let list = self.top()?;
        let Node::Sequence(list) = &mut self.nodes[list] else {
            return Err("append to what is no list".to_owned());
        };
        list.extend(values);
        Ok(())
    }

    fn set(&mut self, values: &[usize]) -> Result<(), String> {
        let dict = self.top()?;
        let (Node::Dict(dict), (pairs, [])) = (&mut self.nodes[dict], values.as_chunks::<2>())
        else {
            return Err("set items of what is no dict".to_owned());
        };
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    /// `("storage", type, key, device, values)` and, in old files, the part of another storage that it is.
    fn storage(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let id = self.sequence(id)?;
        let [tag, kind, key, _, _, view @ ..] = id else {
            return Err("a storage of too few parts".to_owned());
        };
        let (Node::Text(tag), &Node::Global(Global::Storage(kind)), Node::Text(_)) =
            (&self.nodes[*tag], &self.nodes[*kind], &self.nodes[*key])
        else {
            return Err("a reference to what is no storage".to_owned());
        };
        if tag != "storage" || view.iter().any(|&view| self.nodes[view] != Node::None) {
            return Err("a storage that is part of another".to_owned());
        }
        let storage = Node::Storage { kind, key: *key };
        self.new_value(storage)
    }

    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, call) = (self.pop()?, self.pop()?);
        let arguments = self.sequence(arguments)?;
        match (&self.nodes[call], arguments) {
            (Node::Global(Global::OrderedDict), []) => self.new_value(Node::Dict(Vec::new())),
            (Node::Global(Global::RebuildParameter), &[data, ..])
                if matches!(self.nodes[data], Node::Tensor(_)) =>
            {
                self.push(data)
            }
            (Node::Global(Global::RebuildTensor), &[storage, offset, shape, strides, ..]) => {
                let &Node::Storage { kind, key } = &self.nodes[storage] else {
                    return Err("a tensor without a storage".to_owned());
                };
                let view = View {
                    kind,
                    key,
                    offset: self.size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.new_value(Node::Tensor(view))
            }
            (call, _) => Err(format!(
                "a call of {call:?} with arguments it does not take"
            )),
        }
    }

    fn sequence(&self, node: usize) -> Result<&[usize], String> {
        match &self.nodes[node] {
            Node::Sequence(values) => Ok(values),
            _ => Err("expected a pickled tuple".to_owned()),
        }
    }

    fn size(&self, node: usize) -> Result<usize, String> {
        match &self.nodes[node] {
            &Node::Int(size) => usize::try_from(size).map_err(|_| format!("a size of {size}")),
            _ => Err("a size that is no integer".to_owned()),
        }
    }

    fn sizes(&self, node: usize) -> Result<Vec<usize>, String> {
        let sizes = self.sequence(node)?;
        if sizes.len() > MAX_RANK {
            return Err(format!(
                "{} dimensions, expected at most {MAX_RANK}",
                sizes.len()
            ));
        }
        sizes.iter().map(|&size| self.size(size)).collect()
    }
}

fn global(module: &str, name: &str) -> Result<Global, String> {
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "DoubleStorage") => Global::Storage(Kind::F64),
        ("torch", "FloatStorage") => Global::Storage(Kind::F32),
        ("torch", "HalfStorage") => Global::Storage(Kind::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Kind::Bf16),
        ("torch", "LongStorage") => Global::Storage(Kind::I64),
        ("torch", "IntStorage") => Global::Storage(Kind::I32),
        ("torch", "ByteStorage" | "CharStorage") => Global::Storage(Kind::U8),
        ("torch", "BoolStorage") => Global::Storage(Kind::Bool),
        _ => {
            return Err(format!(
                "the pickle asks for {module}.{name}, which is not run; save the state dict as safetensors"
            ));
        }
    })
}
