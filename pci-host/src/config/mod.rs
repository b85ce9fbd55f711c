//! Config space: 4 KiB of registers of each function (PCI Express Base 6.0, 7.2).

mod access;
mod register;

pub use access::{Access, CONFIG_SIZE, CONVENTIONAL_SIZE, ConfigAccess, ConfigOffset, Width};
pub use register::{Function, Register, Value};
