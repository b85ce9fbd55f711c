use std::vec::Vec;

use xen_types::{Gpa, GpaRange, Hpa, PAGE_SIZE};

use super::*;
use crate::simulated::{Ids, Machine, Pace, Tables};
use crate::v3::{Capabilities, Setup, Smmu};
use crate::{Access, DmaMemory, StreamId, Walk};

const NIC: StreamId = StreamId::new(8);

/// CPUs that only count, and any number of SMMUs.
struct Host {
    machines: Vec<Machine>,
    smmus: Vec<Smmu<Machine>>,
    cpu_invalidations: Vec<(Vmid, Invalidation)>,
}

impl Host {
    fn new(smmus: usize) -> Self {
        let machines: Vec<_> = (0..smmus).map(|_| Machine::new(Ids::default())).collect();
        let start = |machine: &Machine| {
            let capabilities = Capabilities::read(machine).unwrap();
            let setup = Setup {
                stream_bits: 8,
                coherent: true,
            };
            Smmu::start(machine.clone(), capabilities, setup).unwrap()
        };
        Self {
            smmus: machines.iter().map(start).collect(),
            machines,
            cpu_invalidations: Vec::new(),
        }
    }
}

impl Translators for Host {
    fn invalidate_cpus(&mut self, vmid: Vmid, what: Invalidation) {
        self.cpu_invalidations.push((vmid, what));
    }

    fn each_iommu(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn Iommu) -> Result<(), IommuError>,
    ) -> Result<(), IommuError> {
        self.smmus.iter_mut().try_for_each(|smmu| visit(smmu))
    }
}

/// A frame that a device of the first machine used and that was then unmapped.
fn used_frame(host: &mut Host, vmid: Vmid, address: Gpa) -> Hpa {
    let mut machine = host.machines[0].clone();
    let mut tables = Tables::new(&machine, Walk::new(1, 39, 44).unwrap(), vmid);
    let frame = machine.allocate(PAGE_SIZE).unwrap();
    tables.map(address, frame, 3, 0b11);
    host.smmus[0].attach(NIC, tables.stage2()).unwrap();
    assert_eq!(machine.dma(NIC, address, Access::Write), Ok(frame));
    tables.unmap(address, 3);
    assert_eq!(machine.dma(NIC, address, Access::Write), Ok(frame));
    frame
}

#[test]
fn xsa_346_a_frame_is_free_once_nothing_remembers_it() {
    let mut host = Host::new(2);
    let (vmid, address) = (Vmid::new(5), Gpa::new(0x7000));
    let frame = used_frame(&mut host, vmid, address);
    let what = Invalidation::Range(GpaRange::new(address, PAGE_SIZE).unwrap());
    forget(&mut host, vmid, what).unwrap();
    // What an IOMMU may still reach cannot be freed in the simulation.
    host.machines[0].free(frame, PAGE_SIZE);
    assert_eq!(host.cpu_invalidations, [(vmid, what)]);
    // CMD_TLBI_S2_IPA and CMD_SYNC reached both.
    for machine in &host.machines {
        assert!(machine.take_commands().ends_with(&[0x2a, 0x46]));
    }
}

#[test]
fn xsa_373_without_an_answer_nothing_is_forgotten() {
    let mut host = Host::new(2);
    let (vmid, address) = (Vmid::new(5), Gpa::new(0x7000));
    let frame = used_frame(&mut host, vmid, address);
    // One of the two is enough.
    host.machines[1].set_pace(Pace::Stuck);
    let forgotten = forget(&mut host, vmid, Invalidation::All);
    assert_eq!(forgotten, Err(IommuError::TimedOut("CMD_SYNC")));
    host.machines[1].set_pace(Pace::PerLook(1));
    forget(&mut host, vmid, Invalidation::All).unwrap();
    host.machines[0].free(frame, PAGE_SIZE);
}

#[test]
fn xsa_207_without_iommus_the_cpus_are_enough() {
    let mut host = Host::new(0);
    let vmid = Vmid::new(9);
    // The VMID itself, to be given to another domain.
    forget(&mut host, vmid, Invalidation::All).unwrap();
    assert_eq!(host.cpu_invalidations, [(vmid, Invalidation::All)]);
}
