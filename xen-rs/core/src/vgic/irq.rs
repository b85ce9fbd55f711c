//! One virtual interrupt: its state, and its way into a list register and back.
//!
//! The states are those of IHI 0069, 4.1.2. While a list register holds the interrupt, the hardware
//! changes its pending and active state, and what is written here meanwhile is applied when the
//! list register is read back.

use xen_types::{IntId, Trigger};

use super::effects::{Effects, Physical};
use super::lr::{Backing, ListRegister};

/// The five bits of priority that guests see, as a mask of the eight in a register.
pub(super) const PRIORITY_MASK: u8 = 0xf8;

/// The state of a virtual interrupt.
#[derive(Clone, Debug)]
pub struct Irq {
    enabled: bool,
    group1: bool,
    trigger: Trigger,
    priority: u8,
    /// The level of the input.
    line: bool,
    /// Pending whatever the input does: an edge, a write to a set-pending register, an arrival.
    latch: bool,
    active: bool,
    /// Who sent it, for SGIs of GICv2: a pending state for each source CPU.
    sources: u8,
    /// The source that is active or in the list register, for SGIs of GICv2.
    source: u8,
    link: Option<IntId>,
    held: Option<Held>,
}

/// What became of the state that moved to a list register.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// What must come back if the guest does not take it.
    taken: Taken,
    /// The guest cleared the pending state meanwhile.
    discard: bool,
    /// The guest wrote the active state meanwhile.
    active: Option<bool>,
}

/// The pending state that moved to a list register. That of a line stays: it is sampled again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Taken {
    Nothing,
    Latch,
    /// That from one source CPU.
    Source,
}

/// What decides where an interrupt must be queued, and what the physical one must do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    enabled: bool,
    group1: bool,
    trigger: Trigger,
    priority: u8,
    /// What makes it pending: input, latch, sources.
    pending: (bool, bool, u8),
    active: bool,
    busy: bool,
    /// What must be looked at when the list register is read back.
    correction: (bool, Option<bool>),
}

impl Irq {
    /// As after reset: disabled, highest priority, neither pending nor active.
    pub(super) const fn new(trigger: Trigger, group1: bool) -> Self {
        Self {
            enabled: false,
            group1,
            trigger,
            priority: 0,
            line: false,
            latch: false,
            active: false,
            sources: 0,
            source: 0,
            link: None,
            held: None,
        }
    }

    /// Whether it may be forwarded.
    pub const fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether it belongs to group 1.
    pub const fn is_group1(&self) -> bool {
        self.group1
    }

    /// Level or edge.
    pub const fn trigger(&self) -> Trigger {
        self.trigger
    }

    /// Its priority; 0 is the highest.
    pub const fn priority(&self) -> u8 {
        self.priority
    }

    /// Whether it is pending, as far as known while a list register holds it.
    pub fn is_pending(&self) -> bool {
        self.waits()
            || self
                .held
                .is_some_and(|held| held.taken != Taken::Nothing && !held.discard)
    }

    /// Whether it is active, as far as known while a list register holds it.
    pub fn is_active(&self) -> bool {
        self.held
            .and_then(|held| held.active)
            .unwrap_or(self.active)
    }

    /// Whether a list register holds it.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The physical interrupt that it stands for.
    pub const fn link(&self) -> Option<IntId> {
        self.link
    }

    /// The source CPUs that it is pending from, a bit each; for SGIs of GICv2.
    pub fn sources(&self) -> u8 {
        match self.held {
            Some(held) if held.taken == Taken::Source && !held.discard => {
                self.sources | self.source_bit()
            }
            _ => self.sources,
        }
    }

    const fn source_bit(&self) -> u8 {
        1 << (self.source & 7)
    }

    /// Pending, apart from what a list register holds.
    fn waits(&self) -> bool {
        self.latch || self.sources != 0 || self.line_counts()
    }

    fn line_counts(&self) -> bool {
        self.line && self.trigger == Trigger::Level
    }

    /// Whether it needs a list register if its groups (bit 0 for group 0, bit 1 for group 1) are
    /// enabled.
    pub(super) fn is_wanted(&self, groups: u8) -> bool {
        self.active || self.is_deliverable(groups)
    }

    /// Whether it is pending and nothing but priority keeps it from being taken.
    pub(super) fn is_deliverable(&self, groups: u8) -> bool {
        self.enabled && self.waits() && groups >> u8::from(self.group1) & 1 != 0
    }

    /// Whether it belongs into a queue: what [`Irq::is_wanted`] with all groups enabled says.
    pub(super) fn is_queued(&self) -> bool {
        self.is_wanted(0b11)
    }

    pub(super) fn is_active_now(&self) -> bool {
        self.active
    }

    pub(super) fn status(&self) -> Status {
        Status {
            enabled: self.enabled,
            group1: self.group1,
            trigger: self.trigger,
            priority: self.priority,
            pending: (self.line_counts(), self.latch, self.sources),
            active: self.active,
            busy: self.waits() || self.active || self.held.is_some(),
            correction: self
                .held
                .map_or((false, None), |held| (held.discard, held.active)),
        }
    }

