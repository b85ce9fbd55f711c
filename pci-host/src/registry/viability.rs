//! Whether a function can be assigned, and why not.

use super::{Condition, DomainName, Entry, Owner, Refusal, Registry, RegistryError};
use crate::HostSbdf;
use crate::bar::Bar;

/// The smallest piece of memory that a domain can be given.
const PAGE: u64 = 4096;

impl<D: DomainName> Registry<D> {
    /// Why a function cannot be assigned to `domain` now; `None` if it can.
    pub fn refusal(
        &self,
        sbdf: HostSbdf,
        domain: D,
    ) -> Result<Option<Refusal<D>>, RegistryError<D>> {
        let entry = self.get(sbdf)?;
        let refusal = self
            .lasting_refusal(sbdf)?
            .or_else(|| owner_refusal(entry))
            .or_else(|| self.group_refusal(entry, domain));
        Ok(refusal)
    }

    /// Why a function cannot be assigned to `domain`, even once it is reset; `None` if a reset is all
    /// that may be missing. Whose it is comes first: where another domain has put it is not known.
    pub fn refusal_after_reset(
        &self,
        sbdf: HostSbdf,
        domain: D,
    ) -> Result<Option<Refusal<D>>, RegistryError<D>> {
        let entry = self.get(sbdf)?;
        let owned = owner_refusal(entry);
        if let Some(refusal) = owned.filter(|refusal| !matches!(refusal, Refusal::NotReset(_))) {
            return Ok(Some(refusal));
        }
        let lasting = self.lasting_refusal(sbdf)?;
        let refusal = lasting.or_else(|| self.group_refusal(entry, domain));
        Ok(refusal)
    }

    /// Why a function could not be assigned, whoever had it; `None` if nothing is in the way.
    pub fn lasting_refusal(&self, sbdf: HostSbdf) -> Result<Option<Refusal<D>>, RegistryError<D>> {
        let entry = self.get(sbdf)?;
        if entry.device.is_bridge() {
            return Ok(Some(Refusal::Bridge));
        }
        if entry.methods.is_empty() {
            return Ok(Some(Refusal::NoReset));
        }
        let virtuals = self.iter();
        let mut virtuals = virtuals.filter(|other| other.device.physical == Some(sbdf));
        if virtuals.next().is_some() {
            return Ok(Some(Refusal::HasVirtualFunctions));
        }
        Ok(self.bar_refusal(entry))
    }

    fn bar_refusal(&self, entry: &Entry<D>) -> Option<Refusal<D>> {
        let bars = entry.device.bars.iter().enumerate();
        let bars = bars.filter_map(|(number, bar)| Some((number as u8, (*bar)?)));
        // I/O ports are not mapped in less than a page, but trapped; and a device does without.
        let mut memory = bars.filter(|(_, bar)| bar.kind.is_memory());
        memory.find_map(|(number, bar)| match pages(bar) {
            None => Some(Refusal::NoAddress(number)),
            Some(pages) => self
                .sharer(entry, pages)
                .map(|other| Refusal::SharedPage { bar: number, other })
                // A guest could not know where in the page its registers begin.
                .or_else(|| (bar.address != Some(pages.0)).then_some(Refusal::InsidePage(number))),
        })
    }

    /// Another function with registers in the pages of this one's BAR.
    fn sharer(&self, entry: &Entry<D>, own: (u64, u64)) -> Option<HostSbdf> {
        let shares = |other: &&Entry<D>| {
            let bars = other.device.bars.iter().flatten();
            let mut memory = bars.filter(|bar| bar.kind.is_memory());
            let overlaps = |(first, last): (u64, u64)| first <= own.1 && own.0 <= last;
            other.sbdf().segment() == entry.sbdf().segment()
                && other.sbdf() != entry.sbdf()
                && memory.any(|bar| pages(*bar).is_some_and(overlaps))
        };
        self.iter().find(shares).map(Entry::sbdf)
    }

    /// A function of the same group, or this one, that a guest has. Bridges count for nothing.
    pub(super) fn guest_in_group(
        &self,
        sbdf: HostSbdf,
    ) -> Result<Option<&Entry<D>>, RegistryError<D>> {
        let entry = self.get(sbdf)?;
        if entry.device.is_bridge() {
            return Ok(None);
        }
        let group = self.iter().filter(|other| other.group == entry.group);
        let mut guests = group.filter(|other| matches!(other.owner, Owner::Domain(_)));
        Ok(guests.next())
    }

    fn group_refusal(&self, entry: &Entry<D>, domain: D) -> Option<Refusal<D>> {
        let group = self.iter().filter(|other| other.group == entry.group);
        let mut others = group.filter(|other| !other.device.is_bridge());
        let foreign = |other: &&Entry<D>| {
            !other.owner.is_quarantine() && other.owner != Owner::Domain(domain)
        };
        let other = others.find(foreign)?;
        Some(Refusal::Group {
            other: other.sbdf(),
            owner: other.owner,
        })
    }
}

fn owner_refusal<D: DomainName>(entry: &Entry<D>) -> Option<Refusal<D>> {
    match entry.owner {
        Owner::Quarantine(Condition::Clean) => None,
        Owner::Quarantine(Condition::Broken(error)) => Some(Refusal::Broken(error)),
        Owner::Quarantine(condition) => Some(Refusal::NotReset(condition)),
        owner => Some(Refusal::Owned(owner)),
    }
}

/// The pages that a BAR is in, as the first and last address of them.
fn pages(bar: Bar) -> Option<(u64, u64)> {
    let (first, last) = (bar.address?, bar.last_address()?);
    Some((first & !(PAGE - 1), last | (PAGE - 1)))
}
