//! The host's nodes in one list: going up and following a phandle take no walk through the tree.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::iter;
use core::ops::Range;

use xen_types::HpaRange;

use crate::Node;
use crate::address::BusRange;

/// A node's place in an [`Index`]; only the index makes them, so that each is valid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Id(usize);

impl Id {
    /// The place as the index of a list that has an element for each node.
    pub(super) fn place(self) -> usize {
        self.0
    }
}

struct Entry<'a> {
    node: Node<'a>,
    parent: Option<Id>,
    /// The place after the last node below this one.
    end: usize,
}

/// All nodes of a tree, each before its children.
pub(super) struct Index<'a> {
    entries: Vec<Entry<'a>>,
    by_phandle: BTreeMap<u32, Id>,
}

impl<'a> Index<'a> {
    pub(super) fn new(root: Node<'a>) -> Self {
        let mut index = Self {
            entries: Vec::new(),
            by_phandle: BTreeMap::new(),
        };
        index.add(root, None);
        index
    }

    /// Adds `node` and all below it; at most 15 levels deep, as `node` is of a validated tree.
    fn add(&mut self, node: Node<'a>, parent: Option<Id>) {
        let id = Id(self.entries.len());
        self.entries.push(Entry {
            node,
            parent,
            end: 0,
        });
        if let Some(phandle) = node.phandle() {
            self.by_phandle.entry(phandle).or_insert(id);
        }
        for child in node.children() {
            self.add(child, Some(id));
        }
        self.entries[id.0].end = self.entries.len();
    }

    pub(super) fn root(&self) -> Id {
        Id(0)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn node(&self, id: Id) -> Node<'a> {
        self.entries[id.0].node
    }

    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        self.entries[id.0].parent
    }

    /// All nodes, each before its children.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<'a> {
        (0..self.entries.len()).map(Id)
    }

    /// The places of the node and of all below it.
    pub(super) fn places(&self, id: Id) -> Range<usize> {
        id.0..self.entries[id.0].end
    }

    /// The nodes directly below.
    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        let end = self.entries[id.0].end;
        let first = Some(id.0 + 1).filter(|&place| place < end);
        let next = move |&place: &usize| Some(self.entries[place].end).filter(|&next| next < end);
        iter::successors(first, next).map(Id)
    }

    /// The child of that very name.
    pub(super) fn child(&self, id: Id, name: &str) -> Option<Id> {
        self.children(id)
            .find(|&child| self.node(child).name() == name)
    }

    /// The nodes above, from the nearest to the root.
    pub(super) fn ancestors(&self, id: Id) -> impl Iterator<Item = Id> {
        iter::successors(self.parent(id), |&id| self.parent(id))
    }

    /// Whether `id` is `top` or below it.
    pub(super) fn is_in(&self, id: Id, top: Id) -> bool {
        self.places(top).contains(&id.0)
    }

    pub(super) fn by_phandle(&self, phandle: u32) -> Option<Id> {
        self.by_phandle.get(&phandle).copied()
    }

    /// The largest phandle; 0 where there is none.
    pub(super) fn max_phandle(&self) -> u32 {
        self.by_phandle
            .last_key_value()
            .map_or(0, |(&phandle, _)| phandle)
    }

    /// The place of a node of the same tree.
    pub(super) fn find(&self, node: Node<'_>) -> Option<Id> {
        self.ids().find(|&id| self.node(id) == node)
    }

    /// The buses between the node and the root bus, the nearest first.
    fn buses(&self, id: Id) -> impl Iterator<Item = Node<'a>> {
        self.ancestors(id)
            .filter(|&bus| bus != self.root())
            .map(|bus| self.node(bus))
    }

    /// `range` of the node's bus as the processor addresses it; `None` where it cannot.
    pub(super) fn translate(&self, id: Id, range: BusRange) -> Option<HpaRange> {
        let range = self
            .buses(id)
            .try_fold(range, |range, bus| bus.translate_once(range).ok()?)?;
        self.node(id).host_range(range).ok()
    }

    /// `range` of the processor's addresses as the node's bus addresses it; `None` where it cannot.
    pub(super) fn translate_back(&self, id: Id, range: BusRange) -> Option<BusRange> {
        let buses: Vec<_> = self.buses(id).collect();
        buses
            .iter()
            .rev()
            .try_fold(range, |range, bus| bus.translate_back(range).ok()?)
    }
}
