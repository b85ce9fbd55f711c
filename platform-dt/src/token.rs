//! The structure block as a sequence of tokens (DTSpec 5.4.1).
//!
//! Reading never fails on bytes outside the block: whatever is not a whole, well-formed token is
//! a [`Malformed`].

use crate::header::big_endian;
use crate::property::Property;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
const TOKEN_SIZE: usize = 4;

/// The two blocks that describe the nodes.
#[derive(Clone, Copy)]
pub(crate) struct Structure<'a> {
    pub tokens: &'a [u8],
    pub strings: &'a [u8],
}

/// A piece of the structure block; NOPs are passed over.
#[derive(Clone, Copy)]
pub(crate) enum Token<'a> {
    /// A node of this name begins; its token is at this offset of the block.
    Begin { name: &'a str, offset: usize },
    /// A property of the node that began last.
    Property(Property<'a>),
    /// The innermost open node ends.
    End,
    /// Nothing follows.
    EndOfTree,
}

/// What [`Tokens::step`] passes over.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// A node begins at this offset of the block.
    Begin(usize),
    /// A property: where its name is in the strings block, and its value.
    Property { name: usize, value: &'a [u8] },
    /// The innermost open node ends.
    End,
    /// Nothing follows.
    EndOfTree,
}

/// What is wrong, and where in the structure block.
#[derive(Clone, Copy)]
pub(crate) struct Malformed {
    pub offset: usize,
    pub fault: &'static str,
}

/// A place in the structure block, from which tokens are taken.
#[derive(Clone)]
pub(crate) struct Tokens<'a> {
    structure: Structure<'a>,
    offset: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens from `offset`, which must be a multiple of 4.
    pub(crate) fn from(structure: Structure<'a>, offset: usize) -> Self {
        Self { structure, offset }
    }

    /// Where the next token is, or the NOPs before it.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Takes the next token.
    pub(crate) fn take(&mut self) -> Result<Token<'a>, Malformed> {
        loop {
            let offset = self.offset;
            match self.word()? {
                BEGIN_NODE => {
                    let name = self.name()?;
                    return Ok(Token::Begin { name, offset });
                }
                END_NODE => return Ok(Token::End),
                PROPERTY => return self.property().map(Token::Property),
                NOP => {}
                END => return Ok(Token::EndOfTree),
                _ => return Err(malformed(offset, "unknown token")),
            }
        }
    }

    /// Passes over the next token, whose names are not looked at: they were when the tree was
    /// validated.
    pub(crate) fn step(&mut self) -> Result<Step<'a>, Malformed> {
        loop {
            let offset = self.offset;
            match self.word()? {
                BEGIN_NODE => {
                    let rest = self.structure.tokens.get(self.offset..).unwrap_or(&[]);
                    let length = rest.iter().position(|&byte| byte == 0);
                    let length = length.ok_or(malformed(offset, "a node's name is malformed"))?;
                    self.bytes(length + 1)?;
                    return Ok(Step::Begin(offset));
                }
                END_NODE => return Ok(Step::End),
                PROPERTY => {
                    let length = self.word()? as usize;
                    let name = self.word()? as usize;
                    let value = self.bytes(length)?;
                    return Ok(Step::Property { name, value });
                }
                NOP => {}
                END => return Ok(Step::EndOfTree),
                _ => return Err(malformed(offset, "unknown token")),
            }
        }
    }

    fn word(&mut self) -> Result<u32, Malformed> {
        let word = big_endian(self.structure.tokens, self.offset)
            .ok_or(malformed(self.offset, "the block ends too early"))?;
        self.offset += TOKEN_SIZE;
        Ok(word)
    }

    /// The next `length` bytes and the padding that follows them.
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let rest = self.structure.tokens.get(self.offset..).unwrap_or(&[]);
        let bytes = rest
            .get(..length)
            .ok_or(malformed(self.offset, "a value reaches beyond the block"))?;
        self.offset += length.next_multiple_of(TOKEN_SIZE);
        Ok(bytes)
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let rest = self.structure.tokens.get(self.offset..).unwrap_or(&[]);
        let name = name(rest).ok_or(malformed(self.offset, "a node's name is malformed"))?;
        self.bytes(name.len() + 1)?;
        Ok(name)
    }

    fn property(&mut self) -> Result<Property<'a>, Malformed> {
        let offset = self.offset;
        let length = self.word()? as usize;
        let name_offset = self.word()? as usize;
        let value = self.bytes(length)?;
        self.named(name_offset, value)
            .ok_or(malformed(offset, "a property's name is malformed"))
    }

    /// The property with this value whose name is at `offset` of the strings block.
    pub(crate) fn named(&self, offset: usize, value: &'a [u8]) -> Option<Property<'a>> {
        let strings = self.structure.strings.get(offset..)?;
        let name = name(strings).filter(|name| !name.is_empty())?;
        Some(Property { name, value })
    }
}

/// Whether the string at `offset` of the strings block is `name`.
pub(crate) fn is_named(strings: &[u8], offset: usize, name: &str) -> bool {
    let found = strings.get(offset..).unwrap_or(&[]);
    found
        .strip_prefix(name.as_bytes())
        .is_some_and(|rest| rest.first() == Some(&0))
}

fn malformed(offset: usize, fault: &'static str) -> Malformed {
    Malformed { offset, fault }
}

/// The NUL-terminated name that `bytes` begin with, if it can be part of a path: printable ASCII
/// without a slash. The lengths and letters of DTSpec 2.2.1 are not demanded: half of the trees in
/// use have longer names.
fn name(bytes: &[u8]) -> Option<&str> {
    let length = bytes.iter().position(|&byte| byte == 0)?;
    let name = bytes.get(..length)?;
    let valid = |byte: &u8| byte.is_ascii_graphic() && *byte != b'/';
    if !name.iter().all(valid) {
        return None;
    }
    core::str::from_utf8(name).ok()
}
