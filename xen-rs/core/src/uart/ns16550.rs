//! The 8250 family (PC16550D data sheet, section 8), with registers spaced by `reg-shift` and
//! accessed as `reg-io-width` says; and the mini UART of BCM2835 (its peripherals manual, 2.2).

use super::{Port, Registers, Width};

/// Receiver buffer and transmitter holding register, interrupt enable, FIFO control, line status.
const DATA: usize = 0;
const IER: usize = 1;
const FCR: usize = 2;
const LSR: usize = 5;

const LSR_DATA_READY: u32 = 1 << 0;
const LSR_HOLDING_EMPTY: u32 = 1 << 5;
const LSR_IDLE: u32 = 1 << 6;
const FCR_ENABLE: u32 = 1;

pub(super) struct Ns16550 {
    pub shift: u8,
    pub width: Width,
    /// Whether register 2 is written to switch the FIFOs on.
    pub fifo_control: bool,
}

impl Ns16550 {
    fn read(&self, registers: &impl Registers, register: usize) -> u32 {
        registers.read(register << self.shift, self.width) & 0xff
    }

    fn write(&self, registers: &impl Registers, register: usize, value: u32) {
        registers.write(register << self.shift, self.width, value);
    }
}

impl Port for Ns16550 {
    fn init(&self, registers: &impl Registers) {
        self.write(registers, IER, 0);
        if self.fifo_control {
            self.write(registers, FCR, FCR_ENABLE);
        }
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        self.read(registers, LSR) & LSR_HOLDING_EMPTY != 0
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        self.write(registers, DATA, byte.into());
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        self.read(registers, LSR) & LSR_IDLE != 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        let ready = self.read(registers, LSR) & LSR_DATA_READY != 0;
        ready.then(|| self.read(registers, DATA) as u8)
    }
}
