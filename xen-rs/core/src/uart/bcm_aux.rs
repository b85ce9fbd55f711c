//! The mini UART of BCM2835 and later (BCM2835 ARM Peripherals, 2.2, with its errata): laid out
//! like an 8250 in 32-bit registers, without modem and FIFO control of that kind, and with a
//! control register of its own.

use super::ns16550::{IER, Ns16550};
use super::{Port, Registers, Width};

const LIKE_8250: Ns16550 = Ns16550 {
    shift: 2,
    width: Width::Word,
};
/// AUX_MU_CNTL_REG, as a register number.
const CNTL: usize = 8;

/// Receiver and transmitter enable.
const CNTL_ON: u32 = 0b11;
/// Bit 0 is receive (the manual has it swapped with transmit, says the errata), and bits 3:2 must
/// be set for it to interrupt.
const IER_RECEIVED: u32 = 0b1101;

pub(super) struct BcmAux;

impl Port for BcmAux {
    fn init(&self, registers: &impl Registers) {
        LIKE_8250.mask_interrupts(registers);
        LIKE_8250.change(registers, CNTL, 0, CNTL_ON);
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        LIKE_8250.has_room(registers)
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        LIKE_8250.send(registers, byte);
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        LIKE_8250.is_idle(registers)
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        LIKE_8250.receive(registers)
    }

    fn enable_receive_interrupt(&self, registers: &impl Registers) {
        LIKE_8250.write(registers, IER, IER_RECEIVED);
    }

    /// Nothing but received bytes interrupts.
    fn acknowledge_interrupt(&self, _: &impl Registers) {}
}
