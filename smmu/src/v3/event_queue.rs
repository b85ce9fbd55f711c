//! The event queue (IHI 0070, 7.2): the SMMU writes, the driver reads, and what finds no room is
//! lost, with a flag that says so (7.4).

use super::bus::{Bus, offset};
use super::event::{Event, WORDS};
use super::registers::{EVENTQ_CONS, EVENTQ_PROD};
use super::ring::Ring;
use crate::{Hardware, IommuError};

/// 8 KiB of events.
const WANTED_LOG2: u32 = 8;
const ENTRY_BYTES: u64 = 32;
/// `OVFLG` of the producer index, `OVACKFLG` of the consumer index: events were lost while they
/// differ.
const OVERFLOW: u32 = 1 << 31;

/// The queue. The driver alone writes its consumer index.
#[derive(Debug)]
pub struct EventQueue {
    ring: Ring,
    consumer: u32,
    /// The last `OVFLG` that was acknowledged.
    acknowledged: u32,
}

/// What the queue holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waiting {
    /// Events.
    pub events: u32,
    /// Whether some were lost.
    pub lost: bool,
}

impl EventQueue {
    /// An empty queue of at most 2 to the power of `limit_log2` events.
    pub fn allocate(bus: &mut Bus<impl Hardware>, limit_log2: u32) -> Result<Self, IommuError> {
        let log2 = limit_log2.min(WANTED_LOG2);
        let base = bus.allocate("an SMMU's event queue", ENTRY_BYTES << log2)?;
        Ok(Self {
            ring: Ring::new(base, log2, ENTRY_BYTES),
            consumer: 0,
            acknowledged: 0,
        })
    }

    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// How many events there are to read, and whether some were lost that [`EventQueue::release`] has
    /// not acknowledged.
    ///
    /// # Errors
    /// [`IommuError::Nonsense`].
    pub fn waiting(&self, bus: &Bus<impl Hardware>) -> Result<Waiting, IommuError> {
        let value = bus.read32(EVENTQ_PROD);
        let producer = value & self.ring.mask();
        let events = self.ring.waiting(producer, self.consumer);
        let reserved = value & !(OVERFLOW | self.ring.mask());
        let Some(events) = events.filter(|_| reserved == 0) else {
            let register = "EVENTQ_PROD";
            return Err(IommuError::Nonsense { register, value });
        };
        let lost = value & OVERFLOW != self.acknowledged;
        Ok(Waiting { events, lost })
    }

    /// Reads the next event, which must be waiting.
    pub fn read(&mut self, bus: &mut Bus<impl Hardware>) -> Event {
        let entry = self.ring.entry(self.consumer);
        bus.refresh(entry, ENTRY_BYTES);
        let mut words = [0; WORDS];
        for (word, at) in words.iter_mut().zip((0..).step_by(8)) {
            *word = bus.read(offset(entry, at));
        }
        self.consumer = self.ring.next(self.consumer);
        Event::decode(words)
    }

    /// Gives the room of events that were read back to the SMMU, and acknowledges that some were
    /// `lost`.
    pub fn release(&mut self, bus: &mut Bus<impl Hardware>, lost: bool) {
        if lost {
            self.acknowledged ^= OVERFLOW;
        }
        // The reads come before: the SMMU may write there as soon as it sees the index.
        bus.hardware.barrier();
        bus.write32(EVENTQ_CONS, self.consumer | self.acknowledged);
    }
}
