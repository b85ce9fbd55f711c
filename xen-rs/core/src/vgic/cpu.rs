//! The private part of a CPU: its software generated and private peripheral interrupts.

use xen_types::{IntId, Trigger};

use super::Version;
use super::effects::{CpuId, Effects};
use super::irq::Irq;
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

    /// Changes an interrupt by software, and carries out what follows.
    pub(super) fn change(
        &mut self,
        id: IntId,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq),
    ) {
        self.update(id, effects, |irq, effects| {
            let before = irq.status();
            change(irq);
            irq.report(before, effects);
        });
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
        let after = irq.status();
        let (queued, held) = (irq.is_queued(), irq.is_held());
        let number = id.get() % 32;
        let ready = u32::from(queued && !held) << number;
        self.ready = self.ready & !(1 << number) | ready;
        if after != before {
            if after.differs_in_marks(before) {
                self.marks.note(number, irq);
            }
            if queued || held {
                effects.kick(self.id);
            }
        }
        Some(result)
    }

    /// The interrupts in the queue.
    pub(super) fn ready(&self) -> impl Iterator<Item = (IntId, &Irq)> {
        Bits(self.ready).filter_map(|number| {
            let id = IntId::new(u32::from(number))?;
            Some((id, self.irq(id)?))
        })
    }
}
