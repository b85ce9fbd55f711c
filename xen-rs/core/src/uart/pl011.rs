//! Arm PL011 (DDI 0183, chapter 3) and the SBSA generic UART (DEN 0029, appendix B), which is the
//! same without the registers that set it up.

use super::{Port, Registers, Width};

const DR: usize = 0x00;
const FR: usize = 0x18;
const CR: usize = 0x30;
const IMSC: usize = 0x38;

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// UARTEN, TXE, RXE.
const CR_ON: u32 = 1 | 1 << 8 | 1 << 9;

pub(super) struct Pl011 {
    /// Whether there is a control register.
    pub has_control: bool,
}

impl Port for Pl011 {
    fn init(&self, registers: &impl Registers) {
        registers.write(IMSC, Width::Word, 0);
        if self.has_control {
            // Kept but for what turns it on: flow control and loop-back are the board's.
            let control = registers.read(CR, Width::Word);
            registers.write(CR, Width::Word, control | CR_ON);
        }
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        registers.read(FR, Width::Word) & FR_TXFF == 0
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        registers.write(DR, Width::Word, byte.into());
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        registers.read(FR, Width::Word) & FR_BUSY == 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        let empty = registers.read(FR, Width::Word) & FR_RXFE != 0;
        (!empty).then(|| registers.read(DR, Width::Word) as u8)
    }
}
