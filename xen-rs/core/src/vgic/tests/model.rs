//! An ideal interrupt controller: no list registers, one state for each interrupt and CPU, and the
//! rules of IHI 0069, 4.1 and 4.8 in their plainest form.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// One interrupt; private ones exist for each CPU.
#[derive(Clone, Default, Debug)]
pub struct Interrupt {
    pub enabled: bool,
    pub edge: bool,
    pub priority: u8,
    pub line: bool,
    pub latch: bool,
    /// Pending from these CPUs: SGIs of GICv2.
    pub sources: BTreeSet<usize>,
    /// On which CPU.
    pub active: Option<usize>,
    /// Where it goes: shared ones.
    pub target: Option<usize>,
}

impl Interrupt {
    pub fn pending(&self) -> bool {
        self.latch || !self.sources.is_empty() || self.line && !self.edge
    }
}

/// A CPU, or none for shared interrupts, and an INTID.
pub type Key = (Option<usize>, u32);

pub struct Model {
    pub interrupts: BTreeMap<Key, Interrupt>,
    /// Whether anything is forwarded.
    pub forwarding: bool,
    /// For each CPU what it took and has not ended, with the priority at that time.
    pub running: Vec<Vec<(u32, usize, u8)>>,
}

pub fn key(cpu: usize, intid: u32) -> Key {
    (if intid < 32 { Some(cpu) } else { None }, intid)
}

impl Model {
    pub fn new(cpus: usize, intids: &[u32]) -> Self {
        let mut interrupts = BTreeMap::new();
        for cpu in 0..cpus {
            for &intid in intids {
                interrupts.insert(
                    key(cpu, intid),
                    Interrupt {
                        edge: intid < 16,
                        target: Some(0),
                        ..Interrupt::default()
                    },
                );
            }
        }
        Self {
            interrupts,
            forwarding: false,
            running: std::vec![Vec::new(); cpus],
        }
    }

    pub fn at(&mut self, cpu: usize, intid: u32) -> &mut Interrupt {
        self.interrupts.get_mut(&key(cpu, intid)).unwrap()
    }

    pub fn set_line(&mut self, cpu: usize, intid: u32, level: bool) {
        let interrupt = self.at(cpu, intid);
        interrupt.latch |= interrupt.edge && level && !interrupt.line;
        interrupt.line = level;
    }

    /// The priority that an interrupt must exceed to preempt what the CPU runs.
    pub fn running_priority(&self, cpu: usize) -> u16 {
        self.running[cpu]
            .last()
            .map_or(0x100, |running| running.2.into())
    }

    /// The interrupts that may be taken next: all of the highest priority that is pending.
    pub fn candidates(&self, cpu: usize) -> Vec<u32> {
        let offered: Vec<_> = self
            .interrupts
            .iter()
            .filter(|((of, _), interrupt)| {
                let here = match of {
                    Some(of) => *of == cpu,
                    None => interrupt.target == Some(cpu),
                };
                here && self.forwarding
                    && interrupt.enabled
                    && interrupt.pending()
                    && interrupt.active.is_none()
                    && u16::from(interrupt.priority) < self.running_priority(cpu)
            })
            .collect();
        let best = offered
            .iter()
            .map(|(_, interrupt)| interrupt.priority)
            .min();
        offered
            .into_iter()
            .filter(|(_, interrupt)| Some(interrupt.priority) == best)
            .map(|((_, intid), _)| *intid)
            .collect()
    }

    /// The CPU takes an interrupt, which must be a candidate.
    pub fn acknowledge(&mut self, cpu: usize, intid: u32, source: usize) {
        let interrupt = self.at(cpu, intid);
        if interrupt.sources.is_empty() {
            interrupt.latch = false;
        } else {
            assert!(interrupt.sources.remove(&source), "SGI from nobody");
        }
        interrupt.active = Some(cpu);
        let priority = interrupt.priority;
        self.running[cpu].push((intid, source, priority));
    }

    /// The CPU ends what it took last.
    pub fn end(&mut self, cpu: usize) -> Option<(u32, usize)> {
        let (intid, source, _) = self.running[cpu].pop()?;
        self.at(cpu, intid).active = None;
        Some((intid, source))
    }
}
