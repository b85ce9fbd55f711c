//! All of the machine's PCI at once: what is behind every host bridge, with addresses.

use alloc::vec::Vec;

use platform_dt::MappedId;
use thiserror::Error;

use crate::bridge::Bridges;
use crate::device::DeviceFault;
use crate::enumerate::{EnumerationFault, enumerate};
use crate::resources::{ResourceFault, assign};
use crate::{Device, HostSbdf, RequesterId, Time, group};

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovery {
    /// All functions, those of a bridge after the bridge.
    pub devices: Vec<Device>,
    /// What is wrong with some.
    pub faults: Vec<(HostSbdf, Fault)>,
}

/// Something that a person should know of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Fault {
    /// It was not reached, or left alone.
    #[error(transparent)]
    Enumeration(#[from] EnumerationFault),
    /// Its config space is not as it should be.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// It has no addresses.
    #[error(transparent)]
    Resource(#[from] ResourceFault),
}

/// What becomes of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// They are as firmware left them: whoever has the bus arranges it.
    Kept,
    /// What has none gets some.
    Completed,
}

/// Finds all functions of a machine at rest, and numbers buses.
pub fn discover(bridges: &Bridges, time: &dyn Time, addresses: Addresses) -> Discovery {
    let mut all = Discovery::default();
    for bridge in bridges.iter() {
        let mut found = enumerate(bridge, time);
        let resources = match addresses {
            Addresses::Kept => Vec::new(),
            Addresses::Completed => assign(bridge, &mut found.devices),
        };
        let faults = found.faults.into_iter();
        all.faults
            .extend(faults.map(|(sbdf, fault)| (sbdf, fault.into())));
        for device in &found.devices {
            let faults = device.faults.iter();
            all.faults
                .extend(faults.map(|fault| (device.sbdf, (*fault).into())));
        }
        let faults = resources.into_iter();
        all.faults
            .extend(faults.map(|(sbdf, fault)| (sbdf, fault.into())));
        all.devices.append(&mut found.devices);
    }
    all
}

/// A number for a function's stream, the same for functions that an IOMMU cannot tell apart: what
/// [`Registry`](crate::registry::Registry) makes groups by.
pub fn stream_number(bridges: &Bridges, device: &Device) -> Option<u64> {
    let routes = &bridges.of(device.sbdf)?.description().routes;
    let MappedId { controller, id } = routes.stream(device.sbdf.requester())?;
    Some(u64::from(controller) << 32 | u64::from(id))
}

/// All streams that a function's requests may have: its own, and those of the bridges to conventional
/// PCI before it. They are switched together, or not at all (XSA-449). `None` where an IOMMU does not
/// know one of them, or there is none.
pub fn streams(bridges: &Bridges, devices: &[Device], function: HostSbdf) -> Option<Vec<MappedId>> {
    let routes = &bridges.of(function)?.description().routes;
    let own: RequesterId = function.requester();
    let requesters = core::iter::once(own).chain(group::aliases(devices.iter(), function));
    let mut streams: Vec<MappedId> = Vec::new();
    for requester in requesters {
        let stream = routes.stream(requester)?;
        if !streams.contains(&stream) {
            streams.push(stream);
        }
    }
    Some(streams)
}
