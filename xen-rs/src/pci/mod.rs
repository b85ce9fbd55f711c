//! The machine's PCI: its host bridges, who is behind them, and whose each function is.
//!
//! Host bridges are those of the device tree. What `pci-host` has a driver for is enumerated at boot,
//! and gets addresses where firmware left none; of the others nothing is known but how IOMMUs see what
//! is behind them, and the control domain has them as they are.
//!
//! - `view`: the bus as the control domain finds it, trapped from the start.
//! - `quarantine`: functions that it does not have.
//! - `told`: what it says itself of its functions.
//! - `assign` and `take_back`: functions that guests get and lose; `resets` in between.
//! - `guest`: a guest's bus.
//! - `listing`: what a toolstack is told of each function.
//! - `messages`: their message interrupts. `intx`: their pins.
//! - `registers`: how `pci-host` reaches registers.
//!
//! Locks are taken in this order: the lines of `intx`, the state of a view or of a guest's bus, the registry, then what mapping
//! and IOMMUs need.

mod assign;
mod guest;
pub mod intx;
mod listing;
mod messages;
mod quarantine;
mod registers;
mod resets;
mod take_back;
pub mod told;
mod view;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use log::{info, warn};
use pci_host::bridge::{Bridge, BridgeError, Bridges, Description};
pub use pci_host::discovery::Addresses;
use pci_host::discovery::{self, Discovery};
use pci_host::registry::Registry;
use pci_host::{Device, HostSbdf};
use platform_dt::dom0::GuestBridge;
use platform_dt::{Dtb, MappedId, PciBridge};
use spin::Once;
use xen_abi::DomId;
use xen_types::HpaRange;

pub use self::assign::{assign, can_assign, test};
pub use self::guest::{Answer, GuestBus, GuestPlace, Slot};
pub use self::listing::{Listed, list, look_up};
pub use self::quarantine::{QuarantineError, hide, hides_any, owner, quarantine, release};
use self::registers::{Aborting, Clock, Memory};
pub use self::take_back::{take_back, take_back_all};
use self::view::View;
pub use self::view::{Place, find, introduce};
use crate::lock::IrqLock;
use crate::memory::device::{self, MapError};

/// The domain that has the machine's devices.
pub const HARDWARE_DOMAIN: DomId = DomId::new(0);

/// How far something is that is done a part at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress<T> {
    /// It is done.
    Done(T),
    /// There is more to do, or another CPU is at it.
    Again,
}

/// What is known of the machine's PCI.
struct Pci {
    bridges: Bridges,
    /// Host bridges without a driver here.
    undriven: Vec<Description>,
    registry: IrqLock<Registry<DomId>>,
}

static PCI: Once<Pci> = Once::new();
static VIEWS: Once<Vec<View>> = Once::new();

