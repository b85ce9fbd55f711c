//! The 8250 family (PC16550D data sheet, section 8), with registers spaced by `reg-shift` and
//! accessed as `reg-io-width` says.

use super::{Port, Registers, Width};

/// Receiver buffer and transmitter holding register; interrupt enable; interrupt identification
/// when read and FIFO control when written; line control; modem control; line and modem status.
const DATA: usize = 0;
pub(super) const IER: usize = 1;
const IIR: usize = 2;
const FCR: usize = 2;
const LCR: usize = 3;
const MCR: usize = 4;
const LSR: usize = 5;
const MSR: usize = 6;
/// UART status of Synopsys' DesignWare variant.
const USR: usize = 0x1f;

const IER_RECEIVED: u32 = 1;
const FCR_ENABLE: u32 = 1;
const LCR_DIVISOR_ACCESS: u32 = 1 << 7;
/// DTR and RTS: the other side may send.
const MCR_READY: u32 = 0b11;
/// OUT2 gates the interrupt on many boards.
const MCR_OUT2: u32 = 1 << 3;
const MCR_LOOP: u32 = 1 << 4;
const LSR_DATA_READY: u32 = 1 << 0;
const LSR_HOLDING_EMPTY: u32 = 1 << 5;
const LSR_IDLE: u32 = 1 << 6;
/// Causes in IIR: DesignWare's "line control was written while busy", and receive timeout.
const CAUSE: u32 = 0xf;
const CAUSE_BUSY: u32 = 0x7;
const CAUSE_TIMEOUT: u32 = 0xc;

#[derive(Clone, Copy)]
pub(super) struct Ns16550 {
    /// log2 of the distance of two registers.
    pub shift: u8,
    pub width: Width,
}

impl Ns16550 {
    pub fn read(&self, registers: &impl Registers, register: usize) -> u32 {
        registers.read(register << self.shift, self.width) & 0xff
    }

    pub fn write(&self, registers: &impl Registers, register: usize, value: u32) {
        registers.write(register << self.shift, self.width, value);
    }

    /// Writes only what differs.
    pub fn change(&self, registers: &impl Registers, register: usize, clear: u32, set: u32) {
        let old = self.read(registers, register);
        let new = old & !clear | set;
        if new != old {
            self.write(registers, register, new);
        }
    }

    /// Masks all interrupts. Where firmware left the divisor latches open, they lie where data and
    /// IER are; so close them first.
    pub fn mask_interrupts(&self, registers: &impl Registers) {
        self.change(registers, LCR, LCR_DIVISOR_ACCESS, 0);
        self.write(registers, IER, 0);
    }
}

impl Port for Ns16550 {
    fn init(&self, registers: &impl Registers) {
        self.mask_interrupts(registers);
        self.change(registers, MCR, MCR_LOOP, MCR_READY);
        // Keeps what is in the FIFOs if they are on already. Interrupts from the first byte on.
        self.write(registers, FCR, FCR_ENABLE);
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

    fn enable_receive_interrupt(&self, registers: &impl Registers) {
        self.change(registers, MCR, 0, MCR_OUT2);
        self.write(registers, IER, IER_RECEIVED);
    }

    fn acknowledge_interrupt(&self, registers: &impl Registers) {
        let cause = self.read(registers, IIR) & CAUSE;
        let line = self.read(registers, LSR);
        self.read(registers, MSR);
        match cause {
            CAUSE_BUSY => {
                self.read(registers, USR);
            }
            // DesignWare reports a timeout with no byte there; only a read of the data ends it.
            CAUSE_TIMEOUT if line & LSR_DATA_READY == 0 => {
                self.read(registers, DATA);
            }
            _ => (),
        }
    }
}
