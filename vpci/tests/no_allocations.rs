//! An access of a guest or of the hardware domain allocates nothing: no guest can use the hypervisor's
//! heap up by what it reads and writes.

use allocation_counter::measure;
use pci_host::bar::Bar;
use pci_host::bridge::BusRange;
use pci_host::config::ConfigAccess;
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::{Fabric, Slot, machines, samples};
use pci_host::{Access, ConfigOffset, Device, HostSbdf, Width};
use vpci::access::GuestAccess;
use vpci::bus::GuestPci;
use vpci::guest::{GuestFunction, GuestWindows, Interrupts};
use vpci::hardware::{HardwareFunction, HardwarePci};
use xen_types::{Gpa, GpaRange, HpaRange};

const WINDOW: u64 = 0x2000_0000;
/// Patterns that are written everywhere: all of a register, and what switches it on and off.
const PATTERNS: [u64; 4] = [u64::MAX, WINDOW, 0x8000_0407, 0];

/// Hardware that keeps nothing.
struct Nothing;

impl ConfigAccess for Nothing {
    fn read(&self, _: HostSbdf, _: Access) -> u32 {
        0
    }

    fn write(&self, _: HostSbdf, _: Access, _: u32) {}
}

/// Each register of config space, by each width.
fn accesses() -> impl Iterator<Item = GuestAccess> {
    let widths = [Width::Byte, Width::Word, Width::Dword];
    widths.into_iter().flat_map(|width| {
        let offsets = (0..4096).step_by(usize::from(width.bytes()));
        offsets
            .filter_map(move |offset| GuestAccess::new(ConfigOffset::new(offset)?, width.bytes()))
    })
}

fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[test]
fn accesses_allocate_nothing() {
    let fabric = Fabric::new([
        Slot::new(1, 0, samples::nvme()),
        Slot::new(2, 0, samples::igb()),
    ]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let mut devices = enumerate(&bridge, &fabric).devices;
    assign(&bridge, &mut devices);
    assert!(devices.len() >= 2, "{devices:?}");
    for device in &devices {
        let place = |bar: &Bar| {
            let description = bridge.description();
            description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
        };
        let guest = GuestFunction::new(&bridge, device, Interrupts::ALL, place);
        assert_eq!(by_guest(guest), 0, "{}", device.sbdf);
        let hardware = HardwareFunction::new(&bridge, device);
        assert_eq!(by_hardware_domain(hardware, device), 0, "{}", device.sbdf);
    }
}

fn by_guest(mut function: GuestFunction) -> u64 {
    const BAR: u64 = 0x10_0000;
    for bar in 0..6 {
        function.set_address(bar, WINDOW + u64::from(bar) * BAR);
    }
    let memory = GpaRange::new(Gpa::new(WINDOW), 0x1000_0000).expect("a constant");
    let mut pci = GuestPci::new([GuestWindows {
        memory: vec![memory],
        io: None,
    }]);
    let name = pci.add(0, function).expect("an empty bus");
    let command = ConfigOffset::new(4).expect("a constant");
    let command = GuestAccess::new(command, 2).expect("a constant");
    let mut trapped = 0;
    let allocated = allocations(|| {
        // With its memory decoded: its vectors.
        pci.write(&Nothing, name, command, 0x406);
        while pci.next_effect(&Nothing, name).is_some() {}
        for offset in (0..6 * BAR).filter(|offset| offset % BAR < 0x4000 && offset % 4 == 0) {
            let address = Gpa::new(WINDOW + offset);
            trapped += u32::from(pci.write_trapped(address, 4, u64::MAX).is_some());
            pci.read_trapped(address, 4);
            while pci.next_effect(&Nothing, name).is_some() {}
        }
        for access in accesses() {
            for pattern in PATTERNS {
                pci.write(&Nothing, name, access, pattern);
                pci.read(&Nothing, name, access);
                while pci.next_effect(&Nothing, name).is_some() {}
            }
        }
    });
    assert!(trapped > 0, "no vector is trapped");
    allocated
}

fn by_hardware_domain(function: HardwareFunction, device: &Device) -> u64 {
    let mut pci = HardwarePci::default();
    pci.add(function);
    let locate = |_, address, size| HpaRange::new(xen_types::Hpa::new(address), size);
    allocations(|| {
        for access in accesses() {
            for pattern in PATTERNS {
                pci.write(&Nothing, device.sbdf, access, pattern);
                pci.read(&Nothing, device.sbdf, access);
                while pci.next_effect(&Nothing, device.sbdf, &locate).is_some() {}
            }
        }
    })
}
