//! MSI and MSI-X (PCI Local Bus 3.0, 6.8; PCI Express Base 6.0, 7.7.1 and 7.7.2).

use super::at;
use crate::bar::Bars;
use crate::config::{ConfigAccess, ConfigOffset, Function};

/// Message signalled interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Msi {
    /// Where it begins.
    pub offset: ConfigOffset,
    /// log2 of how many vectors the function asks for, 0 to 5.
    pub vectors_log2: u8,
    /// The address has 64 bits.
    pub is_64bit: bool,
    /// Each vector can be masked.
    pub has_masks: bool,
}

/// What a function's MSI is set to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MsiMessage {
    /// Where messages are written.
    pub address: u64,
    /// What is written; vectors replace the low bits.
    pub data: u16,
    /// log2 of how many vectors.
    pub vectors_log2: u8,
    /// The vectors that are masked, where vectors can be.
    pub mask: u32,
}

/// MSI: enable and how many vectors, of message control.
const MSI_ENABLE: u16 = 1 << 0;
const MSI_VECTORS: u16 = 0b111 << 4;
/// MSI-X: enable and function mask, of message control.
const MSI_X_ENABLE: u16 = 1 << 15;
const MSI_X_MASK: u16 = 1 << 14;

impl Msi {
    /// Reads the capability at `offset`.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let control: u16 = function.read(at(offset, 2)?);
        Some(Self {
            offset,
            // 6 and 7 are reserved (7.7.1.2).
            vectors_log2: (control >> 1 & 7).min(5) as u8,
            is_64bit: control & 1 << 7 != 0,
            has_masks: control & 1 << 8 != 0,
        })
    }

    /// Bytes of the capability.
    pub const fn size(self) -> u16 {
        match (self.is_64bit, self.has_masks) {
            (false, false) => 0x0a,
            (true, false) => 0x0e,
            (false, true) => 0x14,
            (true, true) => 0x18,
        }
    }

    /// Turns the function's messages off.
    pub fn disable<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) {
        if let Some(control) = at::<u16>(self.offset, 2) {
            let before = function.read(control);
            if before & MSI_ENABLE != 0 {
                function.write(control, before & !MSI_ENABLE);
            }
        }
    }

    /// Has the function send messages. Nothing is sent while its registers change.
    pub fn enable<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>, message: MsiMessage) {
        self.disable(function);
        let write = |bytes, value: u32| {
            if let Some(register) = at::<u32>(self.offset, bytes) {
                function.write(register, value);
            }
        };
        write(4, message.address as u32);
        if self.is_64bit {
            write(8, (message.address >> 32) as u32);
        }
        let data = if self.is_64bit { 12 } else { 8 };
        if let Some(register) = at::<u16>(self.offset, data) {
            function.write(register, message.data);
        }
        self.set_masks(function, message.mask);
        if let Some(control) = at::<u16>(self.offset, 2) {
            let vectors = u16::from(message.vectors_log2.min(self.vectors_log2)) << 4;
            let others = function.read(control) & !MSI_VECTORS;
            function.write(control, others | vectors | MSI_ENABLE);
        }
    }

    /// Masks these vectors and no others, where vectors can be masked.
    pub fn set_masks<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>, mask: u32) {
        let bytes = if self.is_64bit { 16 } else { 12 };
        if let Some(register) = at::<u32>(self.offset, bytes).filter(|_| self.has_masks) {
            function.write(register, mask);
        }
    }
}

/// A place in the memory behind a BAR.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BarPlace {
    /// The BAR's number, 0 to 5.
    pub bar: u8,
    /// Bytes from its start; a multiple of 8.
    pub offset: u32,
}

/// MSI-X, with table and pending bits inside memory BARs that the function has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MsiX {
    /// Where it begins.
    pub offset: ConfigOffset,
    /// Vectors, 1 to 2048.
    pub vectors: u16,
    /// The table: 16 bytes for each vector.
    pub table: BarPlace,
    /// The pending bits: 8 bytes for every 64 vectors.
    pub pending: BarPlace,
}

/// Why a function's MSI-X cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum MsiXFault {
    /// A structure is in a BAR that is not there or not memory.
    #[error("its MSI-X structures are in BAR {0}, which is no memory")]
    NoBar(u8),
    /// A structure leaves its BAR.
    #[error("its MSI-X structures leave BAR {0}")]
    OutsideBar(u8),
    /// Table and pending bits overlap.
    #[error("its MSI-X table and pending bits overlap")]
    Overlap,
}

impl MsiX {
    /// Reads the capability at `offset` of a function that has these BARs.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
        bars: &Bars,
    ) -> Option<Result<Self, MsiXFault>> {
        let control: u16 = function.read(at(offset, 2)?);
        let place = |bits: u32| BarPlace {
            bar: (bits & 7) as u8,
            offset: bits & !7,
        };
        let msi_x = Self {
            offset,
            vectors: (control & 0x7ff) + 1,
            table: place(function.read(at(offset, 4)?)),
            pending: place(function.read(at(offset, 8)?)),
        };
        Some(msi_x.check(bars).map(|()| msi_x))
    }

    /// Bytes of the table.
    pub fn table_size(self) -> u64 {
        u64::from(self.vectors) * 16
    }

    /// Bytes of the pending bits.
    pub fn pending_size(self) -> u64 {
        u64::from(self.vectors).div_ceil(64) * 8
    }

    /// Turns the function's messages off.
    pub fn disable<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) {
        if let Some(control) = at::<u16>(self.offset, 2) {
            let before = function.read(control);
            if before & MSI_X_ENABLE != 0 {
                function.write(control, before & !MSI_X_ENABLE);
            }
        }
    }

    /// Turns the function's messages on, all vectors masked by `masked`, whatever the table says.
    pub fn enable<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>, masked: bool) {
        if let Some(control) = at::<u16>(self.offset, 2) {
            let others = function.read(control) & !MSI_X_MASK;
            let mask = if masked { MSI_X_MASK } else { 0 };
            function.write(control, others | MSI_X_ENABLE | mask);
        }
    }

    /// Of Xen's fixes without a number, 53859596c0: structures in a BAR of no size.
    fn check(self, bars: &Bars) -> Result<(), MsiXFault> {
        let table = span(self.table, self.table_size(), bars)?;
        let pending = span(self.pending, self.pending_size(), bars)?;
        let overlap = table.start < pending.end && pending.start < table.end;
        if self.table.bar == self.pending.bar && overlap {
            return Err(MsiXFault::Overlap);
        }
        Ok(())
    }
}

/// The bytes of a structure in its BAR.
fn span(place: BarPlace, size: u64, bars: &Bars) -> Result<core::ops::Range<u64>, MsiXFault> {
    let bar = bars.get(usize::from(place.bar)).copied().flatten();
    let bar = bar.filter(|bar| bar.kind.is_memory());
    let bar = bar.ok_or(MsiXFault::NoBar(place.bar))?;
    let start = u64::from(place.offset);
    let end = start.saturating_add(size);
    if end > bar.size {
        return Err(MsiXFault::OutsideBar(place.bar));
    }
    Ok(start..end)
}
