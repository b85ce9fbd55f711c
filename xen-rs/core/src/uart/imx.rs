//! The UART of NXP i.MX (i.MX 8M Plus reference manual, chapter 16.2). All registers are 32 bits.

use super::{Port, Registers, Width};

const URXD: usize = 0x00;
const UTXD: usize = 0x40;
const UCR1: usize = 0x80;
const UCR2: usize = 0x84;
const UCR3: usize = 0x88;
const UCR4: usize = 0x8c;
const USR2: usize = 0x98;
const UTS: usize = 0xb4;

/// UARTEN.
const UCR1_ENABLE: u32 = 1;
/// Interrupt and DMA enables: ADEN, TRDYEN, IDEN, RRDYEN, RXDMAEN, TXMPTYEN, RTSDEN, TXDMAEN,
/// ATDMAEN.
const UCR1_REQUESTS: u32 =
    1 << 15 | 1 << 13 | 1 << 12 | 1 << 9 | 1 << 8 | 1 << 6 | 1 << 5 | 1 << 3 | 1 << 2;
/// ESCI, RTSEN, ATEN.
const UCR2_REQUESTS: u32 = 1 << 15 | 1 << 4 | 1 << 3;
/// TXEN, RXEN, and SRST, which resets while it is 0.
const UCR2_ON: u32 = 1 << 2 | 1 << 1 | 1;
/// DTREN, PARERREN, FRAERREN, RXDSEN, AIRINTEN, AWAKEN, DTRDEN.
const UCR3_REQUESTS: u32 = 1 << 13 | 1 << 12 | 1 << 11 | 1 << 6 | 1 << 5 | 1 << 4 | 1 << 3;
/// ENIRI, WKEN, IDDMAEN, TCEN, BKEN, OREN, DREN.
const UCR4_REQUESTS: u32 = 1 << 8 | 1 << 7 | 1 << 6 | 1 << 3 | 1 << 2 | 1 << 1 | UCR4_DATA_READY;
/// DREN: from the first byte on, whatever level of the FIFO firmware chose for RRDYEN.
const UCR4_DATA_READY: u32 = 1;

const USR2_DATA_READY: u32 = 1;
const USR2_TRANSMITTED: u32 = 1 << 3;
/// Break and overrun, cleared by writing 1.
const USR2_ERRORS: u32 = 1 << 2 | 1 << 1;
const UTS_FULL: u32 = 1 << 4;

pub(super) struct Imx;

impl Imx {
    fn change(registers: &impl Registers, register: usize, clear: u32, set: u32) {
        let value = registers.read(register, Width::Word);
        registers.write(register, Width::Word, value & !clear | set);
    }
}

impl Port for Imx {
    fn init(&self, registers: &impl Registers) {
        Self::change(registers, UCR1, UCR1_REQUESTS, UCR1_ENABLE);
        Self::change(registers, UCR2, UCR2_REQUESTS, UCR2_ON);
        Self::change(registers, UCR3, UCR3_REQUESTS, 0);
        Self::change(registers, UCR4, UCR4_REQUESTS, 0);
    }

    fn has_room(&self, registers: &impl Registers) -> bool {
        registers.read(UTS, Width::Word) & UTS_FULL == 0
    }

    fn send(&self, registers: &impl Registers, byte: u8) {
        registers.write(UTXD, Width::Word, byte.into());
    }

    fn is_idle(&self, registers: &impl Registers) -> bool {
        registers.read(USR2, Width::Word) & USR2_TRANSMITTED != 0
    }

    fn receive(&self, registers: &impl Registers) -> Option<u8> {
        let ready = registers.read(USR2, Width::Word) & USR2_DATA_READY != 0;
        ready.then(|| registers.read(URXD, Width::Word) as u8)
    }

    fn enable_receive_interrupt(&self, registers: &impl Registers) {
        Self::change(registers, UCR4, 0, UCR4_DATA_READY);
    }

    fn acknowledge_interrupt(&self, registers: &impl Registers) {
        registers.write(USR2, Width::Word, USR2_ERRORS);
    }
}