    /// Reports what the physical interrupt behind it must do after a change by software.
    pub(super) fn report(&self, before: Status, effects: &mut Effects) {
        let Some(physical) = self.link else { return };
        let now = self.status();
        if now.trigger != before.trigger {
            effects.physical(Physical::Configure(physical, now.trigger));
        }
        if now.enabled != before.enabled {
            effects.physical(if now.enabled {
                Physical::Enable(physical)
            } else {
                Physical::Disable(physical)
            });
        }
        if before.busy && !now.busy {
            effects.physical(Physical::Deactivate(physical));
        }
    }

    pub(super) fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    pub(super) fn set_group1(&mut self, group1: bool) {
        self.group1 = group1;
    }

    pub(super) fn set_priority(&mut self, priority: u8) {
        self.priority = priority & PRIORITY_MASK;
    }

    pub(super) fn set_trigger(&mut self, trigger: Trigger) {
        self.trigger = trigger;
    }

    /// Stands for a physical interrupt from now on. Returns whether it was free for that.
    pub(super) fn link_to(&mut self, physical: IntId, effects: &mut Effects) -> bool {
        if self.link.is_some() || self.status().busy {
            return false;
        }
        self.link = Some(physical);
        if self.enabled {
            effects.physical(Physical::Enable(physical));
        }
        true
    }

    /// Stands for nothing from now on; what is pending or active is dropped.
    pub(super) fn unlink(&mut self, effects: &mut Effects) {
        let Some(physical) = self.link.take() else {
            return;
        };
        effects.physical(Physical::Disable(physical));
        if self.status().busy {
            effects.physical(Physical::Deactivate(physical));
        }
        self.clear_pending();
        self.set_active(false);
    }

    /// The input goes up or down.
    pub(super) fn set_line(&mut self, line: bool) {
        if line && !self.line && self.trigger == Trigger::Edge {
            self.latch = true;
        }
        self.line = line;
    }

    pub(super) fn set_pending(&mut self) {
        self.latch = true;
    }

    pub(super) fn clear_pending(&mut self) {
        self.latch = false;
        self.sources = 0;
        if let Some(held) = &mut self.held {
            held.discard = true;
        }
    }

    pub(super) fn set_active(&mut self, active: bool) {
        match &mut self.held {
            Some(held) => held.active = Some(active),
            None => self.active = active,
        }
    }

    /// Pending from these CPUs too.
    pub(super) fn add_sources(&mut self, sources: u8) {
        self.sources |= sources;
    }

    /// No longer pending from these CPUs.
    pub(super) fn remove_sources(&mut self, sources: u8) {
        self.sources &= !sources;
        let source_bit = self.source_bit();
        if let Some(held) = &mut self.held
            && sources & source_bit != 0
        {
            held.discard = true;
        }
    }

    /// Takes out the pending state that a list register can carry. An SGI that is active from one
    /// CPU cannot share a list register with another CPU's.
    fn take(&mut self, deliverable: bool) -> Taken {
        if !deliverable {
            Taken::Nothing
        } else if self.sources != 0 {
            if self.active {
                return Taken::Nothing;
            }
            self.source = self.sources.trailing_zeros() as u8;
            self.sources &= self.sources - 1;
            Taken::Source
        } else if self.latch {
            self.latch = false;
            Taken::Latch
        } else {
            Taken::Nothing
        }
    }

    /// Moves the state to a list register. `watched` asks for a maintenance interrupt when the
    /// guest is done with it, which a list register with a physical interrupt cannot give.
    pub(super) fn load(&mut self, id: IntId, groups: u8, watched: bool) -> ListRegister {
        let deliverable = self.is_deliverable(groups);
        let taken = self.take(deliverable);
        let pending = taken != Taken::Nothing || deliverable && !self.active && self.line_counts();
        self.held = Some(Held {
            taken,
            discard: false,
            active: None,
        });

        let sample_again = self.line_counts() || self.sources != 0;
        let linked = self.link.filter(|_| {
            // The architecture has no pending-and-active state with a physical interrupt.
            !(watched || sample_again || pending && self.active)
        });
        ListRegister {
            id,
            pending,
            active: self.active,
            priority: self.priority,
            group1: self.group1,
            backing: match linked {
                Some(physical) => Backing::Hardware(physical),
                None => Backing::Software {
                    notify_end: watched || sample_again || self.link.is_some(),
                    source: self.source,
                },
            },
        }
    }

    /// Takes the state back from a list register. Returns whether the hardware has deactivated the
    /// physical interrupt.
    pub(super) fn store(&mut self, register: &ListRegister) -> bool {
        let Some(held) = self.held.take() else {
            return false;
        };
        if register.pending && !held.discard {
            match held.taken {
                Taken::Nothing => {}
                Taken::Latch => self.latch = true,
                Taken::Source => self.sources |= self.source_bit(),
            }
        }
        self.active = held.active.unwrap_or(register.active);
        matches!(register.backing, Backing::Hardware(_)) && !register.pending && !register.active
    }
}
