//! One simulated function: bytes, which of them can be written, and what writing them does.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::bar::BarKind;
use crate::config::{Access, ConfigOffset, Width};

/// Bytes of config space.
const SIZE: usize = 4096;

/// How a function departs from what it should do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// It does what it should.
    Honest,
    /// Reads give pseudo-random bits, from this seed on.
    Random(u64),
    /// A reset never ends: the function stays away.
    NeverReady,
    /// A reset does nothing, and what it should clear stays.
    IgnoresReset,
    /// It was pulled out: reads give all ones.
    Gone,
}

/// A simulated function. Built by the methods that take and return it.
#[derive(Clone)]
pub struct SimFunction {
    bytes: Box<[u8; SIZE]>,
    writable: Box<[u8; SIZE]>,
    write_1_clears: Box<[u8; SIZE]>,
    at_reset: Box<[u8; SIZE]>,
    pub(super) special: super::special::Special,
    pub(super) memory: BTreeMap<(usize, u64), u32>,
    pub(super) virtual_functions: Vec<SimFunction>,
    lie: Lie,
    last_capability: Option<u16>,
    next_capability: u16,
    last_extended: Option<u16>,
    next_extended: u16,
    busy_until: u64,
    resets: u32,
}

impl SimFunction {
    /// An endpoint without BARs or capabilities.
    pub fn endpoint(vendor: u16, device: u16, class: u32) -> Self {
        let mut function = Self::empty();
        function.preset(0x00, Width::Word, vendor.into());
        function.preset(0x02, Width::Word, device.into());
        function.preset(0x08, Width::Dword, class << 8 | 1);
        function.allow(0x04, Width::Word, 0x0547);
        function.clears(0x06, Width::Word, 0xf900);
        function.allow(0x0c, Width::Byte, 0xff);
        function.allow(0x3c, Width::Byte, 0xff);
        function
    }

    /// A PCI-to-PCI bridge with all three windows, the prefetchable one of 64 bits.
    pub fn bridge(vendor: u16, device: u16) -> Self {
        let mut function = Self::endpoint(vendor, device, 0x06_04_00);
        function.preset(0x0e, Width::Byte, 1);
        function.allow(0x18, Width::Dword, 0x00ff_ffff);
        function.preset(0x1c, Width::Word, 0x0101);
        function.allow(0x1c, Width::Word, 0xf0f0);
        function.clears(0x1e, Width::Word, 0xf900);
        function.allow(0x20, Width::Dword, 0xfff0_fff0);
        function.preset(0x24, Width::Dword, 0x0001_0001);
        function.allow(0x24, Width::Dword, 0xfff0_fff0);
        function.allow(0x28, Width::Dword, u32::MAX);
        function.allow(0x2c, Width::Dword, u32::MAX);
        function.allow(0x30, Width::Dword, u32::MAX);
        function.allow(0x3e, Width::Word, 0x007f);
        function
    }

    fn empty() -> Self {
        Self {
            bytes: Box::new([0; SIZE]),
            writable: Box::new([0; SIZE]),
            write_1_clears: Box::new([0; SIZE]),
            at_reset: Box::new([0; SIZE]),
            special: Default::default(),
            memory: BTreeMap::new(),
            virtual_functions: Vec::new(),
            lie: Lie::Honest,
            last_capability: None,
            next_capability: 0x40,
            last_extended: None,
            next_extended: 0x100,
            busy_until: 0,
            resets: 0,
        }
    }

    /// With a BAR. A 64-bit one takes `index` and the next.
    pub fn with_bar(mut self, index: usize, kind: BarKind, size: u64) -> Self {
        let at = 0x10 + 4 * index as u16;
        let mask = !(size - 1) & !u64::from(kind.flag_mask());
        self.preset(at, Width::Dword, kind.flags());
        self.allow(at, Width::Dword, mask as u32);
        if kind.is_64bit() {
            self.allow(at + 4, Width::Dword, (mask >> 32) as u32);
        }
        self.special.bars.push((at, kind, size));
        self
    }

    /// With an expansion ROM.
    pub fn with_rom(mut self, size: u32) -> Self {
        let at = if self.is_bridge() { 0x38 } else { 0x30 };
        self.allow(at, Width::Dword, !(size - 1) | 1);
        self
    }

    /// With an interrupt pin, 1 for INTA.
    pub fn with_pin(mut self, pin: u8) -> Self {
        self.preset(0x3d, Width::Byte, pin.into());
        self
    }

    /// With the multifunction bit.
    pub fn multifunction(mut self) -> Self {
        let kind = self.get(0x0e, Width::Byte);
        self.preset(0x0e, Width::Byte, kind | 0x80);
        self
    }

    /// With other bits at `offset`, now and after a reset.
    pub fn with(mut self, offset: u16, width: Width, value: u32) -> Self {
        self.preset(offset, width, value);
        self
    }

    /// With other bits that can be written at `offset`.
    pub fn with_writable(mut self, offset: u16, width: Width, mask: u32) -> Self {
        self.allow(offset, width, mask);
        self
    }

    /// That lies.
    pub fn lying(mut self, lie: Lie) -> Self {
        self.lie = lie;
        self
    }

    /// With a capability of `size` bytes, its two first included, at the next free place, which is
    /// given to `fill`.
    pub fn with_capability(mut self, id: u8, size: u16, fill: impl FnOnce(&mut Self, u16)) -> Self {
        let at = self.next_capability;
        self.next_capability += size.next_multiple_of(4);
        self.preset(at, Width::Byte, id.into());
        match self.last_capability {
            None => {
                self.preset(0x34, Width::Byte, at.into());
                let status = self.get(0x06, Width::Word);
                self.preset(0x06, Width::Word, status | 0x10);
            }
            Some(last) => self.preset(last + 1, Width::Byte, at.into()),
        }
        self.last_capability = Some(at);
        fill(&mut self, at);
        self
    }

