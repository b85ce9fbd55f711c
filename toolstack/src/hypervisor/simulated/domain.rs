//! A simulated domain, and its memory.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

use xen_abi::DomId;
use xen_abi::domctl::Context;
use xen_abi::hvm::Param;

use super::Simulated;
use crate::hypervisor::device::PAGE_SIZE;
use crate::hypervisor::{DomainInfo, EndReason, GuestMemory, NewDomain};
use crate::pci::Sbdf;

/// A simulated domain.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Domain {
    pub new: NewDomain,
    pub vcpus: u32,
    pub max_memory: u64,
    pub pool: u64,
    pub is_64_bit: bool,
    /// First frame and order of each extent.
    pub extents: BTreeMap<u64, u32>,
    /// Pages that it has.
    pub page_count: u64,
    /// Pages that were written.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Pages whose caches were cleaned.
    pub clean: BTreeSet<u64>,
    /// The first page of the grant table.
    pub grants: Vec<u8>,
    pub ports: u32,
    pub params: BTreeMap<Param, u64>,
    pub vuart: Option<u64>,
    pub contexts: BTreeMap<u32, Context>,
    pub affinity: BTreeMap<u32, (Vec<u32>, Vec<u32>)>,
    pub share: Option<(u16, u16)>,
    /// Functions that it has, by device number.
    pub slots: BTreeMap<u8, Sbdf>,
    pub pauses: u32,
    pub has_run: bool,
    pub ended: Option<EndReason>,
    /// Mappings of its memory that others have.
    pub mappings: u32,
}

impl Domain {
    /// One that was just made.
    pub(super) fn new(new: NewDomain) -> Self {
        Self {
            new,
            vcpus: 0,
            max_memory: 0,
            pool: 0,
            is_64_bit: false,
            extents: BTreeMap::new(),
            page_count: 0,
            pages: BTreeMap::new(),
            clean: BTreeSet::new(),
            grants: vec![0; PAGE_SIZE],
            ports: 0,
            params: BTreeMap::new(),
            vuart: None,
            contexts: BTreeMap::new(),
            affinity: BTreeMap::new(),
            share: None,
            slots: BTreeMap::new(),
            pauses: 1,
            has_run: false,
            ended: None,
            mappings: 0,
        }
    }

    /// What the hypervisor tells of it.
    pub(super) fn info(&self, id: u16) -> DomainInfo {
        DomainInfo {
            id: DomId::new(id),
            uuid: self.new.uuid,
            memory_kib: self.page_count * 4,
            max_memory_kib: self.max_memory,
            online_vcpus: self.contexts.len() as u32,
            vcpus: self.vcpus,
            cpu_time: 0,
            address_bits: 40,
            running: false,
            blocked: false,
            paused: self.pauses > 0,
            dying: false,
            ended: self.ended,
        }
    }

    pub(super) fn has_page(&self, frame: u64) -> bool {
        let before = self.extents.range(..=frame).next_back();
        before.is_some_and(|(first, order)| frame - first < 1 << order)
    }
}

/// Memory of a simulated domain.
#[derive(Debug)]
pub struct SimulatedMemory {
    pub(super) of: Simulated,
    pub(super) domain: DomId,
    /// The frames; none for the grant table.
    pub(super) frames: Option<Vec<u64>>,
}

impl GuestMemory for SimulatedMemory {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let state = &mut *self.of.0.borrow_mut();
        let domain = state.domains.get_mut(&self.domain.get());
        let domain = domain.ok_or(io::ErrorKind::BrokenPipe)?;
        let (mut place, mut bytes) = (offset, bytes);
        while !bytes.is_empty() {
            let page = match &self.frames {
                None => Some(&mut domain.grants).filter(|_| place < PAGE_SIZE),
                Some(frames) => frames.get(place / PAGE_SIZE).map(|frame| {
                    domain.clean.remove(frame);
                    let page = domain.pages.entry(*frame);
                    page.or_insert_with(|| vec![0; PAGE_SIZE])
                }),
            };
            let rest = page.and_then(|page| page.get_mut(place % PAGE_SIZE..));
            let rest = rest.ok_or(io::ErrorKind::InvalidInput)?;
            let count = rest.len().min(bytes.len());
            let (now, later) = bytes.split_at(count);
            rest.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            (place, bytes) = (place + count, later);
        }
        Ok(())
    }

    fn fill(&mut self, offset: usize, length: usize, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes)?;
        self.write(offset, &bytes)
    }
}

impl Drop for SimulatedMemory {
    fn drop(&mut self) {
        let state = &mut *self.of.0.borrow_mut();
        if let Some(domain) = state.domains.get_mut(&self.domain.get()) {
            domain.mappings -= 1;
        }
    }
}
