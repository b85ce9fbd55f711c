//! Arm PL011 (DDI 0183, chapter 3) and the SBSA generic UART (DEN 0029, appendix B), which is the
//! same without the registers that set it up.

use super::{Port, Registers, Width};

/// Data, flag, control, interrupt mask set/clear, interrupt clear, DMA control (DDI 0183, 3.2).
const DR: usize = 0x00;
const FR: usize = 0x18;
const CR: usize = 0x30;
const IMSC: usize = 0x38;
const ICR: usize = 0x44;
const DMACR: usize = 0x48;

const FR_BUSY: u32 = 1 << 3;
const FR_RXFE: u32 = 1 << 4;
const FR_TXFF: u32 = 1 << 5;
/// UARTEN, TXE, RXE.
const CR_ON: u32 = 1 | 1 << 8 | 1 << 9;
const ALL_INTERRUPTS: u32 = 0x7ff;
/// Receive, and receive timeout: bytes wait below the level of the FIFO that interrupts.
const RECEIVE_INTERRUPTS: u32 = 1 << 4 | 1 << 6;

pub(super) struct Pl011 {
    width: Width,
    /// Whether there are the registers that set the port up.
    has_control: bool,
}

impl Pl011 {
    /// Old buses cannot do 32-bit accesses to 16-bit registers.
    pub const FULL: Self = Self {
        width: Width::Half,
        has_control: true,
    };
    pub const FULL_WORD: Self = Self {
        width: Width::Word,
        has_control: true,
    };
    pub const SBSA: Self = Self {
        width: Width::Word,
        has_control: false,
    };

    fn read(&self, registers: &impl Registers, register: usize) -> u32 {
        registers.read(register, self.width)
    }

    fn write(&self, registers: &impl Registers, register: usize, value: u32) {
        registers.write(register, self.width, value);
    }

    fn turn_on(&self, registers: &impl Registers) {
        self.write(registers, DMACR, 0);
        // Flow control is the board's and stays. CR must not change while a character is on its
        // way (3.3.8), so that it is written only if something is off.
        let control = self.read(registers, CR);
        if control & CR_ON != CR_ON {
            self.write(registers, CR, control | CR_ON);
        }
    }
}

impl Port for Pl011 {
    fn init(&self, registers: &impl Registers) {
        self.write(registers, IMSC, 0);
        self.write(registers, ICR, ALL_INTERRUPTS);
        if self.has_control {
            self.turn_on(registers);
        }
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        self.read(registers, FR) & FR_TXFF == 0
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        self.write(registers, DR, byte.into());
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        self.read(registers, FR) & FR_BUSY == 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        let empty = self.read(registers, FR) & FR_RXFE != 0;
        // Bits 11:8 of DR are the errors of the byte.
        (!empty).then(|| self.read(registers, DR) as u8)
    }

    fn enable_receive_interrupt(&self, registers: &impl Registers) {
        self.write(registers, IMSC, RECEIVE_INTERRUPTS);
    }

    fn acknowledge_interrupt(&self, registers: &impl Registers) {
        // Reading the bytes takes their requests back; clearing them here could lose one.
        self.write(registers, ICR, ALL_INTERRUPTS & !RECEIVE_INTERRUPTS);
    }
}
