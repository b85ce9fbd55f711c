//! Who has which function of the machine.
//!
//! A function goes from the hardware domain to quarantine, is reset there, goes to a guest and comes
//! back to quarantine. It is never between two owners, and what could not be reset stays where it
//! reaches nothing (XSA-302, XSA-306).

mod entry;
mod error;
mod viability;

use alloc::vec::Vec;
use core::fmt;

pub use self::entry::{Condition, Entry, Owner};
pub use self::error::{Refusal, RegistryError};
use crate::config::{ConfigAccess, Function};
use crate::group::{aliases, groups};
use crate::reset::{Method, Reset, ResetError, behind, methods};
use crate::{Device, HostSbdf, RequesterId};

/// How a domain is named.
pub trait DomainName: Copy + Eq + fmt::Display {}

impl<D: Copy + Eq + fmt::Display> DomainName for D {}

/// All functions of the machine. `D` names a domain.
#[derive(Clone, Debug)]
pub struct Registry<D> {
    /// In the order of their names.
    entries: Vec<Entry<D>>,
}

/// How a reset ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResetOutcome {
    /// All that was reset is clean.
    Clean,
    /// It did nothing, and there is another way to try.
    TryAgain,
    /// It failed; what it was for stays in quarantine.
    Broken,
}

impl<D: DomainName> Registry<D> {
    /// Of these functions, which the hardware domain has. `stream` says which IOMMU and which of its
    /// stream IDs a function has: a number of its own for each pair, `None` without an IOMMU.
    pub fn new(devices: Vec<Device>, stream: impl Fn(&Device) -> Option<u64>) -> Self {
        let mut registry = Self {
            entries: Vec::new(),
        };
        registry.rebuild(devices.into_iter().map(fresh).collect(), stream);
        registry
    }

