//! Accesses to pages of a BAR that are not mapped.

use xen_types::{Gpa, GpaRange, Hpa, HpaRange};

use super::msi_x::GuestMsiX;
use super::{GuestBar, GuestFunction, Trapped};

impl GuestFunction {
    /// Reads `bytes` at `offset` of a BAR, in a page that is not mapped because of MSI-X.
    pub fn read_trapped(&self, bar: u8, offset: u64, bytes: u64) -> Trapped {
        match (&self.msi_x, self.bar(bar)) {
            (Some(msi_x), Some(shown)) => msi_x.read(bar, shown.host(), offset, bytes),
            _ => Trapped::Value(u64::MAX),
        }
    }

    /// Writes `bytes` at `offset` of a BAR, in a page that is not mapped because of MSI-X.
    pub fn write_trapped(&mut self, bar: u8, offset: u64, bytes: u64, value: u64) -> Trapped {
        let host = self.bar(bar).map(GuestBar::host);
        match (&mut self.msi_x, host) {
            (Some(msi_x), Some(host)) => msi_x.write(bar, host, (offset, bytes), value),
            _ => Trapped::Value(0),
        }
    }

    /// The BAR, and the offset in it, that an access to guest memory in one of its holes means.
    pub fn find_trapped(&self, address: Gpa) -> Option<(u8, u64)> {
        let mut mappings = (0..).zip(&self.mappings);
        mappings.find_map(|(bar, mapping)| {
            let mapping = mapping.as_ref()?;
            let claim = mapping.claim().filter(|claim| claim.contains(address))?;
            let offset = address.get().checked_sub(claim.start().get())?;
            mapping.is_hole(offset).then_some((bar, offset))
        })
    }

    /// The ranges of guest memory that BARs with such pages take now.
    pub fn trapped_claims(&self) -> impl Iterator<Item = GpaRange> {
        let mappings = self.mappings.iter().flatten();
        let with_holes = mappings.filter(|mapping| mapping.has_holes());
        with_holes.filter_map(|mapping| mapping.claim())
    }

    /// The host's pages of all BARs that are trapped, whether or not the guest has the BARs anywhere.
    pub fn trapped_pages(&self) -> impl Iterator<Item = HpaRange> {
        let mappings = self.mappings.iter().flatten();
        mappings.flat_map(|mapping| mapping.holes())
    }

    /// Where the host has the table of MSI-X.
    pub fn msi_x_table(&self) -> Option<Hpa> {
        let place = self.msi_x.as_ref()?.table();
        let bar = self.bar(place.bar)?;
        bar.host().start().checked_add(place.offset.into())
    }

    /// Whether the guest has enabled MSI-X.
    pub fn msi_x_enabled(&self) -> bool {
        self.msi_x.as_ref().is_some_and(GuestMsiX::is_enabled)
    }
}
