//! Stage 2 as `xen-core` writes it for CPUs, walked by devices behind a simulated SMMUv3.

use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use smmu::simulated::{Denied, Ids, Machine};
use smmu::v3::{Capabilities, Setup, Smmu};
use smmu::{Access, DmaMemory, Invalidation, Iommu, Stage2, StreamId, Vmid, Walk};
use xen_core::paging::stage2::{self, Attributes, Geometry};
use xen_core::paging::{OutOfTables, PageTable, Remembered, TableMemory, Unreachable};
use xen_types::{Gpa, GpaRange, Hpa, Mfn, PAGE_SIZE};

const NIC: StreamId = StreamId::new(0x10);
const VMID: Vmid = Vmid::new(3);
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Table memory that invalidates the SMMU's TLB as it does the CPUs'.
struct Tables {
    machine: Machine,
    smmu: Rc<RefCell<Smmu<Machine>>>,
}

impl Tables {
    fn at(table: Mfn, index: usize) -> Hpa {
        let start = table.address().unwrap();
        start.checked_add(8 * index as u64).unwrap()
    }
}

impl TableMemory for Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        let table = self.machine.allocate(PAGE_SIZE).ok_or(OutOfTables)?;
        self.machine.clean(table, PAGE_SIZE);
        self.machine.barrier();
        Ok(table.frame())
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        let table = table.release();
        self.machine.free(table.address().unwrap(), PAGE_SIZE);
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        self.machine.read(Self::at(table, index))
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        let at = Self::at(table, index);
        self.machine.write(at, descriptor);
        if !self.smmu.borrow().sees_caches() {
            self.machine.clean(at, 8);
        }
        self.machine.barrier();
    }

    fn invalidate(&mut self, address: u64) -> Result<(), Remembered> {
        let range = GpaRange::new(Gpa::new(address), PAGE_SIZE).unwrap();
        let mut smmu = self.smmu.borrow_mut();
        smmu.invalidate(VMID, Invalidation::Range(range)).unwrap();
        smmu.sync().unwrap();
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Remembered> {
        // The device goes on walking them.
        Err(Remembered)
    }
}

/// A domain and a device of its.
struct Guest {
    machine: Machine,
    table: PageTable<stage2::Stage2>,
    memory: Tables,
}

impl Guest {
    /// A guest of a CPU with `physical_bits`, which has a page at 0 for ever.
    fn new(ids: Ids, physical_bits: u32) -> Self {
        let machine = Machine::new(ids);
        let capabilities = Capabilities::read(&machine).unwrap();
        let setup = Setup {
            stream_bits: 16,
            coherent: true,
        };
        let smmu = Smmu::start(machine.clone(), capabilities, setup).unwrap();
        let smmu = Rc::new(RefCell::new(smmu));
        let mut memory = Tables {
            machine: machine.clone(),
            smmu: smmu.clone(),
        };
        let geometry = Geometry::new(physical_bits, false);
        let mut table = PageTable::new(&mut memory).unwrap();
        let page = Hpa::new(0x9000_0000);
        let ram = Attributes::Ram;
        table.map(&mut memory, 0, page, PAGE_SIZE, ram).unwrap();
        let root = geometry.hardware_root(&table, &memory).unwrap();
        let walk = Walk::from_vtcr_el2(geometry.vtcr_el2()).unwrap();
        assert_eq!(walk.input_bits(), geometry.input_bits());
        let stage2 = Stage2::new(root.address().unwrap(), walk, VMID).unwrap();
        smmu.borrow_mut().attach(NIC, stage2).unwrap();
        Self {
            machine,
            table,
            memory,
        }
    }

    fn map(&mut self, input: u64, output: u64, size: u64, attributes: Attributes) {
        let output = Hpa::new(output);
        self.table
            .map(&mut self.memory, input, output, size, attributes)
            .unwrap();
    }

    fn unmap(&mut self, input: u64, size: u64) {
        self.table.unmap(&mut self.memory, input, size).unwrap();
    }

    fn dma(&self, address: u64, access: Access) -> Result<Hpa, Denied> {
        self.machine.dma(NIC, Gpa::new(address), access)
    }

    /// What the CPU finds there.
    fn expected(&self, address: u64, access: Access) -> Result<Hpa, Denied> {
        let found = self.table.lookup(&self.memory, address);
        let allowed = |attributes| access == Access::Read || attributes != Attributes::ReadOnlyRam;
        let allowed = found.filter(|found| allowed(found.attributes));
        allowed.map(|found| found.output).ok_or(Denied::Aborted)
    }
}

