//! Nodes of a validated tree, their properties, children and ancestors.

use core::{fmt, iter};

use arrayvec::ArrayVec;

use crate::address::CellSizes;
use crate::property::Property;
use crate::token::{Step, Structure, Token, Tokens, is_named};

/// How many nodes may be nested in each other, the root included. Later readers of a re-encoded
/// tree recurse, about 1 KiB of stack a level.
pub(crate) const MAX_DEPTH: usize = 15;

/// A node of a validated tree. It displays as its path.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    structure: Structure<'a>,
    /// Where its first token is.
    begin: usize,
    /// How its parent counts addresses and sizes.
    bus: CellSizes,
}

/// Whether a device can be used (DTSpec 2.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// It is operational; so is a node without a `status`.
    Okay,
    /// It is not operational now, but might become so.
    Disabled,
    /// It is operational, but belongs to another component, such as firmware.
    Reserved,
    /// It does not work.
    Fail,
    /// The specification has no such word.
    Unknown,
}

impl<'a> Node<'a> {
    /// The first node of `structure`, if it has one.
    pub(crate) fn root_of(structure: Structure<'a>) -> Option<Self> {
        match Tokens::from(structure, 0).take().ok()? {
            Token::Begin { offset, .. } => Some(Self::at(structure, offset)),
            _ => None,
        }
    }

    /// The node whose first token is at `begin`, on a bus with the default cells.
    pub(crate) fn at(structure: Structure<'a>, begin: usize) -> Self {
        Self {
            structure,
            begin,
            bus: CellSizes::default(),
        }
    }

