//! Functions that appear after the machine was enumerated: that are plugged in, that get another
//! number because a bridge before them does, or that are virtual and have been enabled.

use alloc::boxed::Box;

use crate::config::{ConfigAccess, Function};
use crate::enumerate::{BusNumbers, isolate};
use crate::{Device, HostSbdf, header};

/// What answers at a name that nothing was known of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Newcomer {
    /// Nothing that could be used.
    Nobody,
    /// A function that says that it is not ready yet.
    NotReady,
    /// This function.
    Function(Box<Device>),
}

/// Looks whether a function is at `sbdf`, and what it is. The functions `known` of its segment are
/// those that may lead to it; the root bus is `root_bus`.
///
/// It has to be idle, as any that nobody has used yet is: its registers are sized.
pub fn look<'a, C: ConfigAccess + ?Sized>(
    config: &C,
    known: impl Iterator<Item = &'a Device> + Clone,
    root_bus: u8,
    sbdf: HostSbdf,
) -> Newcomer {
    let function = Function::new(config, sbdf);
    if let Some(device) = read_virtual(function, config, known.clone()) {
        return Newcomer::Function(Box::new(device));
    }
    match function.read(header::VENDOR_ID) {
        header::NO_VENDOR | 0 => return Newcomer::Nobody,
        header::NOT_READY_VENDOR => return Newcomer::NotReady,
        _ => {}
    }
    let parent = match sbdf.bus() == root_bus {
        true => None,
        false => match known
            .into_iter()
            .find(|bridge| leads_to(config, bridge, sbdf))
        {
            Some(bridge) => Some(bridge),
            // It answers by a way that nobody has seen.
            None => return Newcomer::Nobody,
        },
    };
    let ari = parent.is_some_and(|port| {
        let express = port.express.filter(|_| port.leads_to_link());
        express.is_some_and(|express| express.ari_is_on(Function::new(config, port.sbdf)))
    });
    match Device::read(function, parent.map(|parent| parent.sbdf), ari) {
        Ok(mut device) => {
            isolate(function, &mut device);
            Newcomer::Function(Box::new(device))
        }
        Err(_) => Newcomer::Nobody,
    }
}

fn leads_to<C: ConfigAccess + ?Sized>(config: &C, bridge: &Device, sbdf: HostSbdf) -> bool {
    bridge.is_bridge()
        && bridge.sbdf.segment() == sbdf.segment()
        && BusNumbers::read(Function::new(config, bridge.sbdf)).secondary == sbdf.bus()
}

/// The virtual function that it is, of one of the known physical functions.
fn read_virtual<'a, C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    config: &C,
    known: impl Iterator<Item = &'a Device>,
) -> Option<Device> {
    let sbdf = function.sbdf();
    let mut found = known.filter_map(|physical| {
        let sr_iov = physical.sr_iov?;
        if physical.sbdf.segment() != sbdf.segment() {
            return None;
        }
        let placement = sr_iov.enabled(Function::new(config, physical.sbdf))?;
        let index = placement.index(physical.sbdf.requester(), sbdf.requester())?;
        let physical = physical.with_addresses_of(Function::new(config, physical.sbdf));
        Device::read_virtual(function, &physical, index)
    });
    found.next()
}

#[cfg(test)]
mod tests;
