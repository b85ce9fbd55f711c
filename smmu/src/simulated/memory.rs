//! Memory as the CPU sees it and as devices see it, which differ until they are made to agree.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::string::String;
use std::vec::Vec;
use std::{format, mem};

use xen_types::{Hpa, PAGE_SIZE};

/// What devices find where nothing was ever written: with luck a valid stream table entry.
const GARBAGE: u64 = 0xdead_dead_dead_de0d;

pub(super) struct Memory {
    /// Whether devices see the CPU's cache.
    coherent: bool,
    /// What the CPU sees, where that was ever read or written.
    cached: HashMap<u64, u64>,
    /// What devices see.
    visible: HashMap<u64, u64>,
    /// Stored, but on the way to nowhere.
    dirty: HashSet<u64>,
    /// Stored and, if need be, cleaned: the next barrier completes it.
    pending: Vec<u64>,
    /// What is allocated: start to bytes.
    regions: BTreeMap<u64, u64>,
    next: u64,
    allocations_left: usize,
    violations: Vec<String>,
}

impl Memory {
    pub(super) fn new(coherent: bool) -> Self {
        Self {
            coherent,
            cached: HashMap::new(),
            visible: HashMap::new(),
            dirty: HashSet::new(),
            pending: Vec::new(),
            regions: BTreeMap::new(),
            next: 0x4000_0000,
            allocations_left: usize::MAX,
            violations: Vec::new(),
        }
    }

    pub(super) fn limit_allocations(&mut self, count: usize) {
        self.allocations_left = count;
    }

    pub(super) fn allocate_from(&mut self, start: Hpa) {
        self.next = start.get();
    }

    pub(super) fn allocated(&self) -> u64 {
        self.regions.values().sum()
    }

    pub(super) fn violations(&self) -> Vec<String> {
        self.violations.clone()
    }

    pub(super) fn allocate(&mut self, bytes: u64) -> Option<Hpa> {
        assert!(
            bytes.is_power_of_two() && bytes >= PAGE_SIZE,
            "{bytes} bytes"
        );
        self.allocations_left = self.allocations_left.checked_sub(1)?;
        let start = self.next.next_multiple_of(bytes);
        self.next = start + bytes;
        self.regions.insert(start, bytes);
        for at in (start..start + bytes).step_by(8) {
            self.store(at, 0);
        }
        Some(Hpa::new(start))
    }

    pub(super) fn free(&mut self, start: Hpa, bytes: u64) {
        let known = self.regions.remove(&start.get());
        assert_eq!(known, Some(bytes), "{start} is not allocated so");
    }

    fn is_allocated(&self, at: u64) -> bool {
        let region = self.regions.range(..=at).next_back();
        region.is_some_and(|(start, bytes)| at - start < *bytes)
    }

    pub(super) fn read(&mut self, at: Hpa) -> u64 {
        assert!(
            self.is_allocated(at.get()),
            "{at} is read without being allocated"
        );
        let visible = *self.visible.get(&at.get()).unwrap_or(&GARBAGE);
        *self.cached.entry(at.get()).or_insert(visible)
    }

    /// What was there before.
    pub(super) fn write(&mut self, at: Hpa, word: u64) -> u64 {
        assert!(at.is_aligned(8), "{at} is no word");
        let former = self.read(at);
        self.store(at.get(), word);
        former
    }

    fn store(&mut self, at: u64, word: u64) {
        self.cached.insert(at, word);
        if self.coherent {
            self.pending.push(at);
        } else {
            self.dirty.insert(at);
        }
    }

    pub(super) fn clean(&mut self, start: Hpa, bytes: u64) {
        for at in (start.get()..start.get() + bytes).step_by(8) {
            if self.dirty.remove(&at) {
                self.pending.push(at);
            }
        }
    }

    pub(super) fn discard(&mut self, start: Hpa, bytes: u64) {
        for at in (start.get()..start.get() + bytes).step_by(8) {
            if self.dirty.contains(&at) {
                let what = format!("{at:#x} was written, and is discarded before it is cleaned");
                self.violations.push(what);
            }
            self.cached.remove(&at);
        }
    }

    pub(super) fn barrier(&mut self) {
        for at in mem::take(&mut self.pending) {
            if let Some(word) = self.cached.get(&at) {
                self.visible.insert(at, *word);
            }
        }
    }

    /// What a device reads; `None` outside of what is allocated.
    pub(super) fn device_read(&self, at: Hpa) -> Option<u64> {
        let word = self.visible.get(&at.get()).copied();
        self.is_allocated(at.get())
            .then_some(word.unwrap_or(GARBAGE))
    }

    /// A device writes; whether that is possible.
    pub(super) fn device_write(&mut self, at: Hpa, word: u64) -> bool {
        if !self.is_allocated(at.get()) {
            return false;
        }
        self.visible.insert(at.get(), word);
        if self.coherent {
            self.cached.insert(at.get(), word);
        }
        true
    }

    /// What the CPU last wrote, whether devices see it or not.
    pub(super) fn written(&self, at: Hpa) -> Option<u64> {
        self.cached.get(&at.get()).copied()
    }
}
