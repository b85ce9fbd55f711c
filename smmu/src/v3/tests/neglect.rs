//! Drivers that leave something out: the simulated SMMU has to notice each.

use super::*;
use crate::{Clock, Registers};

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Neglect {
    Nothing,
    Barriers,
    Cleaning,
    /// Commands with this code become CMD_SYNC; CMD_SYNC itself becomes CMD_CFGI_STE.
    Command(u8),
}

/// A machine that the driver only believes to have told.
#[derive(Clone, Debug)]
struct Careless {
    machine: Machine,
    neglect: Neglect,
    commands: u64,
}

impl Registers for Careless {
    fn read32(&self, offset: u32) -> u32 {
        self.machine.read32(offset)
    }

    fn read64(&self, offset: u32) -> u64 {
        self.machine.read64(offset)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        self.machine.write32(offset, value);
    }

    fn write64(&mut self, offset: u32, value: u64) {
        if offset == registers::CMDQ_BASE {
            self.commands = value & !0xfff & !registers::BASE_ALLOCATE;
        }
        self.machine.write64(offset, value);
    }
}

impl DmaMemory for Careless {
    fn allocate(&mut self, bytes: u64) -> Option<Hpa> {
        self.machine.allocate(bytes)
    }

    fn free(&mut self, start: Hpa, bytes: u64) {
        self.machine.free(start, bytes);
    }

    fn read(&self, at: Hpa) -> u64 {
        self.machine.read(at)
    }

    fn write(&mut self, at: Hpa, word: u64) {
        let command = at.get() & !0xfff == self.commands && at.is_aligned(16);
        let word = match self.neglect {
            Neglect::Command(code) if command && word as u8 == code => match code {
                0x46 => 0x03,
                _ => 0x46,
            },
            _ => word,
        };
        self.machine.write(at, word);
    }

    fn clean(&mut self, start: Hpa, bytes: u64) {
        if self.neglect != Neglect::Cleaning {
            self.machine.clean(start, bytes);
        }
    }

    fn discard(&mut self, start: Hpa, bytes: u64) {
        self.machine.discard(start, bytes);
    }

    fn barrier(&mut self) {
        if self.neglect != Neglect::Barriers {
            self.machine.barrier();
        }
    }
}

impl Clock for Careless {
    fn microseconds(&self) -> u64 {
        self.machine.microseconds()
    }
}

/// Attaches, unmaps, moves and detaches with a driver that neglects something once it has started.
/// Whether a device always reached just what it should.
fn is_isolated(ids: Ids, neglect: Neglect) -> bool {
    let machine = Machine::new(ids);
    let hardware = Careless {
        machine: machine.clone(),
        neglect: Neglect::Nothing,
        commands: 0,
    };
    let capabilities = Capabilities::read(&machine).unwrap();
    let mut smmu = Smmu::start(hardware, capabilities, SETUP).unwrap();
    let [mut first, mut second] = [1, 2].map(|vmid| Domain::new(&machine, vmid));
    let [a, _, b] = [first.map(0x1000), first.map(0x2000), second.map(0x1000)];
    // The SMMU learns that there is nothing.
    let _ = write(&machine, NIC, 0x1000);
    smmu.bus.hardware.neglect = neglect;
    let mut steps = Vec::new();
    steps.push(smmu.attach(NIC, first.stage2()).is_ok() && write(&machine, NIC, 0x1000) == Ok(a));
    let _ = write(&machine, NIC, 0x2000);
    first.tables.unmap(Gpa::new(0x2000), 3);
    let range = xen_types::GpaRange::new(Gpa::new(0x2000), PAGE_SIZE).unwrap();
    let forgotten = smmu.invalidate(first.vmid(), Invalidation::Range(range));
    steps.push(forgotten.and_then(|()| smmu.sync()).is_ok());
    steps.push(write(&machine, NIC, 0x2000).is_err());
    steps.push(smmu.attach(NIC, second.stage2()).is_ok() && write(&machine, NIC, 0x1000) == Ok(b));
    steps.push(smmu.detach(NIC).is_ok() && write(&machine, NIC, 0x1000).is_err());
    // A later domain with the same VMID.
    let mut later = Domain::new(&machine, 1);
    let c = later.map(0x1000);
    steps.push(smmu.attach(NIC, later.stage2()).is_ok() && write(&machine, NIC, 0x1000) == Ok(c));
    steps.push(machine.violations().is_empty());
    steps.into_iter().all(|step| step)
}

#[test]
fn every_neglect_is_noticed() {
    for ids in [Ids::default(), Ids::default().incoherent()] {
        assert!(is_isolated(ids, Neglect::Nothing));
        for neglect in [
            Neglect::Barriers,
            Neglect::Command(0x03),
            Neglect::Command(0x28),
            Neglect::Command(0x2a),
            Neglect::Command(0x46),
        ] {
            assert!(!is_isolated(ids, neglect), "{neglect:?} is not noticed");
        }
    }
}

#[test]
fn xsa_321_missing_cleaning_is_noticed_where_it_counts() {
    assert!(is_isolated(Ids::default(), Neglect::Cleaning));
    assert!(!is_isolated(Ids::default().incoherent(), Neglect::Cleaning));
}