    /// All functions, in the order of their names.
    pub fn iter(&self) -> core::slice::Iter<'_, Entry<D>> {
        self.entries.iter()
    }

    /// The functions of a bus.
    pub fn on_bus(&self, segment: u16, bus: u8) -> impl Iterator<Item = &Entry<D>> {
        let first = HostSbdf::new(segment, RequesterId::ari(bus, 0));
        let before = |entry: &Entry<D>| entry.sbdf() < first;
        let start = self.entries.partition_point(before);
        let on_bus =
            move |entry: &&Entry<D>| entry.sbdf().segment() == segment && entry.sbdf().bus() == bus;
        self.entries.iter().skip(start).take_while(on_bus)
    }

    /// A function.
    pub fn get(&self, sbdf: HostSbdf) -> Result<&Entry<D>, RegistryError<D>> {
        let place = self.place(sbdf)?;
        self.entries.get(place).ok_or(RegistryError::Unknown(sbdf))
    }

    /// Adds functions that were plugged in or enabled, or none of them. The hardware domain has them;
    /// one whose group a guest has is in quarantine.
    pub fn add(
        &mut self,
        devices: Vec<Device>,
        stream: impl Fn(&Device) -> Option<u64>,
    ) -> Result<(), RegistryError<D>> {
        let known = devices
            .iter()
            .find(|device| self.place(device.sbdf).is_ok());
        if let Some(known) = known {
            return Err(RegistryError::Known(known.sbdf));
        }
        let mut entries = core::mem::take(&mut self.entries);
        let new: Vec<HostSbdf> = devices.iter().map(|device| device.sbdf).collect();
        entries.extend(devices.into_iter().map(fresh));
        self.rebuild(entries, stream);
        for sbdf in new {
            if self.guest_in_group(sbdf)?.is_some() {
                self.take(sbdf)?;
            }
        }
        Ok(())
    }

    /// Removes a function, its virtual functions and all behind it, if nobody but the hardware domain
    /// has any of it. Returns what was removed.
    pub fn remove(
        &mut self,
        sbdf: HostSbdf,
        stream: impl Fn(&Device) -> Option<u64>,
    ) -> Result<Vec<HostSbdf>, RegistryError<D>> {
        self.get(sbdf)?;
        let devices = self.devices();
        let mut gone: Vec<HostSbdf> = behind(&devices, sbdf)
            .map(|(_, device)| device.sbdf)
            .collect();
        let virtuals = devices
            .iter()
            .filter(|device| device.physical == Some(sbdf));
        gone.extend(virtuals.map(|device| device.sbdf));
        gone.push(sbdf);
        for &sbdf in &gone {
            let owner = self.get(sbdf)?.owner;
            if matches!(owner, Owner::Domain(_)) {
                return Err(RegistryError::Owned { sbdf, owner });
            }
        }
        let mut entries = core::mem::take(&mut self.entries);
        entries.retain(|entry| !gone.contains(&entry.sbdf()));
        self.rebuild(entries, stream);
        Ok(gone)
    }

    /// Notes that a function of the hardware domain has other addresses than before.
    pub fn note_addresses<C: ConfigAccess + ?Sized>(
        &mut self,
        sbdf: HostSbdf,
        config: &C,
    ) -> Result<(), RegistryError<D>> {
        let entry = self.entry(sbdf)?;
        let function = Function::new(config, sbdf);
        entry.device = entry.device.with_addresses_of(function);
        Ok(())
    }

    /// The requester ids that requests of a function may arrive with, besides its own.
    pub fn aliases(&self, sbdf: HostSbdf) -> Vec<RequesterId> {
        aliases(self.entries.iter().map(Entry::device), sbdf)
    }

    /// Whether `bridge` is before a function, at any distance.
    pub fn is_behind(&self, sbdf: HostSbdf, bridge: HostSbdf) -> bool {
        let parent = |sbdf| self.get(sbdf).ok()?.device.parent;
        // Each parent is on a lower bus.
        let parents = core::iter::successors(parent(sbdf), |at| parent(*at));
        parents.take(usize::from(u8::MAX)).any(|at| at == bridge)
    }

    /// Takes a function from the hardware domain, which must have let go of it, to quarantine.
    pub fn take(&mut self, sbdf: HostSbdf) -> Result<(), RegistryError<D>> {
        let entry = self.entry(sbdf)?;
        if entry.device.is_bridge() {
            let why = Refusal::Bridge;
            return Err(RegistryError::Refused { sbdf, why });
        }
        match entry.owner {
            Owner::HardwareDomain => entry.owner = Owner::Quarantine(Condition::Untouched),
            Owner::Quarantine(_) => {}
            owner @ Owner::Domain(_) => return Err(RegistryError::Owned { sbdf, owner }),
        }
        Ok(())
    }

    /// Gives a function back to the hardware domain: from quarantine, not as a guest has left it, and
    /// not while a guest has something of its group.
    pub fn give_back(&mut self, sbdf: HostSbdf) -> Result<(), RegistryError<D>> {
        if let Some(other) = self.guest_in_group(sbdf)? {
            let (other, owner) = (other.sbdf(), other.owner);
            return Err(RegistryError::GroupInUse { sbdf, other, owner });
        }
        let entry = self.entry(sbdf)?;
        match entry.owner {
            Owner::Quarantine(Condition::Untouched | Condition::Clean) | Owner::HardwareDomain => {
                entry.owner = Owner::HardwareDomain;
                Ok(())
            }
            owner => Err(RegistryError::Owned { sbdf, owner }),
        }
    }

    /// Begins to reset a function that is in quarantine, and what is reset with it: all of that has
    /// to be in quarantine, too. The caller steps the reset and says how it ended.
    pub fn begin_reset<C: ConfigAccess + ?Sized>(
        &mut self,
        sbdf: HostSbdf,
        config: &C,
    ) -> Result<Reset, RegistryError<D>> {
        let entry = self.get(sbdf)?;
        if !entry.owner.is_quarantine() || is_resetting(entry) {
            let owner = entry.owner;
            return Err(RegistryError::Owned { sbdf, owner });
        }
        let Some(&method) = entry.methods.first() else {
            let why = Refusal::NoReset;
            return Err(RegistryError::Refused { sbdf, why });
        };
        let scope = self.scope(sbdf, method);
        for &other in &scope {
            let entry = self.get(other)?;
            let free = entry.owner.is_quarantine() && !is_resetting(entry);
            if !free && !entry.device.is_bridge() {
                let owner = entry.owner;
                return Err(RegistryError::ResetShared { sbdf, other, owner });
            }
        }
        let entries = scope.iter().filter_map(|sbdf| self.get(*sbdf).ok());
        let reset = Reset::new(config, method, entries.map(|entry| &entry.device));
        self.set_condition(&scope, Condition::Resetting);
        Ok(reset)
    }

    /// Notes how the reset of a function ended. A way that does nothing is not tried again.
    pub fn end_reset(
        &mut self,
        sbdf: HostSbdf,
        result: Result<(), ResetError>,
    ) -> Result<ResetOutcome, RegistryError<D>> {
        let entry = self.entry(sbdf)?;
        let (true, Some(&method)) = (is_resetting(entry), entry.methods.first()) else {
            let owner = entry.owner;
            return Err(RegistryError::Owned { sbdf, owner });
        };
        let scope = self.scope(sbdf, method);
        let Err(error) = result else {
            self.set_condition(&scope, Condition::Clean);
            return Ok(ResetOutcome::Clean);
        };
        let entry = self.entry(sbdf)?;
        if matches!(error, ResetError::NoEffect(_)) && entry.methods.len() > 1 {
            entry.useless.push(entry.methods.remove(0));
            self.set_condition(&scope, Condition::Used);
            return Ok(ResetOutcome::TryAgain);
        }
        self.set_condition(&scope, Condition::Broken(error));
        Ok(ResetOutcome::Broken)
    }

    /// Assigns a function that is clean, and whose group nobody else has, to a domain.
    pub fn assign(&mut self, sbdf: HostSbdf, domain: D) -> Result<(), RegistryError<D>> {
        if let Some(why) = self.refusal(sbdf, domain)? {
            return Err(RegistryError::Refused { sbdf, why });
        }
        self.entry(sbdf)?.owner = Owner::Domain(domain);
        Ok(())
    }

    /// Takes a function from the domain that has it to quarantine, where it has to be reset.
    pub fn release(&mut self, sbdf: HostSbdf, domain: D) -> Result<(), RegistryError<D>> {
        let entry = self.entry(sbdf)?;
        if entry.owner != Owner::Domain(domain) {
            let owner = entry.owner;
            return Err(RegistryError::Owned { sbdf, owner });
        }
        entry.owner = Owner::Quarantine(Condition::Used);
        Ok(())
    }

    fn place(&self, sbdf: HostSbdf) -> Result<usize, RegistryError<D>> {
        let found = self
            .entries
            .binary_search_by_key(&sbdf, |entry| entry.sbdf());
        found.map_err(|_| RegistryError::Unknown(sbdf))
    }

    fn entry(&mut self, sbdf: HostSbdf) -> Result<&mut Entry<D>, RegistryError<D>> {
        let place = self.place(sbdf)?;
        self.entries
            .get_mut(place)
            .ok_or(RegistryError::Unknown(sbdf))
    }

    fn devices(&self) -> Vec<Device> {
        let devices = self.entries.iter().map(|entry| entry.device.clone());
        devices.collect()
    }

    /// What a reset by `method` resets, bridges before what is behind them.
    fn scope(&self, sbdf: HostSbdf, method: Method) -> Vec<HostSbdf> {
        match method {
            Method::SecondaryBus(bridge) => behind(&self.devices(), bridge)
                .map(|(_, device)| device.sbdf)
                .collect(),
            _ => alloc::vec![sbdf],
        }
    }

    /// Notes a condition for what is in quarantine.
    fn set_condition(&mut self, scope: &[HostSbdf], condition: Condition) {
        for entry in &mut self.entries {
            if entry.owner.is_quarantine() && scope.contains(&entry.sbdf()) {
                entry.owner = Owner::Quarantine(condition);
            }
        }
    }

    /// Makes the registry of these entries: groups and resets depend on all of them.
    fn rebuild(&mut self, mut entries: Vec<Entry<D>>, stream: impl Fn(&Device) -> Option<u64>) {
        entries.sort_by_key(Entry::sbdf);
        entries.dedup_by_key(|entry| entry.sbdf());
        self.entries = entries;
        let devices = self.devices();
        let groups = groups(&devices, stream);
        for (entry, group) in self.entries.iter_mut().zip(&groups) {
            entry.group = *group;
            entry.methods = methods(&devices, &groups, &entry.device);
            entry
                .methods
                .retain(|method| !entry.useless.contains(method));
        }
    }
}

fn fresh<D>(device: Device) -> Entry<D> {
    Entry {
        group: crate::group::GroupId(device.sbdf),
        device,
        owner: Owner::HardwareDomain,
        methods: Vec::new(),
        useless: Vec::new(),
    }
}

fn is_resetting<D>(entry: &Entry<D>) -> bool {
    matches!(entry.owner, Owner::Quarantine(Condition::Resetting))
}

#[cfg(test)]
mod tests;
