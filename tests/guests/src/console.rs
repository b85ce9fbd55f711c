//! Lines on the console: the hypervisor's (`console_io` write), or the guest's own serial port where it
//! has one (Arm DEN 0029, appendix B).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

use xen_abi::console::ConsoleOp;
use xen_abi::hypercall::Hypercall;

use crate::hypercall;
use crate::mmio::{read32, write32};

/// The registers of the serial port; zero for the hypervisor's console.
static UART: AtomicU64 = AtomicU64::new(0);
/// `UARTDR`, `UARTFR` and its bit that says that there is no room.
const DR: u64 = 0;
const FR: u64 = 0x18;
const TX_FULL: u32 = 1 << 5;
/// How often a byte looks for room: nobody may read.
const TRIES: u32 = 100_000;

/// From now on lines go to the serial port with these registers.
pub fn use_uart(registers: u64) {
    UART.store(registers, Ordering::Relaxed);
}

/// Bytes of a line that are kept.
const LENGTH: usize = 256;

/// A line in the making.
struct Line {
    bytes: [u8; LENGTH],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The last byte is for the line end.
            if self.length < LENGTH - 1 {
                self.bytes[self.length] = byte;
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// Prints a line as one hypercall, so that it stays whole.
pub fn print_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; LENGTH],
        length: 0,
    };
    let _ = line.write_fmt(arguments);
    line.bytes[line.length] = b'\n';
    let uart = UART.load(Ordering::Relaxed);
    if uart != 0 {
        line.bytes[..=line.length]
            .iter()
            .for_each(|byte| put(uart, *byte));
        return;
    }
    let address = line.bytes.as_ptr() as u64;
    let count = line.length as u64 + 1;
    hypercall::call(
        Hypercall::ConsoleIo,
        [ConsoleOp::Write.number(), count, address],
    );
}

fn put(uart: u64, byte: u8) {
    if (0..TRIES).any(|_| read32(uart + FR) & TX_FULL == 0) {
        write32(uart + DR, byte.into());
    }
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::print_line(format_args!($($argument)*))
    };
}
