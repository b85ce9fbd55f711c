//! Where the image lies, its regions, and what the build tool wrote into it.

use core::ptr;

use xen_types::{Hpa, HpaRange};

unsafe extern "C" {
    static _image_start: u8;
    static _boot_stack_bottom: u8;
    static _image_end: u8;
    static image_config: Config;
}

/// The block behind the Image header (`entry.S`) that `cargo xtask build` fills in.
#[repr(C)]
#[derive(Clone, Copy)]
struct Config {
    magic: [u8; 8],
    symbols_offset: u64,
    symbols_size: u64,
    console: FallbackConsole,
}

/// A console to use when the device tree gives none: for bringing up a board.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct FallbackConsole {
    /// 0 none, 1 PL011, 2 NS16550, 3 SCIF, 4 HSCIF, 5 i.MX, 6 BCM2835 auxiliary.
    pub kind: u32,
    /// log2 of the distance of two registers.
    pub reg_shift: u8,
    /// Bytes of a register access.
    pub io_width: u8,
    reserved: u16,
    /// Physical address of the registers.
    pub address: u64,
}

fn address_of(symbol: *const u8) -> Hpa {
    Hpa::new(symbol as u64)
}

fn config() -> Config {
    // SAFETY: the symbol is the block in entry.S, laid out as `Config`. Volatile because the build
    // tool changes it after the compiler and linker have seen it as zeros.
    unsafe { ptr::read_volatile(&raw const image_config) }
}

/// The page below the boot stack, which nothing maps.
pub fn boot_stack_guard() -> HpaRange {
    let bottom = (&raw const _boot_stack_bottom) as u64;
    HpaRange::new(
        Hpa::new(bottom - xen_types::PAGE_SIZE),
        xen_types::PAGE_SIZE,
    )
    .expect("the guard lies inside the image")
}

/// The symbol table behind the linked image, if the build appended one.
pub fn symbol_table() -> Option<HpaRange> {
    let config = config();
    let start = start().checked_add(config.symbols_offset)?;
    HpaRange::new(start, config.symbols_size)
}

/// The console to fall back on.
pub fn fallback_console() -> FallbackConsole {
    config().console
}

/// The load address.
pub fn start() -> Hpa {
    address_of(&raw const _image_start)
}

/// All of it, symbol table included, in whole pages.
pub fn range() -> HpaRange {
    let linked_end = address_of(&raw const _image_end);
    let end = symbol_table().map_or(linked_end, |table| table.end().max(linked_end));
    HpaRange::between(start(), end)
        .and_then(HpaRange::page_aligned_outwards)
        .expect("the image is not empty")
}
