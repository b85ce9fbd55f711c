//! Messages of functions that the hardware domain loses and gets back.

use alloc::vec::Vec;

use log::info;
use pci_host::HostSbdf;
use pci_host::registry::{Entry, Owner};
use xen_core::its::DeviceId;
use xen_core::vits::RevokeError;

use super::{PCI, Pci};
use crate::domain::Domain;
use crate::gic::its;

/// An ITS, and what it calls a device.
type Source = (usize, DeviceId);

/// No message of a function reaches the hardware domain any more, whose ITS does not know it.
///
/// # Errors
/// [`RevokeError`].
pub fn revoke(domain: &Domain, sbdf: HostSbdf) -> Result<(), RevokeError> {
    let Some(pci) = PCI.get() else {
        return Ok(());
    };
    let mut outcome = Ok(0);
    for (its, device) in pci.own_sources(sbdf) {
        let revoked = domain.revoke_messages(its, device);
        if let Ok(events @ 1..) = revoked {
            info!("pci: {sbdf}: {events} message interrupt(s) of the control domain end");
        }
        outcome = outcome.and(revoked);
    }
    outcome.map(drop)
}

/// The hardware domain may use messages of a function again.
pub fn restore(domain: &Domain, sbdf: HostSbdf) {
    if let Some(pci) = PCI.get() {
        for (its, device) in pci.sources(sbdf) {
            domain.restore_messages(its, device);
        }
    }
}

/// The way of a function's messages by its own requester id.
pub fn source(pci: &Pci, sbdf: HostSbdf) -> Option<Source> {
    let routes = &pci.description(sbdf)?.routes;
    its::services()?.route(routes.message_source(sbdf.requester())?)
}

/// How many messages a function tells apart at most.
pub fn events(pci: &Pci, sbdf: HostSbdf) -> u32 {
    let registry = pci.registry.lock();
    let Ok(device) = registry.get(sbdf).map(Entry::device) else {
        return 0;
    };
    let msi = device.msi.map_or(0, |msi| 1_u32 << msi.vectors_log2.min(5));
    let msi_x = device.msi_x.map_or(0, |msi_x| msi_x.vectors.into());
    msi.max(msi_x)
}

impl Pci {
    /// How messages of a function arrive, whichever requester id they have.
    fn sources(&self, sbdf: HostSbdf) -> Vec<Source> {
        let aliases = self.registry.lock().aliases(sbdf);
        let requesters = core::iter::once(sbdf.requester()).chain(aliases);
        let Some((description, services)) = self.description(sbdf).zip(its::services()) else {
            return Vec::new();
        };
        let mut sources: Vec<Source> = requesters
            .filter_map(|requester| services.route(description.routes.message_source(requester)?))
            .collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// Of these, those that no function of the hardware domain has as well.
    fn own_sources(&self, sbdf: HostSbdf) -> Vec<Source> {
        let mut sources = self.sources(sbdf);
        // Functions behind a bridge to conventional PCI, whose id they share, are of one group.
        let sharers: Vec<HostSbdf> = {
            let registry = self.registry.lock();
            let group = registry.get(sbdf).map(Entry::group);
            let own = |entry: &&Entry<_>| {
                entry.owner() == Owner::HardwareDomain
                    && !entry.device().is_bridge()
                    && Ok(entry.group()) == group
            };
            registry.iter().filter(own).map(Entry::sbdf).collect()
        };
        for sharer in sharers {
            let theirs = self.sources(sharer);
            sources.retain(|source| !theirs.contains(source));
        }
        sources
    }
}
