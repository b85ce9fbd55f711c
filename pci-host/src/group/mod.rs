//! Isolation groups: functions that can reach each other, or that an IOMMU cannot tell apart. A group
//! belongs to one domain.
//!
//! What makes functions of one group:
//! - a bus of conventional PCI, whose requests carry the bridge's requester id (PCI Express to
//!   PCI/PCI-X Bridge 1.0, 2.3) and which all hear;
//! - a port without access control services that work (PCI Express Base 6.0, 6.12): behind it, and
//!   in a switch beside it, functions may reach each other without going by the IOMMU;
//! - a device of several functions without them: its functions may reach each other inside it;
//! - the same stream ID.

mod sets;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use self::sets::Sets;
use crate::capability::{AcsFlags, PortType};
use crate::{Device, HostSbdf, RequesterId};

/// A group: the name of its first function.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub HostSbdf);

/// Devices of several functions without access control services of which the vendor says that their
/// functions do not reach each other: Intel's 82571, 82575, 82576, 82580, 82599 and I350.
const ISOLATED_INSIDE: &[(u16, &[u16])] = &[(
    0x8086,
    &[
        0x105e, 0x10a7, 0x10a9, 0x10c9, 0x10d6, 0x10e6, 0x10e7, 0x10e8, 0x1507, 0x1509, 0x150a,
        0x150d, 0x150e, 0x150f, 0x1510, 0x1511, 0x1514, 0x1516, 0x1518, 0x151c, 0x1521, 0x1522,
        0x1523, 0x1524, 0x1526, 0x1527, 0x1529, 0x152a, 0x154d, 0x154f, 0x1551, 0x1558,
    ],
)];

/// The group of each of `devices`, in their order. `stream` says which IOMMU and which of its stream
/// IDs a function has, as a number of its own for each.
pub fn groups(devices: &[Device], stream: impl Fn(&Device) -> Option<u64>) -> Vec<GroupId> {
    let tree = Tree::new(devices);
    let mut sets = Sets::new(devices.len());
    for (place, device) in devices.iter().enumerate() {
        if device.is_bridge() {
            tree.join_bridge(&mut sets, place, device);
        }
    }
    tree.join_devices(&mut sets);
    join_streams(devices, &mut sets, stream);
    let of = |place| {
        let first = devices.get(sets.find(place));
        first.map(|device| GroupId(device.sbdf))
    };
    (0..devices.len()).filter_map(of).collect()
}

/// The requester ids that requests of a function may arrive with, besides its own (XSA-33, XSA-449):
/// those of the bridges to conventional PCI that it is behind.
pub fn aliases<'a>(
    devices: impl Iterator<Item = &'a Device> + Clone,
    function: HostSbdf,
) -> Vec<RequesterId> {
    let of = |sbdf: HostSbdf| devices.clone().find(|device| device.sbdf == sbdf);
    let mut aliases = Vec::new();
    let mut next = of(function);
    while let Some(device) = next {
        if device.is_bridge() && is_conventional(device) {
            // Which of both it is, is the bridge's choice: its own, or function 0 of device 0 of the bus
            // behind it, if anything is there.
            aliases.push(device.sbdf.requester());
            let child = devices
                .clone()
                .find(|child| child.parent == Some(device.sbdf));
            aliases.extend(child.map(|child| RequesterId::ari(child.sbdf.bus(), 0)));
        }
        next = device.parent.and_then(of);
    }
    aliases
}

/// Who is behind whom.
struct Tree<'a> {
    devices: &'a [Device],
    places: BTreeMap<HostSbdf, usize>,
    children: BTreeMap<HostSbdf, Vec<usize>>,
}

impl<'a> Tree<'a> {
    fn new(devices: &'a [Device]) -> Self {
        let mut places = BTreeMap::new();
        let mut children: BTreeMap<HostSbdf, Vec<usize>> = BTreeMap::new();
        for (place, device) in devices.iter().enumerate() {
            places.insert(device.sbdf, place);
            if let Some(parent) = device.parent {
                children.entry(parent).or_default().push(place);
            }
        }
        Self {
            devices,
            places,
            children,
        }
    }