    /// With an extended capability of `size` bytes, its header included.
    pub fn with_extended(mut self, id: u16, size: u16, fill: impl FnOnce(&mut Self, u16)) -> Self {
        let at = self.next_extended;
        self.next_extended += size.next_multiple_of(4);
        self.preset(at, Width::Dword, u32::from(id) | 1 << 16);
        if let Some(last) = self.last_extended {
            let header = self.get(last, Width::Dword) & 0xf_ffff;
            self.preset(last, Width::Dword, header | u32::from(at) << 20);
        }
        self.last_extended = Some(at);
        fill(&mut self, at);
        self
    }

    /// Sets bits, now and after a reset.
    pub(super) fn preset(&mut self, offset: u16, width: Width, value: u32) {
        put(&mut self.bytes, offset, width, value);
        put(&mut self.at_reset, offset, width, value);
    }

    /// Sets bits as hardware does: no mask applies.
    pub(super) fn set(&mut self, offset: u16, width: Width, value: u32) {
        put(&mut self.bytes, offset, width, value);
    }

    /// Lets bits be written.
    pub(super) fn allow(&mut self, offset: u16, width: Width, mask: u32) {
        put(&mut self.writable, offset, width, mask);
    }

    /// Lets bits be cleared by writing 1.
    pub(super) fn clears(&mut self, offset: u16, width: Width, mask: u32) {
        put(&mut self.write_1_clears, offset, width, mask);
    }

    /// What the function holds at `offset`, without the side effects and lies of a read.
    pub fn get(&self, offset: u16, width: Width) -> u32 {
        (0..width.bytes()).rev().fold(0, |bits, byte| {
            bits << 8 | u32::from(self.bytes[usize::from(offset + byte)])
        })
    }

    /// Sets a status bit as an event of the device does.
    pub fn raise(&mut self, offset: u16, width: Width, bits: u32) {
        self.set(offset, width, self.get(offset, width) | bits);
    }

    /// Sets all bits that are cleared by writing 1, as if everything had happened.
    pub fn raise_all(&mut self) {
        let pairs = self.bytes.iter_mut().zip(self.write_1_clears.iter());
        pairs.for_each(|(byte, clears)| *byte |= clears);
    }

    /// All of its config space.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }

    /// Whether the header is a bridge's.
    pub fn is_bridge(&self) -> bool {
        self.get(0x0e, Width::Byte) & 0x7f == 1
    }

    /// Register, kind and size of each BAR.
    pub fn bars(&self) -> &[(u16, BarKind, u64)] {
        &self.special.bars
    }

    /// How often it was reset, by whichever way.
    pub fn resets(&self) -> u32 {
        self.resets
    }

    /// It is away for as long as that, as after a reset that somebody else began.
    pub fn begin_reset(&mut self, duration: Duration) {
        self.busy_until += duration.as_micros() as u64;
    }

    /// From now on it lies so.
    pub fn set_lie(&mut self, lie: Lie) {
        self.lie = lie;
    }

    /// Whether it answers at all.
    pub(super) fn answers(&self, now: u64) -> bool {
        self.lie != Lie::Gone && now >= self.busy_until
    }

    /// Whether a request for its vendor id is answered with "not ready yet".
    pub(super) fn is_busy(&self, now: u64) -> bool {
        self.lie != Lie::Gone && now < self.busy_until
    }

    /// A config read that reached it.
    pub(super) fn config_read(&mut self, access: Access) -> u32 {
        if let Lie::Random(seed) = &mut self.lie {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            return (*seed >> 32) as u32 & access.width().ones();
        }
        self.get(access.offset().get(), access.width())
    }

    /// A config write that reached it. Returns whether all behind it must be reset.
    pub(super) fn config_write(&mut self, access: Access, value: u32, now: u64) -> bool {
        let before = self.clone_bytes_at(access);
        for byte in 0..access.width().bytes() {
            let at = usize::from(access.offset().get() + byte);
            let value = (value >> (8 * byte)) as u8;
            let (writable, clears) = (self.writable[at], self.write_1_clears[at]);
            let written = self.bytes[at] & !writable | value & writable;
            self.bytes[at] = written & !(value & clears);
        }
        self.after_write(access, before, now)
    }

    fn clone_bytes_at(&self, access: Access) -> u32 {
        let dword = Access::dword(access.offset());
        self.get(dword.offset().get(), Width::Dword)
    }

    /// All goes back to what it is after power-on. The function is away for as long as that takes.
    pub(super) fn reset(&mut self, now: u64) {
        self.resets += 1;
        match self.lie {
            Lie::IgnoresReset => return,
            Lie::NeverReady => self.busy_until = u64::MAX,
            _ => self.busy_until = now + self.special.reset_time,
        }
        self.bytes = self.at_reset.clone();
        self.memory.clear();
    }
}

impl fmt::Debug for SimFunction {
    /// Its ids and BARs: 4 KiB of bytes would say less.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (vendor, device) = (self.get(0, Width::Word), self.get(2, Width::Word));
        write!(f, "{vendor:04x}:{device:04x} {:x?}", self.special.bars)
    }
}

fn put(bytes: &mut [u8; SIZE], offset: u16, width: Width, value: u32) {
    for byte in 0..width.bytes() {
        bytes[usize::from(offset + byte)] = (value >> (8 * byte)) as u8;
    }
}

/// The access of `width` at `offset`, for tests that name constants.
pub(super) fn access(offset: u16, width: Width) -> Access {
    let offset = ConfigOffset::new(offset).expect("a constant inside config space");
    Access::new(offset, width).expect("an aligned constant")
}
