//! Consoles: the serial ports that boards have, polled, over a trait that reaches the registers.
//!
//! Firmware has set the baud rate and the pins, and its settings stay: a driver only makes sure
//! that it can send and receive, and that nothing interrupts.

mod imx;
mod ns16550;
mod pl011;
mod scif;
#[cfg(test)]
mod tests;

/// Registers of a serial port.
pub trait Registers {
    /// Reads the register at `offset` bytes with an access of `width`.
    fn read(&self, offset: usize, width: Width) -> u32;
    /// Writes it.
    fn write(&self, offset: usize, width: Width, value: u32);
}

/// The size of an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Half,
    /// 32 bits.
    Word,
}

/// What a serial port must do.
trait Port {
    /// Makes it send and receive.
    fn init(&self, registers: &impl Registers);
    /// Whether it can take a byte now.
    fn has_room(&self, registers: &impl Registers) -> bool;
    /// Sends a byte; there is room.
    fn send(&self, registers: &impl Registers, byte: u8);
    /// Whether all that was sent has left the wire.
    fn is_idle(&self, registers: &impl Registers) -> bool;
    /// Takes a received byte, if there is one.
    fn receive(&self, registers: &impl Registers) -> Option<u8>;
}

/// Which serial port it is, with what its registers need to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Arm PL011.
    Pl011,
    /// The subset of it that SBSA asks for: no control register.
    Sbsa,
    /// Renesas SCIF.
    Scif,
    /// Renesas HSCIF.
    Hscif,
    /// 8250 family.
    Ns16550 {
        /// log2 of the distance of two registers.
        shift: u8,
        /// Size of an access.
        width: Width,
    },
    /// The mini UART of BCM2835: like an 8250 with a few bits elsewhere.
    BcmAux,
    /// NXP i.MX.
    Imx,
}

/// How often a driver looks for room before it gives a byte up. At the slowest usual rate (9600
/// baud) a byte takes a millisecond, and a look at a register not less than 10 ns.
const PATIENCE: u32 = 1_000_000;

/// A serial port.
#[derive(Debug)]
pub struct Uart<R> {
    model: Model,
    registers: R,
    dropped: u32,
}

macro_rules! with_port {
    ($self:ident, $port:ident => $body:expr) => {
        match $self.model {
            Model::Pl011 => {
                let $port = pl011::Pl011 { has_control: true };
                $body
            }
            Model::Sbsa => {
                let $port = pl011::Pl011 { has_control: false };
                $body
            }
            Model::Scif => {
                let $port = scif::Scif { fifo: 16 };
                $body
            }
            Model::Hscif => {
                let $port = scif::Scif { fifo: 128 };
                $body
            }
            Model::Ns16550 { shift, width } => {
                let $port = ns16550::Ns16550 { shift, width, fifo_control: true };
                $body
            }
            Model::BcmAux => {
                let $port = ns16550::Ns16550 { shift: 2, width: Width::Word, fifo_control: false };
                $body
            }
            Model::Imx => {
                let $port = imx::Imx;
                $body
            }
        }
    };
}

impl<R: Registers> Uart<R> {
    /// The port behind `registers`, made ready to send and receive.
    pub fn new(model: Model, registers: R) -> Self {
        let uart = Self {
            model,
            registers,
            dropped: 0,
        };
        with_port!(uart, port => port.init(&uart.registers));
        uart
    }

    /// Sends a byte, waiting for room. A port that never has room loses the byte and stops nothing.
    pub fn put(&mut self, byte: u8) {
        // Once a port is stuck, each further byte gets one look instead of the whole wait.
        let looks = if self.dropped == 0 { PATIENCE } else { 1 };
        let sent = with_port!(self, port => {
            let room = (0..looks).any(|_| port.has_room(&self.registers));
            if room {
                port.send(&self.registers, byte);
            }
            room
        });
        self.dropped = if sent { 0 } else { self.dropped.saturating_add(1) };
    }

    /// Sends text; a newline becomes carriage return and newline.
    pub fn put_text(&mut self, text: &str) {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
    }

    /// Waits, with an end, until everything has left.
    pub fn flush(&self) {
        with_port!(self, port => {
            let _ = (0..PATIENCE).any(|_| port.is_idle(&self.registers));
        });
    }

    /// A received byte, if there is one.
    pub fn get(&self) -> Option<u8> {
        with_port!(self, port => port.receive(&self.registers))
    }
}
