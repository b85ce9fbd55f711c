//! Consoles: the serial ports that boards have, polled, over a trait that reaches the registers.
//!
//! Firmware has set the baud rate, the frame and the pins, and its settings stay: a driver only
//! makes sure that the port can send and receive, and that nothing interrupts. It writes no
//! divisor and no line control register.

mod bcm_aux;
mod imx;
mod model;
mod ns16550;
mod pl011;
mod scif;
#[cfg(test)]
mod tests;

pub use model::Model;

/// Registers of a serial port.
pub trait Registers {
    /// Reads the register at `offset` bytes with an access of `width`.
    fn read(&self, offset: usize, width: Width) -> u32;
    /// Writes it. What `value` has beyond `width` is not written.
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
    /// Makes it send and receive, without interrupts.
    fn init(&self, registers: &impl Registers);
    /// Whether it can take a byte now.
    fn has_room(&self, registers: &impl Registers) -> bool;
    /// Sends a byte; there is room.
    fn send(&self, registers: &impl Registers, byte: u8);
    /// Whether all that was sent has left the wire.
    fn is_idle(&self, registers: &impl Registers) -> bool;
    /// Takes a received byte, if there is one.
    fn receive(&self, registers: &impl Registers) -> Option<u8>;
    /// Has received bytes interrupt, and nothing else.
    fn enable_receive_interrupt(&self, registers: &impl Registers);
    /// Takes back what interrupts apart from received bytes: errors, breaks, spurious causes.
    fn acknowledge_interrupt(&self, registers: &impl Registers);
}

/// How often a driver looks for room before it gives a byte up. At the slowest usual rate (9600
/// baud) a byte takes a millisecond, and a look at a register not less than 10 ns.
const PATIENCE: u32 = 1_000_000;

/// A serial port.
///
/// No method waits without an end: a port that is broken, or whose line is held by flow control,
/// loses output and stops nothing.
#[derive(Debug)]
pub struct Uart<R> {
    model: Model,
    registers: R,
    /// Whether the port did not take the last byte.
    stuck: bool,
    dropped: u64,
}

/// Evaluates `$body` with `$port` as the [`Port`] of a model. The calls are static: they must work
/// before the image's own tables of functions do.
macro_rules! with_port {
    ($model:expr, $port:ident => $body:expr) => {
        match $model {
            Model::Pl011 => {
                let $port = pl011::Pl011::FULL;
                $body
            }
            Model::Pl011Word => {
                let $port = pl011::Pl011::FULL_WORD;
                $body
            }
            Model::Sbsa => {
                let $port = pl011::Pl011::SBSA;
                $body
            }
            Model::Scif => {
                let $port = scif::Scif::SCIF;
                $body
            }
            Model::Hscif => {
                let $port = scif::Scif::HSCIF;
                $body
            }
            Model::Ns16550 { shift, width } => {
                let $port = ns16550::Ns16550 { shift, width };
                $body
            }
            Model::BcmAux => {
                let $port = bcm_aux::BcmAux;
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
    /// The port behind `registers`, made ready to send and receive, with its interrupts masked.
    pub fn new(model: Model, registers: R) -> Self {
        let uart = Self {
            model,
            registers,
            stuck: false,
            dropped: 0,
        };
        with_port!(uart.model, port => port.init(&uart.registers));
        uart
    }

    /// Sends a byte if the port has room for it; says whether it had.
    pub fn try_put(&mut self, byte: u8) -> bool {
        with_port!(self.model, port => {
            let room = port.has_room(&self.registers);
            if room {
                port.send(&self.registers, byte);
            }
            room
        })
    }

    /// Sends a byte, waiting for room; after a million looks the byte is dropped and counted.
    pub fn put(&mut self, byte: u8) {
        let sent = (0..self.patience()).any(|_| self.try_put(byte));
        self.stuck = !sent;
        self.dropped += u64::from(!sent);
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

    /// How many bytes were dropped because the port never had room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Waits, with an end, until everything has left.
    pub fn flush(&self) {
        with_port!(self.model, port => {
            let _ = (0..self.patience()).any(|_| port.is_idle(&self.registers));
        });
    }

    /// A received byte, if there is one. A byte that came with a line error is given as it came.
    pub fn get(&mut self) -> Option<u8> {
        with_port!(self.model, port => port.receive(&self.registers))
    }

    /// Has received bytes raise the port's interrupt.
    ///
    /// Its handler takes bytes with [`get`](Self::get) until there are none, which also takes the
    /// request back, and then calls [`acknowledge_interrupt`](Self::acknowledge_interrupt). A
    /// broken port may have bytes forever, so it stops after as many as a FIFO holds (128).
    pub fn enable_receive_interrupt(&mut self) {
        with_port!(self.model, port => port.enable_receive_interrupt(&self.registers));
    }

    /// Takes back requests that are not for received bytes. Never loses a byte that came meanwhile.
    pub fn acknowledge_interrupt(&mut self) {
        with_port!(self.model, port => port.acknowledge_interrupt(&self.registers));
    }

    /// Once a port is stuck, each further byte gets one look instead of the whole wait.
    fn patience(&self) -> u32 {
        if self.stuck { 1 } else { PATIENCE }
    }
}
