//! The private part of a CPU: its software generated and private peripheral interrupts.

use xen_types::{IntId, Trigger};

use super::Version;
use super::effects::{CpuId, Effects};
use super::irq::{Irq, Status};
use super::lr::ListRegister;
use super::marks::Marks;
use super::ready::Bits;

/// SGIs and PPIs together.
const PRIVATE: usize = 32;
const SGIS: usize = 16;

/// The private interrupts of one virtual CPU.
#[derive(Debug)]
pub struct Cpu {
    id: CpuId,
    irqs: [Irq; PRIVATE],
    marks: Marks,
    /// Those that it must take and that are in no list register.
    ready: u32,
    /// `GICR_WAKER.ProcessorSleep`, of GICv3.
    asleep: bool,
}

impl Cpu {
    /// As after reset.
    pub(super) fn new(id: CpuId, version: Version) -> Self {
        let group1 = version == Version::V3;
        Self {
            id,
            irqs: core::array::from_fn(|intid| {
                let trigger = if intid < SGIS {
                    Trigger::Edge
                } else {
                    Trigger::Level
                };
                Irq::new(trigger, group1)
            }),
            marks: Marks::new(group1),
            ready: 0,
            asleep: true,
        }
    }

    pub(super) const fn id(&self) -> CpuId {
        self.id
    }

    pub(super) const fn is_asleep(&self) -> bool {
        self.asleep
    }

    pub(super) const fn set_asleep(&mut self, asleep: bool) {
        self.asleep = asleep;
    }

    /// A private interrupt; `None` for a shared one.
    pub fn irq(&self, id: IntId) -> Option<&Irq> {
        self.irqs.get(id.get() as usize)
    }

    /// What their registers with a bit each read.
    pub(super) const fn marks(&self) -> Marks {
        self.marks
    }

    /// Changes an interrupt by software, and carries out what follows. Returns whether that is news
    /// for the CPU.
    #[inline]
    pub(super) fn change(
        &mut self,
        id: IntId,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq),
    ) -> bool {
        let Some(irq) = self.irqs.get_mut(id.get() as usize) else {
            return false;
        };
        let before = irq.status();
        change(irq);
        irq.report(before, effects);
        self.requeue(id, before, effects)
    }

    /// Makes an interrupt pending: what [`Cpu::change`] does, where nothing else changes. Then the
    /// physical interrupt, if there is one, has nothing to do.
    #[inline]
    pub(super) fn pend(
        &mut self,
        id: IntId,
        effects: &mut Effects,
        pend: impl FnOnce(&mut Irq) -> bool,
    ) -> bool {
        let Some(irq) = self.irqs.get_mut(id.get() as usize) else {
            return false;
        };
        if !pend(irq) || !irq.is_held() && !irq.is_queued() {
            return false;
        }
        if !irq.is_held() {
            self.ready |= 1 << (id.get() % 32);
        }
        effects.kick(self.id);
        true
    }

    /// Moves an interrupt of the queue to a list register, if one of `groups` and something to take.
    #[inline(always)]
    pub(super) fn load(&mut self, number: u16, groups: u8) -> Option<ListRegister> {
        let irq = self.irqs.get_mut(usize::from(number))?;
        let deliverable = irq.is_deliverable(groups);
        if !deliverable && !irq.is_active_now() {
            return None;
        }
        self.ready &= !(1 << (number % 32));
        Some(irq.load(IntId::new(number.into())?, deliverable, false))
    }

    /// Takes an interrupt back from a list register.
    #[inline(always)]
    pub(super) fn store(&mut self, register: &ListRegister, effects: &mut Effects) {
        let number = register.id.get();
        if let Some(irq) = self.irqs.get_mut(number as usize) {
            irq.take_back(register, effects);
            let ready = u32::from(irq.is_queued() && !irq.is_held());
            self.ready = self.ready & !(1 << (number % 32)) | ready << (number % 32);
        }
    }

    /// Changes an interrupt and queues it if it must be taken.
    pub(super) fn update<R>(
        &mut self,
        id: IntId,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq, &mut Effects) -> R,
    ) -> Option<R> {
        let irq = self.irqs.get_mut(id.get() as usize)?;
        let before = irq.status();
        let result = change(irq, effects);
        self.requeue(id, before, effects);
        Some(result)
    }

    /// Queues an interrupt if it must be taken, and wakes the CPU if it has something new to look at.
    /// Returns whether it has.
    #[inline]
    fn requeue(&mut self, id: IntId, before: Status, effects: &mut Effects) -> bool {
        let number = id.get() % 32;
        let Some(irq) = self.irqs.get(number as usize) else {
            return false;
        };
        let after = irq.status();
        let (queued, held) = (irq.is_queued(), irq.is_held());
        let ready = u32::from(queued && !held) << number;
        self.ready = self.ready & !(1 << number) | ready;
        if after.differs_in_marks(before) {
            self.marks.note(number, irq);
        }
        let news = after != before && (queued || held);
        if news {
            effects.kick(self.id);
        }
        news
    }

    /// How many interrupts are in the queue.
    pub(super) const fn waiting(&self) -> usize {
        self.ready.count_ones() as usize
    }

    /// The INTIDs in the queue, as it is now.
    #[inline]
    pub(super) const fn ready_numbers(&self) -> Bits {
        Bits(self.ready)
    }

    /// The interrupts in the queue.
    pub(super) fn ready(&self) -> impl Iterator<Item = (IntId, &Irq)> {
        self.ready_numbers().filter_map(|number| {
            let id = IntId::new(number.into())?;
            Some((id, self.irq(id)?))
        })
    }
}
