//! One virtual interrupt: its state, and its way into a list register and back.
//!
//! The states are those of IHI 0069, 4.1.2. While a list register holds the interrupt, the hardware
//! changes its pending and active state, and what is written here meanwhile is applied when the
//! list register is read back.

use xen_types::{IntId, Spi, Trigger};

use super::effects::{Effects, Physical};
use super::lr::{Backing, ListRegister};

/// The five bits of priority that guests see, as a mask of the eight in a register.
pub(super) const PRIORITY_MASK: u8 = 0xf8;

bitflags::bitflags! {
    /// What an interrupt is, in the bits of a word: two states compare at once.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    struct Flags: u16 {
        const ENABLED = 1 << 0;
        const GROUP_1 = 1 << 1;
        const EDGE = 1 << 2;
        /// The level of the input.
        const LINE = 1 << 3;
        /// Pending whatever the input does: an edge, a write to a set-pending register, an arrival.
        const LATCH = 1 << 4;
        const ACTIVE = 1 << 5;
        /// In a list register.
        const HELD = 1 << 6;
        /// The latch moved to the list register, and must come back if the guest does not take it.
        const TOOK_LATCH = 1 << 7;
        /// The same for the pending state from one source CPU. That of a line stays: it is sampled
        /// again.
        const TOOK_SOURCE = 1 << 8;
        /// The guest cleared the pending state while the interrupt was held.
        const DISCARD = 1 << 9;
        /// The guest wrote the active state while the interrupt was held,
        const WROTE_ACTIVE = 1 << 10;
        /// namely this.
        const WRITTEN_ACTIVE = 1 << 11;

        /// All that there is to say of a held interrupt.
        const OF_HELD = Self::HELD.bits()
            | Self::TOOK_LATCH.bits()
            | Self::TOOK_SOURCE.bits()
            | Self::DISCARD.bits()
            | Self::WROTE_ACTIVE.bits()
            | Self::WRITTEN_ACTIVE.bits();
    }
}

/// Whom what a guest does with an interrupt concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Link {
    /// The physical interrupt that it stands for.
    Physical(IntId),
    /// The hypervisor, which wants to know when the guest is done with it: its own number.
    Hypervisor(Spi),
}

impl Link {
    const fn physical(self) -> Option<IntId> {
        match self {
            Self::Physical(id) => Some(id),
            Self::Hypervisor(_) => None,
        }
    }
}

/// The state of a virtual interrupt.
#[derive(Clone, Debug)]
pub struct Irq {
    flags: Flags,
    priority: u8,
    /// Who sent it, for SGIs of GICv2: a pending state for each source CPU.
    sources: u8,
    /// The source that is active or in the list register, for SGIs of GICv2.
    source: u8,
    link: Option<Link>,
}

/// What decides where an interrupt must be queued, and what the physical one must do: flags,
/// priority and sources in a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status(u32);

impl Status {
    const fn flags(self) -> Flags {
        Flags::from_bits_retain(self.0 as u16)
    }

    const fn has_sources(self) -> bool {
        self.0 >> 24 != 0
    }

    /// Pending, active or in a list register.
    const fn is_busy(self) -> bool {
        let busy = Flags::LINE
            .union(Flags::LATCH)
            .union(Flags::ACTIVE)
            .union(Flags::HELD);
        self.has_sources() || self.flags().intersects(busy)
    }

    /// Whether what an interrupt is configured to be differs in what `Marks` keep.
    pub(super) const fn differs_in_marks(self, other: Self) -> bool {
        let marks = Flags::ENABLED.union(Flags::GROUP_1).bits();
        (self.0 ^ other.0) & marks as u32 != 0
    }
}

impl Irq {
    /// As after reset: disabled, highest priority, neither pending nor active.
    pub(super) const fn new(trigger: Trigger, group1: bool) -> Self {
        let edge = match trigger {
            Trigger::Edge => Flags::EDGE,
            Trigger::Level => Flags::empty(),
        };
        Self {
            flags: if group1 {
                edge.union(Flags::GROUP_1)
            } else {
                edge
            },
            priority: 0,
            sources: 0,
            source: 0,
            link: None,
        }
    }

    /// Whether it may be forwarded.
    pub const fn is_enabled(&self) -> bool {
        self.flags.contains(Flags::ENABLED)
    }

    /// Whether it belongs to group 1.
    pub const fn is_group1(&self) -> bool {
        self.flags.contains(Flags::GROUP_1)
    }

    /// Level or edge.
    pub const fn trigger(&self) -> Trigger {
        if self.flags.contains(Flags::EDGE) {
            Trigger::Edge
        } else {
            Trigger::Level
        }
    }

    /// Its priority; 0 is the highest.
    pub const fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether it is pending, as far as known while a list register holds it.
    pub const fn is_pending(&self) -> bool {
        let took = Flags::TOOK_LATCH.union(Flags::TOOK_SOURCE);
        self.waits() || self.flags.intersects(took) && !self.flags.contains(Flags::DISCARD)
    }

