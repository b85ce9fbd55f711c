//! What of the host Dom0 gets, and which nodes it cannot have.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use xen_types::{HpaRange, IntId, Interrupt, Spi, Trigger};

use super::bridges;
use super::fate::{Fate, Fates};
use super::index::{Id, Index};
use super::interrupts::Interrupts;
use super::owned::Owned;
use super::plan::Dom0Plan;
use super::ranges::{merged, without};
use super::references::{Master, masters};
use super::registers::registers;
use super::reserved::ReservedMemory;
use crate::node::Status;
use crate::property::Property;

/// What Dom0 must be given so that its tree is true.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Dom0Resources {
    /// Registers, and windows of PCI host bridges that the hypervisor does not drive, to be mapped 1:1
    /// as device memory: whole pages, sorted, apart from each other and from all that is not Dom0's.
    pub mmio: Vec<HpaRange>,
    /// Memory that the host's tree reserves for devices and that may be mapped, to be mapped 1:1
    /// as normal memory: whole pages, sorted, apart. It is not among the plan's memory.
    pub reserved: Vec<HpaRange>,
    /// Shared interrupts to be passed on under their own numbers, sorted, each once.
    pub interrupts: Vec<Interrupt>,
    /// Devices that the host's tree puts behind an IOMMU which the hypervisor keeps.
    pub masters: Vec<Master>,
    /// Usable nodes that share something with what is not Dom0's.
    pub withheld: Vec<Withheld>,
}

/// A usable node that shares something with what is not Dom0's. Displays as one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withheld {
    /// The path of the node.
    pub node: String,
    /// What it shares.
    pub conflict: Conflict,
    /// The path of the node whose it is, or words for what has none.
    pub owner: String,
    /// Whether Dom0 sees the node disabled. It does not where the node's registers enclose all of
    /// the owner's, as those of a bus do: Dom0 has the rest of them.
    pub disabled: bool,
}

/// What a node shares with something that is not Dom0's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conflict {
    /// These pages hold registers of both.
    Pages(HpaRange),
    /// Both raise this interrupt.
    Interrupt(Spi),
    /// It uses this memory, which must not be mapped.
    Memory(HpaRange),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, owner, .. } = self;
        write!(f, "{node}: ")?;
        match self.conflict {
            Conflict::Pages(pages) => write!(f, "shares the pages {pages} with {owner}")?,
            Conflict::Interrupt(spi) => {
                write!(f, "shares {} with {owner}", IntId::from(spi))?;
            }
            Conflict::Memory(range) => write!(f, "uses {owner}, {range}, which is no-map")?,
        }
        f.write_str(match self.disabled {
            true => ": disabled in Dom0",
            false => ": Dom0 gets its other pages",
        })
    }
}

/// Collects what Dom0 gets, and withholds the nodes that it cannot have.
pub(super) fn claim(
    index: &Index<'_>,
    fates: &mut Fates,
    owned: &Owned,
    reserved: &ReservedMemory,
    plan: &Dom0Plan<'_>,
) -> Dom0Resources {
    let mut claims = Claims {
        index,
        owned,
        usable: merged(reserved.usable.clone()),
        no_map: no_map_phandles(index, reserved),
        mmio: Vec::new(),
        interrupts: BTreeMap::new(),
        withheld: Vec::new(),
    };
    for id in index.ids() {
        let in_reserved = reserved.node.is_some_and(|node| index.is_in(id, node));
        if fates.of(id) == Fate::Kept && !in_reserved && !claims.add(fates.gic, id, plan) {
            fates.withhold(index, id);
        }
    }
    claims.add_v2m(fates, plan);
    let masters = masters(index, fates);
    claims.finish(masters)
}

/// The no-map regions by the phandles with which nodes name them.
fn no_map_phandles(index: &Index<'_>, reserved: &ReservedMemory) -> BTreeMap<u32, (Id, HpaRange)> {
    let no_map = reserved.no_map.iter();
    let named = no_map.filter_map(|&(id, range)| Some((index.node(id).phandle()?, (id, range))));
    named.collect()
}

struct Claims<'t, 'a> {
    index: &'t Index<'a>,
    owned: &'t Owned,
    /// Reserved memory that Dom0 gets, sorted and apart.
    usable: Vec<HpaRange>,
    no_map: BTreeMap<u32, (Id, HpaRange)>,
    mmio: Vec<HpaRange>,
    interrupts: BTreeMap<Spi, Trigger>,
    withheld: Vec<Withheld>,
}

impl Claims<'_, '_> {
    /// Claims what the node uses, unless that costs something that is not Dom0's: then it is false.
    fn add(&mut self, gic: Id, id: Id, plan: &Dom0Plan<'_>) -> bool {
        let index = self.index;
        let registers = registers(index, id);
        let interrupts = Interrupts { index, gic }.of(id);
        let mut conflicts = self.shared_pages(id, &registers);
        conflicts.extend(self.shared_interrupts(id, &interrupts));
        conflicts.extend(self.unmapped_memory(id));
        let available = !conflicts.iter().any(|conflict| conflict.disabled);
        if self.index.node(id).status() == Status::Okay {
            self.withheld.extend(conflicts);
        }
        if available {
            if !bridges::find(index, plan, id).is_some_and(|bridge| bridge.driven) {
                self.claim_registers(&registers);
            }
            self.claim_interrupts(&interrupts);
        }
        available
    }