    fn children(&self, bridge: HostSbdf) -> &[usize] {
        self.children.get(&bridge).map_or(&[], Vec::as_slice)
    }

    fn join_bridge(&self, sets: &mut Sets, place: usize, bridge: &Device) {
        if is_conventional(bridge) {
            self.children(bridge.sbdf)
                .iter()
                .for_each(|child| sets.join(place, *child));
        }
        if !bridge.leads_to_link() || is_isolating(bridge) {
            return;
        }
        let in_switch = is_port(bridge, PortType::SwitchDownstream);
        // From below the port, a request may go down again behind any other port of the switch.
        match bridge.parent.filter(|_| in_switch) {
            Some(upstream) => self.join_all(sets, place, upstream),
            None => self.join_all(sets, place, bridge.sbdf),
        }
    }

    /// Joins all that is behind `bridge`, at any depth, with `place`.
    fn join_all(&self, sets: &mut Sets, place: usize, bridge: HostSbdf) {
        let mut bridges = alloc::vec![bridge];
        while let Some(bridge) = bridges.pop() {
            for &child in self.children(bridge) {
                sets.join(place, child);
                bridges.extend(self.devices.get(child).map(|child| child.sbdf));
            }
        }
    }

    /// Joins the functions of each device that do not keep apart. Virtual functions do (9.2.2).
    fn join_devices(&self, sets: &mut Sets) {
        let mut open: BTreeMap<(u16, u16), usize> = BTreeMap::new();
        for (place, device) in self.devices.iter().enumerate() {
            if device.physical.is_some() || is_isolating(device) || keeps_apart(device) {
                continue;
            }
            let key = (device.sbdf.segment(), self.device_key(device));
            let first = *open.entry(key).or_insert(place);
            sets.join(first, place);
        }
    }

    /// What functions of one device have in common. On a link, all are of one device: with
    /// alternative routing ids they have no device number.
    fn device_key(&self, device: &Device) -> u16 {
        let requester = device.sbdf.requester();
        let parent = device.parent.and_then(|parent| self.places.get(&parent));
        let parent = parent.and_then(|place| self.devices.get(*place));
        if parent.is_some_and(Device::leads_to_link) {
            requester.bits() & 0xff00
        } else {
            requester.bits() & 0xfff8
        }
    }
}

fn is_port(device: &Device, port: PortType) -> bool {
    device.express.is_some_and(|express| express.port == port)
}

/// Whether behind the bridge is conventional PCI, or before it.
fn is_conventional(bridge: &Device) -> bool {
    match bridge.express {
        None => true,
        Some(express) => matches!(express.port, PortType::ToPci | PortType::FromPci),
    }
}

/// Whether access control services isolate. What they leave out, the function does not do (6.12.1).
fn is_isolating(device: &Device) -> bool {
    device.acs.is_some_and(|acs| {
        let wanted = AcsFlags::ISOLATION & acs.capable;
        acs.enabled.contains(wanted)
    })
}

fn keeps_apart(device: &Device) -> bool {
    let of_vendor = |(vendor, _): &&(u16, &[u16])| *vendor == device.vendor;
    let listed = ISOLATED_INSIDE.iter().find(of_vendor);
    listed.is_some_and(|(_, devices)| devices.contains(&device.device))
}

fn join_streams(devices: &[Device], sets: &mut Sets, stream: impl Fn(&Device) -> Option<u64>) {
    let mut first: BTreeMap<u64, usize> = BTreeMap::new();
    for (place, device) in devices.iter().enumerate() {
        if let Some(stream) = stream(device) {
            let first = *first.entry(stream).or_insert(place);
            sets.join(first, place);
        }
    }
}

#[cfg(test)]
mod tests;
