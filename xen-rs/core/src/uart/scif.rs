//! Renesas SCIF and HSCIF (R-Car Series, 3rd Generation, hardware manual, chapters 50 and 51).
//!
//! Flags of the status register are cleared by writing 0 after having read 1, and ignore a 1: so a
//! write keeps ones for all flags but those that it means.

use super::{Port, Registers, Width};

/// Serial control, transmit data, status, receive data, FIFO count, line status.
const SCSCR: usize = 0x08;
const SCFTDR: usize = 0x0c;
const SCFSR: usize = 0x10;
const SCFRDR: usize = 0x14;
const SCFDR: usize = 0x1c;
const SCLSR: usize = 0x24;

/// Transmit, receive, error interrupts, in SCSCR.
const INTERRUPTS: u32 = 1 << 7 | 1 << 6 | 1 << 3;
const TRANSMIT_RECEIVE: u32 = 1 << 5 | 1 << 4;

const TEND: u32 = 1 << 6;
const TDFE: u32 = 1 << 5;
const RDF: u32 = 1 << 1;
const DR: u32 = 1 << 0;
/// Receive error and break.
const RECEIVE_ERRORS: u32 = 1 << 7 | 1 << 4;
/// Overrun, in SCLSR.
const ORER: u32 = 1 << 0;

pub(super) struct Scif {
    /// Bytes in each FIFO.
    pub fifo: u32,
}

impl Scif {
    fn clear(registers: &impl Registers, flags: u32) {
        // Only what was read as 1 is cleared by the write.
        registers.read(SCFSR, Width::Half);
        registers.write(SCFSR, Width::Half, !flags & 0xffff);
    }
}

impl Port for Scif {
    fn init(&self, registers: &impl Registers) {
        let control = registers.read(SCSCR, Width::Half);
        let control = control & !INTERRUPTS | TRANSMIT_RECEIVE;
        registers.write(SCSCR, Width::Half, control);
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        // The count, and not TDFE: that flag stays until it is cleared, whatever the FIFO holds.
        let waiting = registers.read(SCFDR, Width::Half) >> 8;
        waiting < self.fifo
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        registers.write(SCFTDR, Width::Byte, byte.into());
        Self::clear(registers, TDFE | TEND);
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        registers.read(SCFSR, Width::Half) & TEND != 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        if registers.read(SCFSR, Width::Half) & RECEIVE_ERRORS != 0 {
            Self::clear(registers, RECEIVE_ERRORS);
        }
        // An overrun stops reception until it is acknowledged.
        if registers.read(SCLSR, Width::Half) & ORER != 0 {
            registers.write(SCLSR, Width::Half, 0);
        }
        let waiting = registers.read(SCFDR, Width::Half) & 0xff;
        if waiting == 0 {
            return None;
        }
        let byte = registers.read(SCFRDR, Width::Byte) as u8;
        Self::clear(registers, RDF | DR);
        Some(byte)
    }
}