    fn claim_registers(&mut self, registers: &[HpaRange]) {
        let devices = registers
            .iter()
            .filter(|range| !self.is_usable_memory(**range));
        let pages = devices.filter_map(|range| range.page_aligned_outwards());
        let pages = pages.flat_map(|pages| without(pages, &self.owned.pages));
        let pages: Vec<HpaRange> = pages.collect();
        self.mmio.extend(pages);
    }

    fn claim_interrupts(&mut self, interrupts: &[Interrupt]) {
        for interrupt in interrupts {
            if let IntId::Spi(spi) = interrupt.id {
                self.interrupts.entry(spi).or_insert(interrupt.trigger);
            }
        }
    }

    /// Whether the range is mapped as reserved memory.
    fn is_usable_memory(&self, range: HpaRange) -> bool {
        self.usable
            .iter()
            .any(|usable| usable.contains_range(range))
    }

    /// The pages of registers that also hold something that is not Dom0's.
    fn shared_pages(&self, id: Id, registers: &[HpaRange]) -> Vec<Withheld> {
        let mut shared = Vec::new();
        for &range in registers
            .iter()
            .filter(|range| !self.is_usable_memory(**range))
        {
            let Some(pages) = range.page_aligned_outwards() else {
                continue;
            };
            let mut nothing_left = None;
            for owned in &self.owned.ranges {
                let Some(common) = pages.intersection(owned.pages) else {
                    continue;
                };
                let nothing_left = *nothing_left
                    .get_or_insert_with(|| without(pages, &self.owned.pages).is_empty());
                shared.push(Withheld {
                    node: self.index.node(id).to_string(),
                    conflict: Conflict::Pages(common),
                    owner: owned.owner.name(self.index),
                    disabled: nothing_left || !range.contains_range(owned.range),
                });
            }
        }
        shared
    }

    fn shared_interrupts(&self, id: Id, interrupts: &[Interrupt]) -> Vec<Withheld> {
        let spis = interrupts
            .iter()
            .filter_map(|interrupt| match interrupt.id {
                IntId::Spi(spi) => Some(spi),
                _ => None,
            });
        let spis: BTreeSet<Spi> = spis.collect();
        let owned = |spi| Some((spi, self.owned.interrupts.get(&spi)?));
        let shared = spis.into_iter().filter_map(owned);
        shared
            .map(|(spi, owner)| Withheld {
                node: self.index.node(id).to_string(),
                conflict: Conflict::Interrupt(spi),
                owner: owner.name(self.index),
                disabled: true,
            })
            .collect()
    }

    /// The memory that the node's `memory-region` names and that must not be mapped.
    fn unmapped_memory(&self, id: Id) -> Vec<Withheld> {
        let regions = self.index.node(id).property("memory-region");
        let phandles = regions.into_iter().flat_map(Property::cells);
        phandles
            .filter_map(|phandle| self.no_map.get(&phandle))
            .map(|&(region, range)| Withheld {
                node: self.index.node(id).to_string(),
                conflict: Conflict::Memory(range),
                owner: self.index.node(region).to_string(),
                disabled: true,
            })
            .collect()
    }

    /// Claims the message frames that the plan gives to Dom0, although they are the GIC's.
    fn add_v2m(&mut self, fates: &Fates, plan: &Dom0Plan<'_>) {
        for frame in plan.gic.v2m_frames() {
            let name = frame.path.rsplit('/').next().unwrap_or("");
            let node = self.index.child(fates.gic, name);
            let registers = node.map(|id| registers(self.index, id));
            let pages = registers.into_iter().flatten();
            self.mmio
                .extend(pages.filter_map(HpaRange::page_aligned_outwards));
            let first = u32::from(frame.base.number());
            let spis = (first..first + u32::from(frame.count)).filter_map(Spi::new);
            for spi in spis.filter(|spi| !self.owned.interrupts.contains_key(spi)) {
                self.interrupts.insert(spi, Trigger::Edge);
            }
        }
    }

    fn finish(self, masters: Vec<Master>) -> Dom0Resources {
        let pages = self.usable.iter().copied();
        let pages = pages.filter_map(HpaRange::page_aligned_outwards);
        let reserved = pages.flat_map(|pages| without(pages, &self.owned.pages_but_ram));
        let interrupts = self.interrupts.into_iter();
        Dom0Resources {
            reserved: merged(reserved.collect()),
            mmio: merged(self.mmio),
            interrupts: interrupts
                .map(|(spi, trigger)| Interrupt {
                    id: spi.into(),
                    trigger,
                })
                .collect(),
            masters,
            withheld: self.withheld,
        }
    }
}
