//! The serial port of the console: which one, and how its registers are reached.

use platform_dt::{ConsoleChoice, Dtb, TreeError, Uart as Node};
use xen_core::uart::{Model, Registers as RegisterAccess, Uart, Width};
use xen_types::{Hpa, HpaRange};

use crate::image::{self, FallbackConsole};
use crate::memory::device::{self, MapError, Registers};

/// A serial port on this machine.
pub type Driver = Uart<Registers>;

/// Why there is no port.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// The tree names none, or one that cannot be used.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Its registers cannot be mapped.
    #[error("{0}")]
    Map(#[from] MapError),
}

impl RegisterAccess for Registers {
    fn read(&self, offset: usize, width: Width) -> u32 {
        match width {
            Width::Byte => self.read8(offset).into(),
            Width::Half => self.read16(offset).into(),
            Width::Word => self.read32(offset),
        }
    }

    fn write(&self, offset: usize, width: Width, value: u32) {
        match width {
            Width::Byte => self.write8(offset, value as u8),
            Width::Half => self.write16(offset, value as u16),
            Width::Word => self.write32(offset, value),
        }
    }
}

/// The port that the tree names.
pub fn of_tree(tree: &Dtb<'_>, choice: ConsoleChoice<'_>) -> Result<Driver, ConsoleError> {
    let node = tree.console(choice)?;
    let registers = device::map(node.regs)?;
    Ok(Uart::new(Model::from(&node), registers))
}

/// The port that the tree names, with the MMU off.
pub fn without_mmu(node: &Node<'_>) -> Driver {
    Uart::new(Model::from(node), device::without_mmu(node.regs))
}

/// The port that the build wrote into the image.
pub fn fallback() -> Option<Driver> {
    let (model, range) = described(image::fallback_console())?;
    let registers = device::map(range).ok()?;
    Some(Uart::new(model, registers))
}

/// The same with the MMU off.
pub fn fallback_without_mmu() -> Option<Driver> {
    let (model, range) = described(image::fallback_console())?;
    Some(Uart::new(model, device::without_mmu(range)))
}

fn described(console: FallbackConsole) -> Option<(Model, HpaRange)> {
    let model = match console.kind {
        1 => Model::Pl011,
        // The device tree binding of the 8250 family knows shifts up to 3 as well.
        2 if console.reg_shift <= 3 => Model::Ns16550 {
            shift: console.reg_shift,
            width: width(console.io_width),
        },
        3 => Model::Scif,
        4 => Model::Hscif,
        5 => Model::Imx,
        6 => Model::BcmAux,
        _ => return None,
    };
    // No port has registers beyond the first page.
    let range = HpaRange::new(Hpa::new(console.address), 0x1000)?;
    Some((model, range))
}

fn width(bytes: u8) -> Width {
    match bytes {
        4 => Width::Word,
        2 => Width::Half,
        _ => Width::Byte,
    }
}
