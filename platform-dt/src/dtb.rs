//! A device tree blob that was checked from end to end.

use xen_types::{Hpa, HpaRange};

use crate::TreeError;
use crate::address::MAX_CELLS;
use crate::error::{Path, Word};
use crate::header::{self, Blocks};
use crate::nearest::Suggestions;
use crate::node::{MAX_DEPTH, Node};
use crate::property::Property;
use crate::token::{Malformed, Structure, Token, Tokens};

/// A validated device tree blob: its structure is whole, its nodes are at most 15 deep, and the
/// properties on which reading itself depends have the form that the specification gives them.
#[derive(Clone, Copy)]
pub struct Dtb<'a> {
    blocks: Blocks<'a>,
    root: Node<'a>,
}

impl<'a> Dtb<'a> {
    /// Bytes of a header, which [`Dtb::total_size`] needs.
    pub const HEADER_SIZE: usize = header::HEADER_SIZE;
    /// The largest blob that is accepted, that of the arm64 boot protocol.
    pub const MAX_SIZE: usize = header::MAX_SIZE;

    /// The size of a blob in bytes, from its first 40: what must be readable for
    /// [`Dtb::parse`]. At most [`Dtb::MAX_SIZE`].
    pub fn total_size(header: &[u8]) -> Result<usize, TreeError> {
        header::total_size(header)
    }

    /// Validates `blob`; bytes that follow it are ignored. Needs no heap and no recursion.
    pub fn parse(blob: &'a [u8]) -> Result<Self, TreeError> {
        let blocks = Blocks::read(blob)?;
        let structure = Structure {
            tokens: blocks.structure,
            strings: blocks.strings,
        };
        validate(structure)?;
        let root = Node::root_of(structure).ok_or(TreeError::NoNode { what: "root node" })?;
        Ok(Self { blocks, root })
    }

    /// The bytes of the blob.
    pub fn blob(&self) -> &'a [u8] {
        self.blocks.blob
    }

    /// The root node.
    pub fn root(&self) -> Node<'a> {
        self.root
    }

    /// All nodes, each before its children.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'a>> {
        self.root.descendants()
    }

    /// The node at an absolute path. A part without a unit address also means the first node of
    /// that name that has one.
    pub fn node(&self, path: &str) -> Option<Node<'a>> {
        let parts = path.strip_prefix('/')?.split('/');
        parts
            .filter(|part| !part.is_empty())
            .try_fold(self.root, Node::child)
    }

    /// The node that `name` means: an absolute path, an alias, or an alias followed by a path
    /// below it. `place` says in the error where the name was written.
    pub fn resolve(&self, place: &str, name: &str) -> Result<Node<'a>, TreeError> {
        if name.starts_with('/') {
            return self
                .node(name)
                .ok_or_else(|| self.unknown_path(place, name));
        }
        let (alias, below) = name.split_once('/').unwrap_or((name, ""));
        let aliases = self.node("/aliases");
        let target = aliases
            .and_then(|aliases| aliases.property(alias))
            .and_then(Property::string)
            .and_then(|path| self.node(path));
        let names = aliases.into_iter().flat_map(Node::properties);
        let start = target.ok_or_else(|| TreeError::Unknown {
            place: Path::new(place),
            name: Path::new(alias),
            suggestions: Suggestions::new(alias, names.map(|property| property.name)),
        })?;
        below
            .split('/')
            .filter(|part| !part.is_empty())
            .try_fold(start, Node::child)
            .ok_or_else(|| self.unknown_path(place, name))
    }

    /// The error for a path that ends nowhere: it suggests names for the first part that is wrong.
    fn unknown_path(&self, place: &str, path: &str) -> TreeError {
        let mut last = self.root;
        let mut wrong = "";
        for part in path.split('/').filter(|part| !part.is_empty()) {
            match last.child(part) {
                Some(child) => last = child,
                None => {
                    wrong = part;
                    break;
                }
            }
        }
        TreeError::Unknown {
            place: Path::new(place),
            name: Path::new(path),
            suggestions: Suggestions::new(wrong, last.children().map(Node::name)),
        }
    }

    /// The entries of the memory reservation block (DTSpec 5.3) that are ranges.
    pub(crate) fn reservations(&self) -> impl Iterator<Item = HpaRange> + use<'a> {
        let (words, _) = self.blocks.reservations.as_chunks::<8>();
        let (entries, _) = words.as_chunks::<2>();
        entries.iter().filter_map(|&[address, size]| {
            let address = Hpa::new(u64::from_be_bytes(address));
            HpaRange::new(address, u64::from_be_bytes(size))
        })
    }

    /// The entries of the memory reservation block as they are: address and size.
    pub(crate) fn raw_reservations(&self) -> impl Iterator<Item = (u64, u64)> + use<'a> {
        let (words, _) = self.blocks.reservations.as_chunks::<8>();
        let (entries, _) = words.as_chunks::<2>();
        entries
            .iter()
            .map(|&[address, size]| (u64::from_be_bytes(address), u64::from_be_bytes(size)))
    }
}