    /// Whether it is active, as far as known while a list register holds it.
    pub const fn is_active(&self) -> bool {
        self.flags
            .contains(if self.flags.contains(Flags::WROTE_ACTIVE) {
                Flags::WRITTEN_ACTIVE
            } else {
                Flags::ACTIVE
            })
    }

    /// Whether a list register holds it.
    pub const fn is_held(&self) -> bool {
        self.flags.contains(Flags::HELD)
    }

    /// The physical interrupt that it stands for.
    pub fn link(&self) -> Option<IntId> {
        self.link.and_then(Link::physical)
    }

    /// The source CPUs that it is pending from, a bit each; for SGIs of GICv2.
    pub const fn sources(&self) -> u8 {
        let took = self.flags.contains(Flags::TOOK_SOURCE);
        if took && !self.flags.contains(Flags::DISCARD) {
            self.sources | self.source_bit()
        } else {
            self.sources
        }
    }

    const fn source_bit(&self) -> u8 {
        1 << (self.source & 7)
    }

    /// Pending, apart from what a list register holds.
    const fn waits(&self) -> bool {
        self.flags.contains(Flags::LATCH) || self.sources != 0 || self.line_counts()
    }

    const fn line_counts(&self) -> bool {
        let level_trigger = !self.flags.contains(Flags::EDGE);
        self.flags.contains(Flags::LINE) && level_trigger
    }

    /// Whether it needs a list register if its groups (bit 0 for group 0, bit 1 for group 1) are
    /// enabled.
    pub(super) const fn is_wanted(&self, groups: u8) -> bool {
        self.is_active_now() || self.is_deliverable(groups)
    }

    /// Whether it is pending and nothing but priority keeps it from being taken.
    pub(super) const fn is_deliverable(&self, groups: u8) -> bool {
        let group = if self.is_group1() { 0b10 } else { 0b01 };
        self.is_enabled() && groups & group != 0 && self.waits()
    }

    /// Whether it belongs into a queue: what [`Irq::is_wanted`] with all groups enabled says.
    pub(super) const fn is_queued(&self) -> bool {
        self.is_wanted(0b11)
    }

    pub(super) const fn is_active_now(&self) -> bool {
        self.flags.contains(Flags::ACTIVE)
    }

    pub(super) const fn status(&self) -> Status {
        // What the input of an edge-triggered interrupt did is in the latch.
        let ignored = if self.flags.contains(Flags::EDGE) {
            Flags::LINE
        } else {
            Flags::empty()
        };
        let flags = self.flags.difference(ignored).bits() as u32;
        Status(flags | (self.priority as u32) << 16 | (self.sources as u32) << 24)
    }

    /// Asks of the physical interrupt what the change from `before` means for it.
    #[inline]
    pub(super) fn report(&self, before: Status, effects: &mut Effects) {
        if let Some(link) = self.link {
            self.report_to(link, before, effects);
        }
    }

    #[inline(never)]
    fn report_to(&self, link: Link, before: Status, effects: &mut Effects) {
        let now = self.status();
        let is_done = before.is_busy() && !now.is_busy();
        let physical = match link {
            Link::Physical(physical) => physical,
            Link::Hypervisor(own) => {
                if is_done {
                    effects.physical(Physical::Ended(own));
                }
                return;
            }
        };
        let changed = now.flags().symmetric_difference(before.flags());
        if changed.contains(Flags::EDGE) {
            effects.physical(Physical::Configure(physical, self.trigger()));
        }
        if changed.contains(Flags::ENABLED) {
            effects.physical(if self.is_enabled() {
                Physical::Enable(physical)
            } else {
                Physical::Disable(physical)
            });
        }
        if is_done {
            effects.physical(Physical::Deactivate(physical));
        }
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) {
        self.flags.set(Flags::ENABLED, enabled);
    }

    pub(super) fn set_group1(&mut self, group1: bool) {
        self.flags.set(Flags::GROUP_1, group1);
    }

    pub(super) fn set_priority(&mut self, priority: u8) {
        self.priority = priority & PRIORITY_MASK;
    }

    pub(super) fn set_trigger(&mut self, trigger: Trigger) {
        self.flags.set(Flags::EDGE, trigger == Trigger::Edge);
    }

    /// Stands for a physical interrupt, or for what the hypervisor wants, from now on. Returns whether
    /// it was free for that.
    pub(super) fn link_to(&mut self, link: Link, effects: &mut Effects) -> bool {
        if self.link.is_some() || self.status().is_busy() {
            return false;
        }
        self.link = Some(link);
        if let Some(physical) = link.physical()
            && self.is_enabled()
        {
            effects.physical(Physical::Enable(physical));
        }
        true
    }

    /// Stands for nothing from now on; what is pending or active is dropped.
    pub(super) fn unlink(&mut self, effects: &mut Effects) {
        let Some(link) = self.link.take() else {
            return;
        };
        if let Some(physical) = link.physical() {
            effects.physical(Physical::Disable(physical));
            if self.status().is_busy() {
                effects.physical(Physical::Deactivate(physical));
            }
        }
        self.clear_pending();
        self.set_active(false);
    }

