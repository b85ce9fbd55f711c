//! Events (IHI 0070, 7.2 to 7.4).

use xen_types::{Gpa, Hpa};

use super::super::Denied;
use super::super::memory::Memory;
use super::{EVENTQEN, SmmuV3};
use crate::{Access, StreamId};

pub(super) const BAD_STREAM: u8 = 0x02;
pub(super) const STE_FETCH: u8 = 0x03;
pub(super) const BAD_STE: u8 = 0x04;
pub(super) const WALK_ABORT: u8 = 0x0b;
pub(super) const TRANSLATION: u8 = 0x10;
pub(super) const ADDRESS_SIZE: u8 = 0x11;
pub(super) const ACCESS: u8 = 0x12;
pub(super) const PERMISSION: u8 = 0x13;

const OVERFLOW: u32 = 1 << 31;
const EVENTQ_ABORT: u32 = 1 << 2;

impl SmmuV3 {
    /// A transaction is stopped with this event.
    pub(super) fn fault(
        &mut self,
        memory: &mut Memory,
        event: u8,
        stream: StreamId,
        tried: Option<(Gpa, Access)>,
        stalls: bool,
    ) -> Result<Hpa, Denied> {
        let mut words = [u64::from(event) | u64::from(stream.get()) << 32, 0, 0, 0];
        if let Some((address, access)) = tried {
            words[1] = 1 << 39 | u64::from(access == Access::Read) << 35;
            words[2] = address.get();
            words[3] = address.get() & !0xfff;
        }
        if stalls {
            let tag = self.next_tag;
            self.next_tag = tag.wrapping_add(1);
            self.waiting.push((stream.get(), tag));
            words[1] |= 1 << 31 | u64::from(tag);
        }
        self.put(memory, words);
        Err(if stalls {
            Denied::Stalled
        } else {
            Denied::Aborted
        })
    }

    fn put(&mut self, memory: &mut Memory, words: [u64; 4]) {
        if self.cr0_ack & EVENTQEN == 0 {
            return;
        }
        let queue = &mut self.events;
        if queue.is_full() {
            // Flagged once, until it is acknowledged.
            if (queue.producer ^ queue.consumer) & OVERFLOW == 0 {
                queue.producer ^= OVERFLOW;
            }
            return;
        }
        let entry = queue.entry(queue.producer, 32);
        let written = (0..).zip(words).all(|(index, word)| {
            let at = Hpa::new(entry.get() + 8 * index);
            memory.device_write(at, word)
        });
        if !written {
            return self.raise(EVENTQ_ABORT);
        }
        let next = queue.producer.wrapping_add(1) & queue.mask();
        queue.producer = queue.producer & OVERFLOW | next;
    }
}
