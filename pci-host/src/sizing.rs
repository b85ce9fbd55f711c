//! How large a function's base address registers are (PCI Local Bus 3.0, 6.2.5.1; PCI Express Base
//! 6.0, 7.5.1.2.1; of virtual functions: 9.3.3.14).
//!
//! Ones are written and what sticks is read. The function decodes nothing meanwhile, and gets back
//! what it had.

use arrayvec::ArrayVec;

use crate::bar::{Bar, BarFault, BarKind, Bars};
use crate::config::{ConfigAccess, ConfigOffset, Function, Register};
use crate::header::{self, Command, Layout};

/// What sizing found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Sizes {
    /// The base address registers.
    pub bars: Bars,
    /// The expansion ROM.
    pub rom: Option<Bar>,
    /// Registers that make no sense, by their number.
    pub faults: ArrayVec<(u8, BarFault), 7>,
}

/// The number under which faults name the ROM.
pub const ROM: u8 = 6;

/// Sizes the registers of a function's header.
pub fn header<C: ConfigAccess + ?Sized>(function: Function<'_, C>, layout: Layout) -> Sizes {
    with_decode_off(function, || {
        let mut sizes = registers(function, header::BAR0, layout.bars());
        match rom(function, layout.rom()) {
            Ok(rom) => sizes.rom = rom,
            Err(fault) => sizes.note(ROM, fault),
        }
        sizes
    })
}

/// Sizes the registers for virtual functions, which begin at `start`. Virtual functions must be
/// disabled. The sizes are those of one virtual function.
pub fn virtual_functions<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    start: ConfigOffset,
) -> Sizes {
    registers(function, start.get(), Layout::Endpoint.bars())
}

/// Runs `work` while the function answers neither I/O nor memory requests.
pub(crate) fn with_decode_off<C: ConfigAccess + ?Sized, R>(
    function: Function<'_, C>,
    work: impl FnOnce() -> R,
) -> R {
    let command = function.read(header::COMMAND);
    let decodes = command.intersects(Command::DECODE);
    if decodes {
        function.write(header::COMMAND, command - Command::DECODE);
    }
    let result = work();
    if decodes {
        function.write(header::COMMAND, command);
    }
    result
}

impl Sizes {
    fn note(&mut self, number: u8, fault: BarFault) {
        // There are no more registers than places: none is lost.
        let _ = self.faults.try_push((number, fault));
    }
}

fn registers<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    start: u16,
    count: usize,
) -> Sizes {
    let mut sizes = Sizes::default();
    let mut number = 0;
    while number < count {
        let Some(low) = register(start, number) else {
            break;
        };
        let kind = BarKind::from_register(function.read(low));
        let two = kind.is_ok_and(BarKind::is_64bit);
        let high = register(start, number + 1).filter(|_| number + 1 < count);
        match kind.and_then(|kind| bar(function, kind, low, high)) {
            Ok(bar) => {
                if let Some(place) = sizes.bars.get_mut(number) {
                    *place = bar;
                }
            }
            Err(fault) => sizes.note(number as u8, fault),
        }
        number += if two { 2 } else { 1 };
    }
    sizes
}

fn register(start: u16, number: usize) -> Option<Register<u32>> {
    let offset = ConfigOffset::new(start)?.checked_add(u16::try_from(number).ok()? * 4)?;
    Register::new(offset)
}

/// Sizes one register, or two; `None` for one that is not there.
fn bar<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    kind: BarKind,
    low: Register<u32>,
    high: Option<Register<u32>>,
) -> Result<Option<Bar>, BarFault> {
    let before = function.read(low);
    if !kind.is_64bit() {
        let mask = probe(function, low, u32::MAX) & !kind.flag_mask();
        return single(kind, mask, before & !kind.flag_mask());
    }
    let high = high.ok_or(BarFault::NoSecondRegister)?;
    let before_high = function.read(high);
    let mask_low = probe(function, low, u32::MAX) & !kind.flag_mask();
    let mask_high = probe(function, high, u32::MAX);
    let mask = wide(mask_low, mask_high);
    let address = wide(before & !kind.flag_mask(), before_high);
    sized(kind, mask, u64::MAX, address)
}

fn rom<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    register: Register<u32>,
) -> Result<Option<Bar>, BarFault> {
    let before = function.read(register);
    // Without the enable bit: the ROM must not answer at all ones.
    let address_bits = !BarKind::Rom.flag_mask();
    let mask = probe(function, register, address_bits) & address_bits;
    single(BarKind::Rom, mask, before & address_bits)
}

/// What sticks of `ones`; the register has its former value afterwards.
fn probe<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    register: Register<u32>,
    ones: u32,
) -> u32 {
    let before = function.read(register);
    function.write(register, ones);
    let stuck = function.read(register);
    function.write(register, before);
    stuck
}

fn single(kind: BarKind, mask: u32, address: u32) -> Result<Option<Bar>, BarFault> {
    // I/O addresses may have 16 bits only: then the upper ones read as 0.
    let width = if kind == BarKind::Io && mask >> 16 == 0 {
        0xffff
    } else {
        u32::MAX
    };
    sized(kind, mask.into(), width.into(), address.into())
}

/// A register of whose `width` the `mask` can be written.
fn sized(kind: BarKind, mask: u64, width: u64, address: u64) -> Result<Option<Bar>, BarFault> {
    if mask == 0 {
        return Ok(None);
    }
    let size = 1 << mask.trailing_zeros();
    // All bits above the lowest.
    if mask != width & !(size - 1) {
        return Err(BarFault::NotAPowerOfTwo(mask));
    }
    let address = Some(address & mask).filter(|&address| address != 0);
    Ok(Some(Bar {
        kind,
        size,
        address,
    }))
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests;