/// Why a host bridge is not driven.
#[derive(Debug, thiserror::Error)]
enum DriveError {
    #[error("{0}")]
    Bridge(#[from] BridgeError),
    #[error("{bridge}: {error}")]
    Map { bridge: String, error: MapError },
}

/// Finds all functions and numbers buses. The machine is at rest, and IOMMUs let nothing through.
pub fn init(tree: &Dtb<'_>, addresses: Addresses) {
    let mut nodes = Vec::new();
    for bridge in PciBridge::all(tree) {
        match bridge {
            Ok(bridge) => nodes.push(bridge),
            Err(error) => warn!("pci: {error}"),
        }
    }
    // A bridge that a guest shall have is nobody else's.
    let kept = |path: &str| {
        let node = tree.nodes().find(|node| alloc::format!("{node}") == path);
        node.is_none_or(|node| node.property("xen,passthrough").is_none())
    };
    let mut bridges = Bridges::new();
    let mut undriven = Vec::new();
    for description in Description::from_device_tree(nodes) {
        if !kept(&description.name) {
            continue;
        }
        let driven = drive(description.clone())
            .and_then(|bridge| bridges.add(bridge).map_err(DriveError::from));
        if let Err(error) = driven {
            warn!(
                "pci: {error}: the control domain drives it, and no guest gets what is behind it"
            );
            undriven.push(description);
        }
    }
    let Discovery { devices, faults } = discovery::discover(&bridges, &Clock, addresses);
    for (sbdf, fault) in faults {
        warn!("pci: {sbdf}: {fault}");
    }
    let registry = Registry::new(devices, |device| discovery::stream_number(&bridges, device));
    let pci = PCI.call_once(|| Pci {
        bridges,
        undriven,
        registry: IrqLock::new(registry),
    });
    pci.bridges.iter().for_each(|bridge| announce(pci, bridge));
    VIEWS.call_once(|| pci.bridges.iter().filter_map(View::new).collect());
}

fn drive(description: Description) -> Result<Bridge, DriveError> {
    let driver = description.driver()?;
    let range = description.registers.first().copied();
    let range = range.ok_or_else(|| BridgeError::NoRegisters {
        bridge: description.name.clone(),
    })?;
    // A bus has a megabyte of config space at most.
    let used = u64::from(description.buses.count()) << 20;
    let used = HpaRange::new(range.start(), range.size().min(used)).unwrap_or(range);
    let registers = device::map(used).map_err(|error| DriveError::Map {
        bridge: description.name.clone(),
        error,
    })?;
    Ok(match driver.aborts {
        true => Bridge::probe(description, Box::new(Aborting(registers)))?,
        false => Bridge::probe(description, Box::new(Memory(registers)))?,
    })
}

fn announce(pci: &Pci, bridge: &Bridge) {
    let description = bridge.description();
    let registry = pci.registry.lock();
    let functions = registry.iter().filter(|entry| {
        let sbdf = entry.sbdf();
        sbdf.segment() == description.segment && description.buses.contains(sbdf.bus())
    });
    info!(
        "pci: {}: {}, segment {:#x}, buses {}, {} function(s)",
        description.name,
        description.driver().map_or("", |driver| driver.name),
        description.segment,
        description.buses,
        functions.count(),
    );
}

impl Pci {
    /// The description of the host bridge that a function is behind, if there is one.
    fn description(&self, sbdf: HostSbdf) -> Option<&Description> {
        let driven = self.bridges.of(sbdf).map(Bridge::description);
        driven.or_else(|| self.undriven(sbdf))
    }

    fn undriven(&self, sbdf: HostSbdf) -> Option<&Description> {
        self.undriven.iter().find(|description| {
            description.segment == sbdf.segment() && description.buses.contains(sbdf.bus())
        })
    }

    fn stream_number(&self, device: &Device) -> Option<u64> {
        discovery::stream_number(&self.bridges, device)
    }
}

/// All streams that a function's requests may have; none where no IOMMU stands behind it.
pub fn streams(sbdf: HostSbdf) -> Vec<MappedId> {
    let Some(pci) = PCI.get() else {
        return Vec::new();
    };
    let Some(description) = pci.description(sbdf) else {
        return Vec::new();
    };
    let aliases = pci.registry.lock().aliases(sbdf);
    let requesters = core::iter::once(sbdf.requester()).chain(aliases);
    let mut streams: Vec<MappedId> = requesters
        .filter_map(|requester| description.routes.stream(requester))
        .collect();
    streams.sort_unstable();
    streams.dedup();
    streams
}

/// The host bridges whose functions no IOMMU holds back.
pub fn unguarded() -> impl Iterator<Item = &'static str> {
    let all = PCI.get().into_iter().flat_map(descriptions);
    let unguarded = all.filter(|description| description.routes.iommu.is_none());
    unguarded.map(|description| description.name.as_str())
}

fn descriptions(pci: &Pci) -> impl Iterator<Item = &Description> {
    let driven = pci.bridges.iter().map(Bridge::description);
    driven.chain(&pci.undriven)
}

/// The host bridges, as the control domain finds them.
pub fn guest_bridges() -> Vec<GuestBridge<'static>> {
    let Some(pci) = PCI.get() else {
        return Vec::new();
    };
    let bridge = |description: &'static Description, driven| GuestBridge {
        path: &description.name,
        domain: description.segment,
        driven,
    };
    let driven = pci.bridges.iter().map(Bridge::description);
    let driven = driven.map(|description| bridge(description, true));
    let undriven = pci.undriven.iter();
    let undriven = undriven.map(|description| bridge(description, false));
    driven.chain(undriven).collect()
}

/// Logs all functions, and whose they are.
pub fn show() {
    let Some(pci) = PCI.get() else {
        return info!("pci: there is none");
    };
    let registry = pci.registry.lock();
    for entry in registry.iter() {
        let device = entry.device();
        info!(
            "pci: {} {:04x}:{:04x} {}: {}",
            device.sbdf,
            device.vendor,
            device.device,
            device.class,
            entry.owner()
        );
    }
    if registry.iter().next().is_none() {
        info!("pci: there are no functions");
    }
}