    /// The input goes up or down.
    pub(super) fn set_line(&mut self, line: bool) {
        let edge = self.flags.contains(Flags::EDGE);
        if line && edge && !self.flags.contains(Flags::LINE) {
            self.flags.insert(Flags::LATCH);
        }
        self.flags.set(Flags::LINE, line);
    }

    /// Returns whether that is new.
    #[inline]
    pub(super) const fn set_pending(&mut self) -> bool {
        let new = !self.flags.contains(Flags::LATCH);
        self.flags = self.flags.union(Flags::LATCH);
        new
    }

    pub(super) fn clear_pending(&mut self) {
        self.flags.remove(Flags::LATCH);
        self.sources = 0;
        self.flags.set(Flags::DISCARD, self.is_held());
    }

    pub(super) fn set_active(&mut self, active: bool) {
        if self.is_held() {
            self.flags.insert(Flags::WROTE_ACTIVE);
            self.flags.set(Flags::WRITTEN_ACTIVE, active);
        } else {
            self.flags.set(Flags::ACTIVE, active);
        }
    }

    /// Pending from these CPUs too. Returns whether that is new.
    #[inline]
    pub(super) const fn add_sources(&mut self, sources: u8) -> bool {
        let new = sources & !self.sources != 0;
        self.sources |= sources;
        new
    }

    /// No longer pending from these CPUs.
    pub(super) fn remove_sources(&mut self, sources: u8) {
        self.sources &= !sources;
        if self.is_held() && sources & self.source_bit() != 0 {
            self.flags.insert(Flags::DISCARD);
        }
    }

    /// Takes out the pending state that a list register can carry, and says which in the flags of a
    /// held interrupt. An SGI that is active from one CPU cannot share a list register with another
    /// CPU's.
    #[inline]
    fn take(&mut self, deliverable: bool) -> Flags {
        if !deliverable {
            Flags::empty()
        } else if self.sources != 0 {
            if self.is_active_now() {
                return Flags::empty();
            }
            self.source = self.sources.trailing_zeros() as u8;
            self.sources &= self.sources - 1;
            Flags::TOOK_SOURCE
        } else if self.flags.contains(Flags::LATCH) {
            self.flags.remove(Flags::LATCH);
            Flags::TOOK_LATCH
        } else {
            Flags::empty()
        }
    }

    /// Moves the state to a list register. `watched` asks for a maintenance interrupt when the
    /// guest is done with it, which a list register with a physical interrupt cannot give.
    /// `deliverable` is what [`Irq::is_deliverable`] says.
    #[inline]
    pub(super) fn load(&mut self, id: IntId, deliverable: bool, watched: bool) -> ListRegister {
        let active = self.is_active_now();
        let taken = self.take(deliverable);
        let pending = !taken.is_empty() || deliverable && !active && self.line_counts();
        self.flags.insert(taken.union(Flags::HELD));

        let sample_again = self.line_counts() || self.sources != 0;
        let linked = self.link().filter(|_| {
            // The architecture has no pending-and-active state with a physical interrupt.
            !(watched || sample_again || pending && active)
        });
        ListRegister {
            id,
            pending,
            active,
            priority: self.priority,
            group1: self.is_group1(),
            backing: match linked {
                Some(physical) => Backing::Hardware(physical),
                None => Backing::Software {
                    notify_end: watched || sample_again || self.link.is_some(),
                    source: self.source,
                },
            },
        }
    }

    /// Takes the state back from a list register, and asks of the physical interrupt what follows.
    #[inline(always)]
    pub(super) fn take_back(&mut self, register: &ListRegister, effects: &mut Effects) {
        if self.link.is_none() {
            self.store(register);
            return;
        }
        let before = self.status();
        let deactivated = self.store(register);
        if !deactivated {
            self.report(before, effects);
        }
    }

    /// Takes the state back from a list register. Returns whether the hardware has deactivated the
    /// physical interrupt.
    #[inline]
    fn store(&mut self, register: &ListRegister) -> bool {
        let held = self.flags.intersection(Flags::OF_HELD);
        if held.is_empty() {
            return false;
        }
        self.flags.remove(Flags::OF_HELD);
        if register.pending && !held.contains(Flags::DISCARD) {
            if held.contains(Flags::TOOK_LATCH) {
                self.flags.insert(Flags::LATCH);
            } else if held.contains(Flags::TOOK_SOURCE) {
                self.sources |= self.source_bit();
            }
        }
        let active = if held.contains(Flags::WROTE_ACTIVE) {
            held.contains(Flags::WRITTEN_ACTIVE)
        } else {
            register.active
        };
        self.flags.set(Flags::ACTIVE, active);
        matches!(register.backing, Backing::Hardware(_)) && !register.pending && !register.active
    }
}
