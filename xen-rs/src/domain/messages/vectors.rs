//! Message interrupts of a guest with a GICv2: a frame of GICv2m, with a share of one of the host's
//! behind it (`xen_core::v2m`).
//!
//! What the guest has a device write becomes the host's interrupt that stands for it, or nothing. But a
//! device writes what it likes: one that writes to the doorbell by itself raises any interrupt of the
//! host's frame, those of other domains too. That costs them an interrupt that nothing has asked for, and
//! no more; where it must not be, each domain needs a frame of its own, and gets one while there are some.

use log::{info, warn};
use xen_abi::{DomId, layout};
use xen_core::paging::MapError;
use xen_core::paging::stage2::Attributes;
use xen_core::v2m::{GuestFrame, SpiRange};
use xen_core::vgic::{Access, Direction, Effects, Vgic};
use xen_types::{Gpa, GpaRange, PAGE_SIZE, Spi, Trigger};

use crate::domain::interrupts::Masking;
use crate::domain::space::Space;
use crate::domain::{Domain, spis};
use crate::gic::{self, v2m};
use crate::iommu;

/// How many interrupts a guest has, while there are so many.
const COUNTS: [u16; 3] = [16, 8, 4];

/// The frame of a guest.
pub struct Vectors {
    frame: GuestFrame,
    share: v2m::Share,
}

impl Vectors {
    /// A share of one of the host's frames, for the guest's interrupts from `first` on; `None` where
    /// there is nothing left.
    pub fn new(first: Spi) -> Option<Self> {
        let share = COUNTS.into_iter().find_map(v2m::Share::new)?;
        let own = SpiRange::new(first, share.spis().count())?;
        let frame = GuestFrame::new(own, share.spis())?;
        Some(Self { frame, share })
    }

    /// What the guest sees of it.
    pub const fn frame(&self) -> GuestFrame {
        self.frame
    }

    /// Lets the guest's devices, and none of its CPUs, reach the doorbell.
    ///
    /// # Errors
    /// [`MapError`].
    pub fn map(&self, space: &mut Space) -> Result<(), MapError> {
        let page = GpaRange::new(Gpa::new(layout::V2M.base), PAGE_SIZE);
        let (Some(page), Some(host)) = (page, self.share.doorbell()) else {
            return Ok(());
        };
        if iommu::translates() {
            space.map(page, host.start(), Attributes::Doorbell)?;
        }
        Ok(())
    }

    /// Has the host's interrupts arrive as the guest's.
    pub fn connect(&self, id: DomId, vgic: &Vgic<Masking>, effects: &mut Effects) {
        for (own, host) in self.frame.pairs() {
            gic::configure(host.into(), Trigger::Edge);
            gic::forget(host.into());
            spis::set_owner(host, Some((id, own)));
            if let Err(error) = vgic.link(own, host.into(), effects) {
                warn!("{id}: {error}");
            }
        }
        info!(
            "{id}: {} message interrupts of {}, from INTID {} on; its devices can raise others of it",
            self.frame.own().count(),
            self.share.path(),
            self.share.spis().first().intid(),
        );
    }

    /// A load or store of the guest.
    pub fn access(&self, domain: &Domain, access: Access, effects: &mut Effects) -> u64 {
        let offset = u64::from(access.offset);
        match access.direction {
            Direction::Read => self.frame.read(offset).into(),
            Direction::Write(value) => {
                if let Some(spi) = self.frame.raised(offset, value as u32) {
                    domain.vgic.inject(spi, effects);
                }
                0
            }
        }
    }
}

impl Drop for Vectors {
    fn drop(&mut self) {
        for (_, host) in self.frame.pairs() {
            spis::set_owner(host, None);
        }
    }
}

impl Domain {
    /// The guest's frame of GICv2m, if it has one.
    pub fn vectors(&self) -> Option<&Vectors> {
        self.messages.vectors.as_ref()
    }

    /// None of the host's interrupts arrives for the guest's frame any more. No CPU runs the guest.
    pub fn disconnect_vectors(&self) {
        let Some(vectors) = self.vectors() else {
            return;
        };
        let mut effects = Effects::new();
        for (own, host) in vectors.frame.pairs() {
            self.vgic.unlink(own, &mut effects);
            self.carry_out(&mut effects);
            spis::set_owner(host, None);
        }
    }
}
