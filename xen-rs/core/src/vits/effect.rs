//! What must happen outside when a guest maps, moves and unmaps its events.

use xen_types::Lpi;

use super::device::{GuestDeviceId, HostDevice};
use crate::its::{DeviceId, Source};
use crate::vgic::{CpuId, Effects, GuestMemory, Locking, Vgic};

/// What the caller must do. `lpi` is the guest's, `source` the host's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// The guest gave a device a table whose id it was offered: the host's ITS gets to know the
    /// device, and [`super::Vits::add_device`] follows. If it does not, the command is refused.
    Attach {
        /// What the guest calls the device.
        id: GuestDeviceId,
        /// Which of the host's ITSs.
        its: usize,
        /// What that ITS calls it.
        device: DeviceId,
        /// How many events the table has room for, at most 65536.
        events: u32,
    },
    /// The guest took the table of such a device away, or has another one: the host's ITS is to
    /// forget the device, and its LPIs are free. None of its events is mapped any more.
    Detach(HostDevice),
    /// Messages of an event become an LPI. On the host last: the owner of the host's LPI is set and
    /// the LPI enabled before the host's ITS maps the event.
    Map {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
        /// The vCPU that it goes to; the host's LPI best goes where that runs.
        cpu: CpuId,
    },
    /// They no longer do. On the host first: the event is discarded before the owner is cleared.
    Unmap {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
    },
    /// The LPI goes to another vCPU, with what is pending.
    Move {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
        /// The vCPU.
        cpu: CpuId,
    },
    /// The guest changed the LPI's configuration. The host's LPI may follow.
    Reload {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
    },
    /// The guest has the event happen. Not on the host.
    Raise {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
    },
    /// The LPI is not pending any more. On the host first.
    Clear {
        /// The event.
        source: Source,
        /// The LPI.
        lpi: Lpi,
    },
    /// The guest changed the configuration of some of the [`crate::vgic::LPI_PART`] LPIs from number
    /// `first` on.
    ReloadPart {
        /// Counted from 0.
        first: u32,
    },
    /// Of the [`crate::vgic::LPI_PART`] LPIs from number `first` on, those that are pending at a
    /// vCPU become pending at another.
    MovePart {
        /// Counted from 0.
        first: u32,
        /// From there.
        from: CpuId,
        /// To there.
        to: CpuId,
    },
}

impl Effect {
    /// Carries out what concerns the virtual interrupt controller. Returns for [`Effect::Map`] and
    /// [`Effect::Reload`] whether the guest has the LPI enabled.
    pub fn apply<L: Locking>(
        self,
        vgic: &Vgic<L>,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> Option<bool> {
        match self {
            Self::Map { lpi, cpu, .. } => {
                return Some(vgic.map_lpi(lpi, cpu, memory, effects));
            }
            Self::Reload { lpi, .. } => return Some(vgic.reload_lpi(lpi, memory, effects)),
            Self::Unmap { lpi, .. } => vgic.unmap_lpi(lpi, effects),
            Self::Move { lpi, cpu, .. } => vgic.move_lpi(lpi, cpu, effects),
            Self::Raise { lpi, .. } => vgic.raise_lpi(lpi, effects),
            Self::Clear { lpi, .. } => vgic.clear_lpi(lpi, effects),
            Self::ReloadPart { first } => {
                vgic.reload_lpis(first, memory, effects);
            }
            Self::Attach { .. } | Self::Detach(_) => {}
            Self::MovePart { first, from, to } => {
                vgic.move_pending_lpis(first, from, to, effects);
            }
        }
        None
    }
}
