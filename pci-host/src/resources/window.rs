//! The windows of a PCI-to-PCI bridge (PCI Express Base 6.0, 7.5.1.3.6 to 7.5.1.3.11).

use arrayvec::ArrayVec;

use super::area::{LIMIT_32, Span};
use crate::bridge::Space;
use crate::config::{ConfigAccess, Function, Register, Value};
use crate::header;

/// A window that a bridge has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct BridgeWindow {
    pub space: Space,
    /// It can be anywhere; otherwise I/O is below 64 KiB, and memory below 4 GiB.
    pub wide: bool,
}

/// The low bits of a base: the window has more address bits in the register for them.
const WIDE: u16 = 0xf;

const MEMORY: Space = Space::Memory {
    prefetchable: false,
};
const PREFETCHABLE: Space = Space::Memory { prefetchable: true };

impl BridgeWindow {
    /// The windows of a bridge.
    pub fn of<C: ConfigAccess + ?Sized>(bridge: Function<'_, C>) -> ArrayVec<Self, 3> {
        let mut windows = ArrayVec::new();
        let wide = |bits: u16| bits & WIDE == 1;
        if exists(bridge, header::IO_BASE, 0xf0) {
            let wide = wide(bridge.read(header::IO_BASE).into());
            let space = Space::Io;
            windows.push(Self { space, wide });
        }
        windows.push(Self {
            space: MEMORY,
            wide: false,
        });
        if exists(bridge, header::PREFETCH_BASE, 0xfff0) {
            let wide = wide(bridge.read(header::PREFETCH_BASE));
            let space = PREFETCHABLE;
            windows.push(Self { space, wide });
        }
        windows
    }

    /// What a window's size and start are multiples of.
    pub fn granularity(self) -> u64 {
        match self.space {
            Space::Io => 4 << 10,
            Space::Memory { .. } => 1 << 20,
        }
    }

    /// The highest address that it can have.
    pub fn limit(self) -> u64 {
        match (self.space, self.wide) {
            (Space::Io, false) => 0xffff,
            (Space::Io, true) | (Space::Memory { .. }, false) => LIMIT_32,
            (Space::Memory { .. }, true) => u64::MAX,
        }
    }

    /// Where the window is; `None` where it is closed, or at 0, where nobody has put it.
    pub fn read<C: ConfigAccess + ?Sized>(self, bridge: Function<'_, C>) -> Option<Span> {
        let upper = |register: Register<u32>| match self.wide {
            true => u64::from(bridge.read(register)) << 32,
            false => 0,
        };
        let upper_io = |register: Register<u16>| match self.wide {
            true => u64::from(bridge.read(register)) << 16,
            false => 0,
        };
        let io = |bits: u8| u64::from(bits & 0xf0) << 8;
        let memory = |bits: u16| u64::from(bits & 0xfff0) << 16;
        let (first, last) = match self.space {
            Space::Io => (
                io(bridge.read(header::IO_BASE)) | upper_io(header::IO_BASE_UPPER),
                io(bridge.read(header::IO_LIMIT)) | upper_io(header::IO_LIMIT_UPPER),
            ),
            MEMORY => (
                memory(bridge.read(header::MEMORY_BASE)),
                memory(bridge.read(header::MEMORY_LIMIT)),
            ),
            Space::Memory { .. } => (
                memory(bridge.read(header::PREFETCH_BASE)) | upper(header::PREFETCH_BASE_UPPER),
                memory(bridge.read(header::PREFETCH_LIMIT)) | upper(header::PREFETCH_LIMIT_UPPER),
            ),
        };
        let last = last | (self.granularity() - 1);
        Span::between(first, last).filter(|span| span.first != 0)
    }

    /// Puts the window there, or closes it. The bridge must forward nothing meanwhile.
    pub fn write<C: ConfigAccess + ?Sized>(self, bridge: Function<'_, C>, span: Option<Span>) {
        // A window that ends before it begins is closed.
        let (first, last) = span.map_or((u64::from(u32::MAX), 0), |span| (span.first, span.last));
        let io = |address: u64| (address >> 8) as u8 & 0xf0;
        let memory = |address: u64| (address >> 16) as u16 & 0xfff0;
        match self.space {
            Space::Io => {
                bridge.write(header::IO_BASE, io(first));
                bridge.write(header::IO_LIMIT, io(last));
                if self.wide {
                    bridge.write(header::IO_BASE_UPPER, (first >> 16) as u16);
                    bridge.write(header::IO_LIMIT_UPPER, (last >> 16) as u16);
                }
            }
            MEMORY => {
                bridge.write(header::MEMORY_BASE, memory(first));
                bridge.write(header::MEMORY_LIMIT, memory(last));
            }
            Space::Memory { .. } => {
                bridge.write(header::PREFETCH_BASE, memory(first));
                bridge.write(header::PREFETCH_LIMIT, memory(last));
                if self.wide {
                    bridge.write(header::PREFETCH_BASE_UPPER, (first >> 32) as u32);
                    bridge.write(header::PREFETCH_LIMIT_UPPER, (last >> 32) as u32);
                }
            }
        }
    }
}

/// Whether the optional register of a window's base is there: it has bits that are not zero, or that
/// can be written.
fn exists<C, T>(bridge: Function<'_, C>, base: Register<T>, address: T) -> bool
where
    C: ConfigAccess + ?Sized,
    T: Value + Default + PartialEq,
{
    let before = bridge.read(base);
    if before != T::default() {
        return true;
    }
    bridge.write(base, address);
    let exists = bridge.read(base) != T::default();
    bridge.write(base, before);
    exists
}