/// Reads every token once: that they make one tree, not too deep, and that each property which
/// reading depends on is well-formed.
fn validate(structure: Structure<'_>) -> Result<(), TreeError> {
    let mut tokens = Tokens::from(structure, 0);
    let mut state = State {
        structure,
        last: None,
        depth: 0,
        properties_may_follow: false,
    };
    loop {
        let offset = tokens.offset();
        let token = tokens.take().map_err(|fault| state.malformed(fault))?;
        match token {
            Token::Begin { name, offset } => state.begin(name, offset)?,
            Token::Property(property) => state.property(property, offset)?,
            Token::End => state.end(offset)?,
            Token::EndOfTree if state.is_complete() => return Ok(()),
            Token::EndOfTree => return Err(state.fault(offset, "the tree ends inside a node")),
        }
    }
}

/// How far validation has come.
struct State<'a> {
    structure: Structure<'a>,
    /// The node that began last.
    last: Option<Node<'a>>,
    depth: usize,
    /// Whether no node began or ended since `last` began.
    properties_may_follow: bool,
}

impl<'a> State<'a> {
    fn begin(&mut self, name: &str, offset: usize) -> Result<(), TreeError> {
        let is_root = self.depth == 0;
        if is_root && self.last.is_some() {
            return Err(self.fault(offset, "a second root"));
        }
        if is_root != name.is_empty() {
            return Err(self.fault(offset, "the root must have no name and all others one"));
        }
        if self.depth == MAX_DEPTH {
            return Err(TreeError::TooDeep { node: self.path() });
        }
        self.depth += 1;
        self.last = Some(Node::at(self.structure, offset));
        self.properties_may_follow = true;
        Ok(())
    }

    fn property(&self, property: Property<'a>, offset: usize) -> Result<(), TreeError> {
        match self.last {
            Some(node) if self.properties_may_follow => lint(node, property),
            _ => Err(self.fault(offset, "a property outside a node or after a child")),
        }
    }

    fn end(&mut self, offset: usize) -> Result<(), TreeError> {
        let outside = || self.fault(offset, "a node ends that did not begin");
        self.depth = self.depth.checked_sub(1).ok_or_else(outside)?;
        self.properties_may_follow = false;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.depth == 0 && self.last.is_some()
    }

    fn malformed(&self, Malformed { offset, fault }: Malformed) -> TreeError {
        self.fault(offset, fault)
    }

    fn fault(&self, offset: usize, fault: &'static str) -> TreeError {
        TreeError::Structure {
            node: self.path(),
            offset,
            fault,
        }
    }

    fn path(&self) -> Path {
        match self.last {
            Some(node) => Path::new(node),
            None => Path::new("the header"),
        }
    }
}

/// Whether a property of a standard name has the standard's form (DTSpec 2.3, 2.4).
fn lint<'a>(node: Node<'a>, property: Property<'a>) -> Result<(), TreeError> {
    let name = property.name;
    match name {
        "#address-cells" | "#size-cells" | "#interrupt-cells" => match property.u32() {
            None => Err(node.malformed(name, "4 bytes long")),
            Some(count) if count > MAX_CELLS => Err(TreeError::Value {
                node: Path::new(node),
                property: Word::new(name),
                value: count.into(),
                expected: "at most 4",
            }),
            Some(_) => Ok(()),
        },
        "phandle" | "linux,phandle" | "interrupt-parent" if property.u32().is_none() => {
            Err(node.malformed(name, "4 bytes long"))
        }
        "compatible" | "model" | "status" | "device_type" if !property.is_string_list() => {
            Err(node.malformed(name, "text in UTF-8 that ends in a NUL"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
