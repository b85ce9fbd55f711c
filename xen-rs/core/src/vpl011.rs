//! The serial port that the hypervisor emulates for a guest: the part of a PL011 that SBSA asks for
//! (Arm DEN 0029, appendix B; DDI 0183 for the registers).
//!
//! Its two FIFOs are the rings of a page that the guest's toolstack reads and writes (Xen's
//! `io/console.h`), so that nothing is copied twice, and its state is what the rings hold at the
//! moment: there is only the interrupt mask to keep. The other side of the ring is not believed: an
//! index that cannot be is a full ring to a writer and an empty one to a reader.
//!
//! While nobody is connected to the port, what does not fit any more is lost, so that a guest that
//! nobody listens to does not wait for ever.

use crate::vgic::{Access, Direction, Width};

/// Registers.
const DR: u32 = 0x00;
const RSR: u32 = 0x04;
const FR: u32 = 0x18;
const IMSC: u32 = 0x38;
const RIS: u32 = 0x3c;
const MIS: u32 = 0x40;
const ICR: u32 = 0x44;

/// `FR` (3.3.3).
mod fr {
    pub const BUSY: u32 = 1 << 3;
    pub const RX_EMPTY: u32 = 1 << 4;
    pub const TX_FULL: u32 = 1 << 5;
    pub const RX_FULL: u32 = 1 << 6;
    pub const TX_EMPTY: u32 = 1 << 7;
}

/// `IMSC`, `RIS`, `MIS` (3.3.10).
mod interrupt {
    /// The receive FIFO is at its trigger level.
    pub const RECEIVE: u32 = 1 << 4;
    /// The transmit FIFO has room.
    pub const TRANSMIT: u32 = 1 << 5;
    /// There is something in the receive FIFO.
    pub const RECEIVE_TIMEOUT: u32 = 1 << 6;
    /// All there are.
    pub const ALL: u32 = 0x7ff;
}

/// Bytes at which a FIFO triggers: half of the 32 that SBSA's has.
const TRIGGER: u32 = 16;

/// One direction of the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Queue {
    /// To the guest.
    In,
    /// From the guest.
    Out,
}

impl Queue {
    /// Bytes that fit.
    pub const fn size(self) -> u32 {
        match self {
            Self::In => xen_abi::io::console::IN_SIZE as u32,
            Self::Out => xen_abi::io::console::OUT_SIZE as u32,
        }
    }
}

/// The page, which the other side changes at any time. Each call is one atomic access.
pub trait Ring {
    /// How far it was written.
    fn produced(&self, queue: Queue) -> u32;
    /// How far it was read.
    fn consumed(&self, queue: Queue) -> u32;
    /// The byte at an index.
    fn byte(&self, queue: Queue, index: u32) -> u8;
    /// Writes a byte from the guest at an index.
    fn set_byte(&self, index: u32, byte: u8);
    /// The guest has written so far; bytes are seen before this is.
    fn set_produced(&self, index: u32);
    /// The guest has read so far; bytes are read before this is seen.
    fn set_consumed(&self, index: u32);
    /// Whether anybody is connected to it.
    fn is_connected(&self) -> bool;
}

/// What an access did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Done {
    /// What a load reads.
    pub value: u32,
    /// The other side is to be told.
    pub notify: bool,
    /// The level of the port's interrupt.
    pub line: bool,
}

/// There is no such access: the guest gets an abort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoAccess;

/// The port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Vpl011 {
    mask: u32,
}

impl Vpl011 {
    /// A load or store.
    ///
    /// # Errors
    /// [`NoAccess`] for loads and stores of 64 bits, and for a load of what can only be written.
    pub fn access(&mut self, ring: &impl Ring, access: Access) -> Result<Done, NoAccess> {
        if access.width == Width::Double {
            return Err(NoAccess);
        }
        let (value, notify) = match access.direction {
            Direction::Read => self.read(ring, access.offset)?,
            Direction::Write(value) => (0, self.write(ring, access.offset, value as u32)),
        };
        let line = self.line(ring);
        Ok(Done {
            value,
            notify,
            line,
        })
    }

    /// The level of the interrupt.
    pub fn line(&self, ring: &impl Ring) -> bool {
        self.mask & raised(ring) != 0
    }

    fn read(&self, ring: &impl Ring, offset: u32) -> Result<(u32, bool), NoAccess> {
        let value = match offset {
            DR => return Ok(receive(ring).map_or((0, false), |byte| (byte.into(), true))),
            FR => flags(ring),
            IMSC => self.mask,
            RIS => raised(ring),
            MIS => raised(ring) & self.mask,
            ICR => return Err(NoAccess),
            // There are no errors to report, and nothing else.
            _ => 0,
        };
        Ok((value, false))
    }

    /// Returns whether the other side is to be told.
    fn write(&mut self, ring: &impl Ring, offset: u32, value: u32) -> bool {
        match offset {
            DR => return transmit(ring, value as u8),
            IMSC => self.mask = value & interrupt::ALL,
            // What raises an interrupt is a state, which lasts.
            RSR | ICR => {}
            _ => {}
        }
        false
    }
}

/// Bytes in a queue; `None` if its indices cannot be.
fn level(ring: &impl Ring, queue: Queue) -> Option<u32> {
    let level = ring.produced(queue).wrapping_sub(ring.consumed(queue));
    (level <= queue.size()).then_some(level)
}

fn received(ring: &impl Ring) -> u32 {
    level(ring, Queue::In).unwrap_or(0)
}

fn waiting(ring: &impl Ring) -> u32 {
    level(ring, Queue::Out).unwrap_or(Queue::Out.size())
}

fn receive(ring: &impl Ring) -> Option<u8> {
    if received(ring) == 0 {
        return None;
    }
    let index = ring.consumed(Queue::In);
    let byte = ring.byte(Queue::In, index);
    ring.set_consumed(index.wrapping_add(1));
    Some(byte)
}

/// Returns whether there is something new for the other side.
fn transmit(ring: &impl Ring, byte: u8) -> bool {
    if waiting(ring) >= Queue::Out.size() {
        // The guest looks at the flags before it writes: it is lost as in a FIFO that overflows.
        return false;
    }
    let index = ring.produced(Queue::Out);
    ring.set_byte(index, byte);
    ring.set_produced(index.wrapping_add(1));
    true
}

fn is_full(ring: &impl Ring) -> bool {
    waiting(ring) >= Queue::Out.size() && ring.is_connected()
}

fn flags(ring: &impl Ring) -> u32 {
    let mut flags = 0;
    match received(ring) {
        0 => flags |= fr::RX_EMPTY,
        all if all >= Queue::In.size() => flags |= fr::RX_FULL,
        _ => {}
    }
    if is_full(ring) {
        flags |= fr::TX_FULL | fr::BUSY;
    } else if waiting(ring) == 0 {
        flags |= fr::TX_EMPTY;
    }
    flags
}

fn raised(ring: &impl Ring) -> u32 {
    let mut raised = 0;
    let received = received(ring);
    if received > 0 {
        raised |= interrupt::RECEIVE_TIMEOUT;
    }
    if received >= TRIGGER {
        raised |= interrupt::RECEIVE;
    }
    if waiting(ring) <= Queue::Out.size() - TRIGGER || !ring.is_connected() {
        raised |= interrupt::TRANSMIT;
    }
    raised
}

#[cfg(test)]
mod tests;
