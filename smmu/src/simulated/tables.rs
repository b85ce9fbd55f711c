//! Stage 2 tables as a hypervisor writes them, in the simplest way.

use xen_types::{Gpa, Hpa, PAGE_SIZE};

use super::Machine;
use crate::{DmaMemory, Stage2, Vmid, Walk};

const ACCESS_FLAG: u64 = 1 << 10;
/// Access flag, inner shareable, write-back.
const NORMAL: u64 = ACCESS_FLAG | 0b11 << 8 | 0b1111 << 2;
const OUTPUT: u64 = 0x0000_ffff_ffff_f000;

/// The tables of a domain.
#[derive(Clone, Debug)]
pub struct Tables {
    machine: Machine,
    stage2: Stage2,
}

impl Tables {
    /// Empty tables.
    pub fn new(machine: &Machine, walk: Walk, vmid: Vmid) -> Self {
        let mut machine = machine.clone();
        let root = machine.allocate(PAGE_SIZE).expect("memory for a root");
        machine.clean(root, PAGE_SIZE);
        machine.barrier();
        let stage2 = Stage2::new(root, walk, vmid).expect("a root for this walk");
        Self { machine, stage2 }
    }

    /// What an IOMMU has to know of them.
    pub fn stage2(&self) -> Stage2 {
        self.stage2
    }

    /// Maps the page (level 3) or block (1, 2) that holds `input`; `permissions` are `S2AP`: 1 to read,
    /// 2 to write.
    pub fn map(&mut self, input: Gpa, output: Hpa, level: u32, permissions: u64) {
        let at = self.entry(input, level);
        let kind = if level == 3 { 0b11 } else { 0b01 };
        self.put(at, output.get() & OUTPUT | NORMAL | permissions << 6 | kind);
    }

    /// Maps the page that holds `input` for devices alone: CPUs fault where there is no access flag.
    pub fn map_for_devices(&mut self, input: Gpa, output: Hpa, permissions: u64) {
        let at = self.entry(input, 3);
        let bits = NORMAL & !ACCESS_FLAG | permissions << 6 | 0b11;
        self.put(at, output.get() & OUTPUT | bits);
    }

    /// Clears the entry of a level for `input`; nothing is invalidated. What it led to: a page, a
    /// block or a table.
    pub fn unmap(&mut self, input: Gpa, level: u32) -> Hpa {
        let at = self.entry(input, level);
        let former = self.machine.read(at);
        self.put(at, 0);
        Hpa::new(former & OUTPUT)
    }

    /// Where the entry of a level for `input` is, with tables on the way.
    fn entry(&mut self, input: Gpa, level: u32) -> Hpa {
        let mut table = self.stage2.root();
        for upper in self.stage2.walk().start_level()..level {
            let at = slot(table, input, upper);
            let next = self.machine.read(at);
            table = if next & 0b11 == 0b11 {
                Hpa::new(next & OUTPUT)
            } else {
                let next = self
                    .machine
                    .allocate(PAGE_SIZE)
                    .expect("memory for a table");
                self.machine.clean(next, PAGE_SIZE);
                self.put(at, next.get() | 0b11);
                next
            };
        }
        slot(table, input, level)
    }

    fn put(&mut self, at: Hpa, descriptor: u64) {
        self.machine.write(at, descriptor);
        self.machine.clean(at, 8);
        self.machine.barrier();
    }
}

fn slot(table: Hpa, input: Gpa, level: u32) -> Hpa {
    Hpa::new(table.get() + (input.get() >> (39 - 9 * level) & 0x1ff) * 8)
}
