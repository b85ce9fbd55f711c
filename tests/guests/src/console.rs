//! Lines on the hypervisor's console (`console_io` write).

use core::fmt::{self, Write};

use xen_abi::console::ConsoleOp;
use xen_abi::hypercall::Hypercall;

use crate::hypercall;

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
    let address = line.bytes.as_ptr() as u64;
    let count = line.length as u64 + 1;
    hypercall::call(
        Hypercall::ConsoleIo,
        [ConsoleOp::Write.number(), count, address],
    );
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {
        $crate::console::print_line(format_args!($($argument)*))
    };
}