/// An SMMU with physical addresses of as many bits as that value of IDR5.OAS says.
fn with_size(code: u32) -> Ids {
    let mut ids = Ids::default();
    ids.0[5] = 1 << 4 | code;
    ids
}

#[test]
fn xsa_390_devices_walk_as_cpus_do() {
    // CPUs of every size with SMMUs of their size and larger; and a CPU of 48 bits with QEMU's 44.
    let sizes = [32, 36, 40, 42, 44, 48];
    let pairs = (0..sizes.len()).flat_map(|cpu| (cpu..sizes.len()).map(move |smmu| (cpu, smmu)));
    for (cpu, smmu) in pairs.chain([(5, 4)]) {
        let mut guest = Guest::new(with_size(smmu as u32), sizes[cpu]);
        let reach = sizes[cpu.min(smmu)].min(Geometry::new(sizes[cpu], false).input_bits());
        let highest = (1 << reach) - PAGE_SIZE;
        guest.map(highest, 0x4000_0000, PAGE_SIZE, Attributes::Ram);
        guest.map(2 * MIB, 0x4020_0000, 2 * MIB, Attributes::ReadOnlyRam);
        guest.map(GIB, 0x8000_0000, GIB, Attributes::Device);
        for address in [
            0,
            highest,
            2 * MIB,
            4 * MIB - 8,
            4 * MIB,
            GIB + 0x1234_5678,
            2 * GIB,
        ] {
            for access in [Access::Read, Access::Write] {
                let expected = guest.expected(address, access);
                assert_eq!(guest.dma(address, access), expected, "{address:#x}");
            }
        }
        assert_eq!(guest.machine.violations(), Vec::<String>::new());
    }
}

#[test]
fn xsa_321_a_walker_that_sees_no_caches_sees_every_change() {
    let mut guest = Guest::new(Ids::default().incoherent(), 44);
    for round in 0..10 {
        let output = 0x4000_0000 + round * 2 * MIB;
        guest.map(2 * MIB, output, 2 * MIB, Attributes::Ram);
        assert_eq!(
            guest.dma(3 * MIB, Access::Write),
            Ok(Hpa::new(output + MIB))
        );
        // The block becomes a table; its rest stays.
        guest.unmap(3 * MIB, PAGE_SIZE);
        assert_eq!(guest.dma(3 * MIB, Access::Write), Err(Denied::Aborted));
        assert_eq!(guest.dma(2 * MIB, Access::Write), Ok(Hpa::new(output)));
        guest.unmap(2 * MIB, 2 * MIB);
        assert_eq!(guest.dma(2 * MIB, Access::Write), Err(Denied::Aborted));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u64, u64, Attributes),
    Unmap(u64, u64),
}

/// Ranges around the borders of blocks, in pages of 4 KiB.
fn step() -> impl Strategy<Value = Step> {
    let first = prop_oneof![1_u64..8, 508_u64..516, 1020_u64..1028];
    let pages = prop_oneof![1_u64..4, 510_u64..514, Just(512)];
    let attributes = prop_oneof![
        Just(Attributes::Ram),
        Just(Attributes::ReadOnlyRam),
        Just(Attributes::Device)
    ];
    prop_oneof![
        (first.clone(), pages.clone(), attributes).prop_map(|(at, n, a)| Step::Map(at, n, a)),
        (first, pages).prop_map(|(at, n)| Step::Unmap(at, n)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_device_always_reaches_what_the_cpu_reaches(
        ranges: bool,
        physical_bits in prop_oneof![Just(40), Just(44)],
        steps in proptest::collection::vec(step(), 1..12),
    ) {
        let ids = if ranges { Ids::default() } else { Ids::default().without_ranges() };
        let mut guest = Guest::new(ids, physical_bits);
        for step in steps {
            match step {
                Step::Map(first, pages, attributes) => {
                    // What is there already is refused, and stays.
                    // Above the tables of the machine.
                    let output = Hpa::new(16 * GIB + first * PAGE_SIZE);
                    let (input, size) = (first * PAGE_SIZE, pages * PAGE_SIZE);
                    let _ = guest.table.map(&mut guest.memory, input, output, size, attributes);
                }
                Step::Unmap(first, pages) => guest.unmap(first * PAGE_SIZE, pages * PAGE_SIZE),
            }
            for page in 0..1600 {
                for access in [Access::Read, Access::Write] {
                    let address = page * PAGE_SIZE;
                    prop_assert_eq!(guest.dma(address, access), guest.expected(address, access));
                }
            }
        }
        prop_assert_eq!(guest.machine.violations(), Vec::<String>::new());
    }
}
