//! The driver against an SMMU that forgives nothing.

mod commands;
mod entries;
mod events;
mod isolation;
mod neglect;
mod properties;
mod start;

use std::vec::Vec;

use xen_types::{Gpa, Hpa, PAGE_SIZE};

use super::*;
use crate::simulated::{Denied, Ids, Machine, Tables};
use crate::{Access, DmaMemory, Walk};

const SETUP: Setup = Setup {
    stream_bits: 16,
    coherent: true,
};
const NIC: StreamId = StreamId::new(0x0008);
const DISK: StreamId = StreamId::new(0x0110);

fn start_on(machine: &Machine) -> Smmu<Machine> {
    let capabilities = Capabilities::read(machine).unwrap();
    Smmu::start(machine.clone(), capabilities, SETUP).unwrap()
}

fn start(ids: Ids) -> (Machine, Smmu<Machine>) {
    let machine = Machine::new(ids);
    let smmu = start_on(&machine);
    (machine, smmu)
}

/// A domain with some pages.
struct Domain {
    tables: Tables,
    machine: Machine,
}

impl Domain {
    fn new(machine: &Machine, vmid: u16) -> Self {
        let walk = Walk::new(1, 39, 44).unwrap();
        Self {
            tables: Tables::new(machine, walk, Vmid::new(vmid)),
            machine: machine.clone(),
        }
    }

    fn stage2(&self) -> Stage2 {
        self.tables.stage2()
    }

    fn vmid(&self) -> Vmid {
        self.stage2().vmid()
    }

    /// Maps a page of its own there, to read and write.
    fn map(&mut self, address: u64) -> Hpa {
        let frame = self.machine.allocate(PAGE_SIZE).unwrap();
        self.tables.map(Gpa::new(address), frame, 3, 0b11);
        frame
    }
}

fn write(machine: &Machine, stream: StreamId, address: u64) -> Result<Hpa, Denied> {
    machine.dma(stream, Gpa::new(address), Access::Write)
}

fn nothing_forbidden(machine: &Machine) {
    assert_eq!(machine.violations(), Vec::<std::string::String>::new());
}
