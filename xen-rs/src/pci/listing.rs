//! What a toolstack is told of each function.

use alloc::vec::Vec;

use pci_host::HostSbdf;
use pci_host::registry::{Condition, Entry, Owner, Refusal, Registry};
use pci_host::reset::Method;
use xen_abi::DomId;

use super::{PCI, Pci};

/// A function, whose it is, and whether a guest can have it.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// Its name.
    pub sbdf: HostSbdf,
    /// Who has it.
    pub owner: Owner<DomId>,
    /// The first function of the group that it moves with.
    pub group: HostSbdf,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Class code.
    pub class: u32,
    /// The gentlest way to reset it.
    pub reset: Option<Method>,
    /// Why it cannot be assigned, whoever had it.
    pub refusal: Option<Refusal<DomId>>,
}

impl Listed {
    fn new(registry: &Registry<DomId>, entry: &Entry<DomId>) -> Self {
        let device = entry.device();
        let lasting = registry.lasting_refusal(device.sbdf).ok().flatten();
        let broken = match entry.owner() {
            Owner::Quarantine(Condition::Broken(error)) => Some(Refusal::Broken(error)),
            _ => None,
        };
        Self {
            sbdf: device.sbdf,
            owner: entry.owner(),
            group: entry.group().0,
            vendor: device.vendor,
            device: device.device,
            class: device.class.bits(),
            reset: entry.reset_methods().first().copied(),
            refusal: lasting.or(broken),
        }
    }
}

/// What is known of a function; `None` for one that is not there.
pub fn look_up(sbdf: HostSbdf) -> Option<Listed> {
    let pci = PCI.get()?;
    let mut registry = pci.registry.lock();
    refresh(pci, &mut registry, sbdf);
    let entry = registry.get(sbdf).ok()?;
    Some(Listed::new(&registry, entry))
}

/// At most `most` functions of the machine in the order of their names, from the `first` on, and how
/// many there are.
pub fn list(first: u32, most: u32) -> (Vec<Listed>, u32) {
    let Some(pci) = PCI.get() else {
        return (Vec::new(), 0);
    };
    let mut registry = pci.registry.lock();
    let total = registry.iter().len() as u32;
    let some = registry.iter().skip(first as usize).take(most as usize);
    let some: Vec<HostSbdf> = some.map(Entry::sbdf).collect();
    for &sbdf in &some {
        refresh(pci, &mut registry, sbdf);
    }
    let entries = some.iter().filter_map(|sbdf| registry.get(*sbdf).ok());
    let listed = entries.map(|entry| Listed::new(&registry, entry));
    (listed.collect(), total)
}

/// Notes where the hardware domain has put a function that it has.
fn refresh(pci: &Pci, registry: &mut Registry<DomId>, sbdf: HostSbdf) {
    let owner = registry.get(sbdf).map(Entry::owner);
    if owner == Ok(Owner::HardwareDomain) {
        // It is there, as was just seen.
        let _ = registry.note_addresses(sbdf, &pci.bridges);
    }
}
