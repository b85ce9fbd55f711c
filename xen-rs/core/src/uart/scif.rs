//! Renesas SCIF and HSCIF (R-Car Series, 3rd Generation, hardware manual, chapters 50 and 51).
//!
//! Registers have 16 bits, but for the two data registers, which have 8. Flags of the status
//! register are cleared by writing 0 after having read 1, and ignore a 1: so a write has ones for
//! all flags but those that it means, and follows a read.

use super::{Port, Registers, Width};

/// Serial control, transmit data, status, receive data, FIFO count, line status.
const SCSCR: usize = 0x08;
const SCFTDR: usize = 0x0c;
const SCFSR: usize = 0x10;
const SCFRDR: usize = 0x14;
const SCFDR: usize = 0x1c;
const SCLSR: usize = 0x24;

/// Enables of the transmit, receive, receive error and timeout interrupts, in SCSCR. Its clock
/// source (bits 1:0) belongs to the baud rate.
const INTERRUPTS: u32 = 1 << 7 | RECEIVE_INTERRUPT | 1 << 3 | 1 << 2;
const RECEIVE_INTERRUPT: u32 = 1 << 6;
const TRANSMIT_RECEIVE: u32 = 1 << 5 | 1 << 4;

const TEND: u32 = 1 << 6;
const TDFE: u32 = 1 << 5;
/// As many bytes as the trigger says are there; fewer are there, and the line has been silent.
const RDF: u32 = 1 << 1;
const DR: u32 = 1 << 0;
/// Receive error and break.
const RECEIVE_ERRORS: u32 = 1 << 7 | 1 << 4;
/// Bits 7:0 of SCFSR are flags; those above count errors and must be written as 0.
const FLAGS: u32 = 0xff;
/// Overrun and timeout, in SCLSR.
const LINE_ERRORS: u32 = 1 << 0 | 1 << 2;

pub(super) struct Scif {
    /// Bytes in each FIFO.
    fifo: u32,
}

impl Scif {
    pub const SCIF: Self = Self { fifo: 16 };
    pub const HSCIF: Self = Self { fifo: 128 };

    /// Clears those of `flags` that are read as 1 now.
    fn clear(registers: &impl Registers, flags: u32) {
        let seen = registers.read(SCFSR, Width::Half) & flags;
        if seen != 0 {
            registers.write(SCFSR, Width::Half, FLAGS & !seen);
        }
    }

    /// Reception stops at an overrun and at a break until they are acknowledged.
    fn clear_errors(registers: &impl Registers) {
        Self::clear(registers, RECEIVE_ERRORS);
        let line = registers.read(SCLSR, Width::Half);
        if line & LINE_ERRORS != 0 {
            registers.write(SCLSR, Width::Half, line & !LINE_ERRORS);
        }
    }
}

impl Port for Scif {
    fn init(&self, registers: &impl Registers) {
        let control = registers.read(SCSCR, Width::Half);
        let control = control & !INTERRUPTS | TRANSMIT_RECEIVE;
        registers.write(SCSCR, Width::Half, control);
        Self::clear_errors(registers);
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        // The count, and not TDFE: that flag stays until it is cleared, whatever the FIFO holds.
        let waiting = registers.read(SCFDR, Width::Half) >> 8;
        waiting < self.fifo
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        registers.write(SCFTDR, Width::Byte, byte.into());
        // After the byte: while the FIFO is empty, both would be set again at once.
        Self::clear(registers, TDFE | TEND);
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        registers.read(SCFSR, Width::Half) & TEND != 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        Self::clear_errors(registers);
        let seen = registers.read(SCFSR, Width::Half) & (RDF | DR);
        if registers.read(SCFDR, Width::Half) & 0xff != 0 {
            return Some(registers.read(SCFRDR, Width::Byte) as u8);
        }
        // Only now that the FIFO was seen empty: DR does not come back for bytes that are left. A
        // byte that comes between the read and this write sets its flag later.
        if seen != 0 {
            registers.write(SCFSR, Width::Half, FLAGS & !seen);
        }
        None
    }

    fn enable_receive_interrupt(&self, registers: &impl Registers) {
        let control = registers.read(SCSCR, Width::Half);
        registers.write(SCSCR, Width::Half, control | RECEIVE_INTERRUPT);
    }

    fn acknowledge_interrupt(&self, registers: &impl Registers) {
        Self::clear_errors(registers);
    }
}