    /// The node's name with its unit address, such as `cpu@100`; empty for the root.
    pub fn name(self) -> &'a str {
        match Tokens::from(self.structure, self.begin).take() {
            Ok(Token::Begin { name, .. }) => name,
            _ => "",
        }
    }

    /// How the addresses in this node's own `reg` are written.
    pub fn bus(self) -> CellSizes {
        self.bus
    }

    /// The same node with its `reg` read as on `bus`.
    pub(crate) fn on_bus(self, bus: CellSizes) -> Self {
        Self { bus, ..self }
    }

    /// What follows the node's name.
    fn body(self) -> Tokens<'a> {
        let mut tokens = Tokens::from(self.structure, self.begin);
        // The node's own first token; what follows is read with errors seen.
        let _ = tokens.step();
        tokens
    }

    /// The node's properties, in order.
    pub fn properties(self) -> impl Iterator<Item = Property<'a>> {
        let mut tokens = self.body();
        iter::from_fn(move || match tokens.take() {
            Ok(Token::Property(property)) => Some(property),
            _ => None,
        })
        .fuse()
    }

    /// The first property of that name.
    pub fn property(self, name: &str) -> Option<Property<'a>> {
        let mut tokens = self.body();
        while let Ok(Step::Property { name: at, value }) = tokens.step() {
            if is_named(self.structure.strings, at, name) {
                return tokens.named(at, value);
            }
        }
        None
    }

    /// The nodes directly below, in order.
    pub fn children(self) -> impl Iterator<Item = Node<'a>> {
        let bus = self.cell_sizes();
        let mut tokens = self.body();
        let mut depth = 0_usize;
        iter::from_fn(move || {
            loop {
                match tokens.step().ok()? {
                    Step::Begin(offset) => {
                        depth += 1;
                        if depth == 1 {
                            let child = Self::at(self.structure, offset);
                            return Some(Self { bus, ..child });
                        }
                    }
                    Step::Property { .. } => {}
                    Step::End => depth = depth.checked_sub(1)?,
                    Step::EndOfTree => return None,
                }
            }
        })
        .fuse()
    }

    /// The child of that name. A name without a unit address also means the first child that has
    /// one, if none has the name itself.
    pub fn child(self, name: &str) -> Option<Node<'a>> {
        let stem = |child: &Node<'a>| child.name().split('@').next() == Some(name);
        self.children()
            .find(|child| child.name() == name)
            .or_else(|| self.children().find(stem))
    }

    /// The root of the node's tree.
    pub fn root(self) -> Node<'a> {
        Self::root_of(self.structure).unwrap_or(self)
    }

    /// This node and all below it, each before its children.
    pub fn descendants(self) -> impl Iterator<Item = Node<'a>> {
        let mut tokens = Tokens::from(self.structure, self.begin);
        let mut buses: ArrayVec<CellSizes, MAX_DEPTH> = ArrayVec::new();
        iter::from_fn(move || {
            loop {
                match tokens.step().ok()? {
                    Step::Begin(offset) => {
                        let bus = buses.last().copied().unwrap_or(self.bus);
                        let node = Self {
                            bus,
                            ..Self::at(self.structure, offset)
                        };
                        buses.try_push(node.cell_sizes()).ok()?;
                        return Some(node);
                    }
                    Step::Property { .. } => {}
                    Step::End => {
                        buses.pop();
                        if buses.is_empty() {
                            return None;
                        }
                    }
                    Step::EndOfTree => return None,
                }
            }
        })
        .fuse()
    }

    /// The nodes from the root down to this one.
    pub(crate) fn lineage(self) -> ArrayVec<Node<'a>, MAX_DEPTH> {
        let mut lineage: ArrayVec<Self, MAX_DEPTH> = ArrayVec::new();
        let mut tokens = Tokens::from(self.structure, 0);
        while let Ok(step) = tokens.step() {
            match step {
                Step::Begin(offset) => {
                    let added = lineage.try_push(Self::at(self.structure, offset));
                    if offset == self.begin || added.is_err() {
                        break;
                    }
                }
                Step::Property { .. } => {}
                Step::End => {
                    lineage.pop();
                }
                Step::EndOfTree => break,
            }
        }
        let mut bus = CellSizes::default();
        for node in &mut lineage {
            node.bus = bus;
            bus = node.cell_sizes();
        }
        lineage
    }

    /// The node that holds this one; `None` for the root.
    pub fn parent(self) -> Option<Node<'a>> {
        let mut lineage = self.lineage();
        lineage.pop();
        lineage.pop()
    }

    /// Whether the node is compatible with one of `kinds` (DTSpec 2.3.1).
    pub fn is_compatible(self, kinds: &[&str]) -> bool {
        self.property("compatible")
            .is_some_and(|compatible| compatible.strings().any(|kind| kinds.contains(&kind)))
    }

    /// Whether the device can be used.
    pub fn status(self) -> Status {
        let Some(status) = self.property("status") else {
            return Status::Okay;
        };
        match status.string() {
            Some("okay" | "ok") => Status::Okay,
            Some("disabled") => Status::Disabled,
            Some("reserved") => Status::Reserved,
            Some(status) if status == "fail" || status.starts_with("fail-") => Status::Fail,
            _ => Status::Unknown,
        }
    }

    /// Whether `device_type` is `kind`.
    pub(crate) fn has_type(self, kind: &str) -> bool {
        self.property("device_type").and_then(Property::string) == Some(kind)
    }

    /// The number by which other nodes refer to this one (DTSpec 2.3.3).
    pub fn phandle(self) -> Option<u32> {
        self.property("phandle")
            .or_else(|| self.property("linux,phandle"))
            .and_then(Property::u32)
    }

    /// The node of the same tree that has this phandle.
    pub(crate) fn by_phandle(self, phandle: u32) -> Option<Node<'a>> {
        self.root()
            .descendants()
            .find(|node| node.phandle() == Some(phandle))
    }
}

impl PartialEq for Node<'_> {
    /// Nodes of the same tree are equal where they are the same node.
    fn eq(&self, other: &Self) -> bool {
        self.begin == other.begin
    }
}

impl Eq for Node<'_> {}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lineage = self.lineage();
        match lineage.get(1..) {
            None | Some([]) => f.write_str("/"),
            Some(below_root) => below_root
                .iter()
                .try_for_each(|node| write!(f, "/{}", node.name())),
        }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
