//! Memory with two sides: what CPUs see through their caches, and what is in memory.

use core::iter;

use super::super::alloc::boxed::Box;
use super::super::alloc::collections::BTreeMap;
use super::super::alloc::format;
use super::super::alloc::string::String;
use super::super::alloc::vec::Vec;

use xen_types::Hpa;

const PAGE: usize = 0x1000;
/// What is in memory that nobody cleaned: valid in every format.
const GARBAGE: u8 = 0xa5;

#[derive(Debug)]
struct Page {
    cached: [u8; PAGE],
    memory: [u8; PAGE],
}

#[derive(Debug, Default)]
pub struct Ram {
    pages: BTreeMap<u64, Box<Page>>,
    /// Sizes by start.
    allocations: BTreeMap<u64, u64>,
    next: u64,
    pub allocations_left: Option<usize>,
    pub violations: Vec<String>,
}

impl Ram {
    pub fn allocate(&mut self, size: u64, align: u64) -> Option<Hpa> {
        if let Some(left) = &mut self.allocations_left {
            *left = left.checked_sub(1)?;
        }
        let at = self.next.max(0x4000_0000).next_multiple_of(align);
        // A gap, so that no access beyond the end goes unseen.
        self.next = at + size + 0x1000;
        self.allocations.insert(at, size);
        Some(Hpa::new(at))
    }

    pub fn free(&mut self, at: Hpa, size: u64) {
        if self.allocations.remove(&at.get()) != Some(size) {
            self.violate(format!("{at} is freed with the wrong size, or twice"));
        }
    }

    pub fn allocated(&self) -> u64 {
        self.allocations.values().sum()
    }

    pub fn violate(&mut self, what: String) {
        self.violations.push(what);
    }

    pub fn cpu_write(&mut self, at: Hpa, bytes: &[u8]) {
        self.check(at, bytes.len() as u64, "a CPU writes");
        self.each(at, bytes.len() as u64, bytes.iter(), |cached, _, byte| {
            *cached = *byte;
        });
    }

    pub fn clean(&mut self, at: Hpa, size: u64) {
        self.check(at, size, "a CPU cleans");
        self.each(at, size, iter::repeat(()), |cached, memory, ()| {
            *memory = *cached;
        });
    }

    /// What hardware reads that sees the caches or not.
    pub fn read<const N: usize>(&mut self, at: Hpa, coherent: bool) -> [u8; N] {
        self.check(at, N as u64, "hardware reads");
        let mut bytes = [0; N];
        self.each(at, N as u64, bytes.iter_mut(), |cached, memory, byte| {
            *byte = if coherent { *cached } else { *memory };
        });
        bytes
    }

    pub fn read64(&mut self, at: Hpa, coherent: bool) -> u64 {
        u64::from_le_bytes(self.read(at, coherent))
    }

    /// Hardware writes.
    pub fn write64(&mut self, at: Hpa, value: u64) {
        self.check(at, 8, "hardware writes");
        let bytes = value.to_le_bytes();
        self.each(at, 8, bytes.iter(), |cached, memory, byte| {
            (*cached, *memory) = (*byte, *byte);
        });
    }

    fn each<T>(
        &mut self,
        at: Hpa,
        size: u64,
        mut items: impl Iterator<Item = T>,
        mut call: impl FnMut(&mut u8, &mut u8, T),
    ) {
        let end = at.get().saturating_add(size);
        let mut address = at.get();
        while address < end {
            let page = self.pages.entry(address / PAGE as u64).or_insert_with(|| {
                Box::new(Page {
                    cached: [0; PAGE],
                    memory: [GARBAGE; PAGE],
                })
            });
            let first = address as usize % PAGE;
            let count = (PAGE - first).min((end - address) as usize);
            let cached = page.cached.iter_mut().skip(first).take(count);
            let memory = page.memory.iter_mut().skip(first);
            for ((cached, memory), item) in cached.zip(memory).zip(&mut items) {
                call(cached, memory, item);
            }
            address += count as u64;
        }
    }

    fn check(&mut self, at: Hpa, size: u64, what: &str) {
        let below = self.allocations.range(..=at.get()).next_back();
        let inside = below.is_some_and(|(start, length)| {
            at.get().saturating_add(size) <= start.saturating_add(*length)
        });
        if !inside {
            self.violate(format!("{what} {size} bytes at {at}, which are nobody's"));
        }
    }
}
