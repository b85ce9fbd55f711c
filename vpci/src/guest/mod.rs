//! A function as a guest sees it: a header and capabilities of its own.
//!
//! A read gives what the guest's registers hold. A write changes them, and leaves work behind:
//! [`GuestFunction::next_effect`] says what has to happen next until nothing is left, and only then
//! the guest goes on. So work can be interrupted between any two effects.

mod bar;
mod capabilities;
mod handler;
mod mapping;
mod msi;
mod msi_x;

pub use bar::{GuestBar, GuestWindows};
pub use mapping::{Holes, Mapping};
pub use msi::MsiState;
pub use msi_x::{Trapped, VectorState};

use alloc::boxed::Box;

use pci_host::bar::{Bar, BarKind};
use pci_host::capability::express::INITIATE_RESET;
use pci_host::config::{Access, ConfigAccess, Function, Register};
use pci_host::header::{self, Command, HeaderType, Status};
use pci_host::{Device, HostSbdf};
use xen_types::{Gpa, GpaRange, HpaRange};

use self::handler::{Handler, Handlers};
use self::msi::{GuestMsi, MsiRegister};
use self::msi_x::GuestMsiX;
use crate::access::{GuestAccess, Lane};
use crate::effect::{Effect, Piece};
use crate::masks::Masks;

/// Base address registers and the ROM.
const BARS: usize = 7;
/// The ROM's number among them.
const ROM: u8 = 6;

/// The bits of the command register that a guest can change (PCI Express Base 6.0, 7.5.1.1.3).
const GUEST_COMMAND: Command = Command::IO
    .union(Command::MEMORY)
    .union(Command::BUS_MASTER)
    .union(Command::PARITY_ERROR)
    .union(Command::SERR)
    .union(Command::INTX_DISABLE);
/// Those of them that hardware gets at once. Decode follows what is mapped; errors are reported to
/// the host or not at all (XSA-120).
const HARDWARE_COMMAND: Command = Command::BUS_MASTER.union(Command::INTX_DISABLE);

/// Whether a range of the guest's memory is taken by another function.
pub type IsFree<'a> = &'a dyn Fn(GpaRange) -> bool;

/// A function of the machine in a guest.
#[derive(Clone, Debug)]
pub struct GuestFunction {
    host: HostSbdf,
    handlers: Handlers,
    command: Command,
    /// What hardware's command register holds.
    hardware: Command,
    /// The hypervisor holds the function's INTx off.
    intx_masked: bool,
    bars: [Option<GuestBar>; BARS],
    mappings: [Option<Box<Mapping>>; BARS],
    can_reset: bool,
    reset_wanted: bool,
    msi: Option<GuestMsi>,
    msi_changed: bool,
    msi_x: Option<GuestMsiX>,
}

impl GuestFunction {
    /// `device`, reset and quiet, for a guest. `host` says where the processor has a BAR. The guest
    /// finds it as after power-on, all BARs at 0.
    pub fn new<C: ConfigAccess + ?Sized>(
        config: &C,
        device: &Device,
        multifunction: bool,
        host: impl Fn(&Bar) -> Option<HpaRange>,
    ) -> Self {
        let function = Function::new(config, device.sbdf);
        let mut handlers = Handlers::new();
        let made = capabilities::install(&mut handlers, function, device);
        install_header(&mut handlers, device, multifunction);
        let mut guest = Self {
            host: device.sbdf,
            handlers,
            command: Command::empty(),
            hardware: function.read(header::COMMAND),
            intx_masked: false,
            bars: [None; BARS],
            mappings: Default::default(),
            can_reset: device
                .express
                .is_some_and(|express| express.function_level_reset),
            reset_wanted: false,
            msi: made.msi,
            msi_changed: false,
            msi_x: made.msi_x,
        };
        let bars = device.bars.iter().chain([&device.rom]);
        for (number, bar) in (0..).zip(bars) {
            if let Some(bar) = bar {
                guest.install_bar(number, *bar, host(bar));
            }
        }
        guest.sync_decode(function);
        guest.sync_command(function);
        guest
    }

    fn install_bar(&mut self, number: u8, bar: Bar, host: Option<HpaRange>) {
        let Some(shown) = host.and_then(|host| GuestBar::new(bar, host)) else {
            return;
        };
        let holes = self
            .msi_x
            .as_ref()
            .map(|msi_x| msi_x.holes(number, shown.size()));
        let mapping = Mapping::new(number, shown.host(), holes.unwrap_or_default());
        let place = usize::from(number);
        if let (Some(bar), Some(slot)) = (self.bars.get_mut(place), self.mappings.get_mut(place)) {
            (*bar, *slot) = (Some(shown), Some(Box::new(mapping)));
        }
        let register = if number == ROM {
            header::ROM.offset().get()
        } else {
            header::BAR0 + 4 * u16::from(number)
        };
        self.handlers.set(register, Handler::BarLow(number));
        if shown.kind().is_64bit() {
            self.handlers.set(register + 4, Handler::BarHigh(number));
        }
    }

    /// The function of the machine.
    pub fn host(&self) -> HostSbdf {
        self.host
    }

    /// The guest's BARs; the last is the ROM.
    pub fn bars(&self) -> &[Option<GuestBar>] {
        &self.bars
    }

    /// Puts a BAR somewhere before the guest begins, as firmware would.
    pub fn set_address(&mut self, bar: u8, address: u64) {
        if let Some(Some(bar)) = self.bars.get_mut(usize::from(bar)) {
            bar.set_address(address);
        }
    }

    /// Whether a mapping has failed: the guest finds no registers there.
    pub fn has_failed(&self) -> bool {
        let mut mappings = self.mappings.iter().flatten();
        mappings.any(|mapping| mapping.has_failed())
    }

    /// The ranges of guest memory that its BARs take now.
    pub fn claims(&self) -> impl Iterator<Item = GpaRange> {
        self.mappings
            .iter()
            .flatten()
            .filter_map(|mapping| mapping.claim())
    }

    /// Whether `range` has any of the BARs' memory.
    pub fn claims_any(&self, range: GpaRange) -> bool {
        self.claims().any(|claim| claim.overlaps(range))
    }

    /// Reads config space.
    pub fn read<C: ConfigAccess + ?Sized>(&self, config: &C, access: GuestAccess) -> u64 {
        let function = Function::new(config, self.host);
        access.lanes().fold(0, |sum, placed| {
            sum | placed.to_access(self.read_dword(function, placed.lane.dword()))
        })
    }

    /// Writes config space. What has to happen is to be asked for before the guest goes on.
    pub fn write<C: ConfigAccess + ?Sized>(&mut self, config: &C, access: GuestAccess, value: u64) {
        let function = Function::new(config, self.host);
        for placed in access.lanes() {
            let bits = placed.from_access(value);
            self.write_lane(function, placed.lane, bits);
        }
    }

    fn read_dword<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>, dword: u16) -> u32 {
        match self.handlers.get(dword) {
            Handler::Hidden => 0,
            Handler::Fixed(value) => value,
            Handler::Value { value, masks, .. } => masks.read(value),
            Handler::Hardware(register) | Handler::DeviceControl(register) => {
                register.read(function)
            }
            Handler::Command => self.read_command(function),
            Handler::BarLow(bar) => self.bar(bar).map_or(0, GuestBar::read_low),
            Handler::BarHigh(bar) => self.bar(bar).map_or(0, GuestBar::read_high),
            Handler::VpdAddress { offset, header } => {
                let value = function.read_access(Access::dword(offset));
                value & 0xffff_0000 | u32::from(header)
            }
            Handler::Msi { register, offset } => self.read_msi(function, register, offset),
            Handler::MsiX => self.msi_x.as_ref().map_or(0, GuestMsiX::read_control),
        }
    }

    fn write_lane<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) {
        match self.handlers.get(lane.dword()) {
            Handler::Hidden | Handler::Fixed(_) => {}
            Handler::Value { value, masks, .. } => {
                let after = masks.store(value, lane.mask(), bits);
                self.handlers.store(lane.dword(), after);
            }
            Handler::Hardware(register) => register.write(function, lane, bits),
            Handler::DeviceControl(register) => {
                let reset = lane.mask() & bits & u32::from(INITIATE_RESET) != 0;
                if reset && self.can_reset {
                    self.begin_reset(function);
                } else {
                    register.write(function, lane, bits);
                }
            }
            Handler::Command => self.write_command(function, lane, bits),
            Handler::BarLow(bar) => self.write_bar(bar, |bar| bar.write_low(lane, bits)),
            Handler::BarHigh(bar) => self.write_bar(bar, |bar| bar.write_high(lane, bits)),
            Handler::VpdAddress { offset, .. } => write_vpd(function, offset, lane, bits),
            Handler::Msi { register, .. } => {
                if let Some(msi) = &mut self.msi {
                    let before = msi.state();
                    let changed = msi.write(register, lane, bits);
                    let matters = before.enabled || msi.state().enabled;
                    self.msi_changed |= changed && matters;
                }
            }
            Handler::MsiX => {
                if let Some(msi_x) = &mut self.msi_x {
                    msi_x.write_control(lane, bits);
                }
            }
        }
    }

    fn bar(&self, number: u8) -> Option<&GuestBar> {
        self.bars.get(usize::from(number))?.as_ref()
    }

    fn write_bar(&mut self, number: u8, write: impl FnOnce(&mut GuestBar)) {
        let place = usize::from(number);
        if let Some(Some(bar)) = self.bars.get_mut(place) {
            write(bar);
        }
        if let Some(Some(mapping)) = self.mappings.get_mut(place) {
            mapping.retry();
        }
    }

    /// Command is the guest's own; of the status, hardware's events and the state of INTx are seen.
    fn read_command<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>) -> u32 {
        let seen = Status::WRITE_1_TO_CLEAR | Status::INTX;
        let mut status = function.read(header::STATUS) & seen;
        let has_list = self.handlers.get(0x34 / 4) != Handler::Fixed(0);
        status.set(Status::CAPABILITIES, has_list);
        u32::from(status.bits()) << 16 | u32::from(self.command.bits())
    }

    fn write_command<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) {
        let command = lane.insert(self.command.bits().into(), bits);
        self.command = Command::from_bits_truncate(command as u16) & GUEST_COMMAND;
        let cleared = Status::from_bits_truncate((bits >> 16) as u16) & Status::WRITE_1_TO_CLEAR;
        let cleared = Status::from_bits_truncate((lane.mask() >> 16) as u16) & cleared;
        if !cleared.is_empty() {
            function.write(header::STATUS, cleared);
        }
        self.mappings
            .iter_mut()
            .flatten()
            .for_each(|mapping| mapping.retry());
        self.sync_command(function);
    }

    /// Brings hardware's command to what it should be, decode aside.
    fn sync_command<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let mut wanted = self.command & HARDWARE_COMMAND | self.hardware & Command::DECODE;
        wanted.set(
            Command::INTX_DISABLE,
            self.intx_masked || self.command.contains(Command::INTX_DISABLE),
        );
        self.set_hardware(function, wanted);
    }

    fn set_hardware<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        wanted: Command,
    ) {
        if wanted != self.hardware {
            function.write(header::COMMAND, wanted);
            self.hardware = wanted;
        }
    }

    /// Holds the function's INTx off, or lets the guest decide: the hypervisor's part in sharing a
    /// line.
    pub fn mask_intx<C: ConfigAccess + ?Sized>(&mut self, config: &C, masked: bool) {
        self.intx_masked = masked;
        self.sync_command(Function::new(config, self.host));
    }

    fn read_msi<C: ConfigAccess + ?Sized>(
        &self,
        function: Function<'_, C>,
        register: MsiRegister,
        offset: pci_host::ConfigOffset,
    ) -> u32 {
        let Some(msi) = &self.msi else {
            return 0;
        };
        match register {
            MsiRegister::Pending => {
                function.read_access(Access::dword(offset)) & msi.vectors_mask()
            }
            register => msi.read(register),
        }
    }

    /// The guest's registers are as after a reset; the device's own follows what is unmapped.
    fn begin_reset<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        self.command = Command::empty();
        self.sync_command(function);
        self.handlers.reset();
        self.bars.iter_mut().flatten().for_each(|bar| bar.reset());
        if let Some(msi) = &mut self.msi {
            self.msi_changed |= msi.state().enabled;
            msi.reset();
        }
        if let Some(msi_x) = &mut self.msi_x {
            msi_x.reset();
        }
        self.reset_wanted = true;
    }

    /// The device was reset, as an [`Effect::Reset`] asked for: its command register is as the
    /// guest's is.
    pub fn after_reset<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        let function = Function::new(config, self.host);
        self.hardware = function.read(header::COMMAND);
        self.sync_command(function);
    }

    /// Takes the function from the guest: nothing is mapped any more when all effects are carried
    /// out.
    pub fn withdraw<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        let function = Function::new(config, self.host);
        self.begin_reset(function);
        self.reset_wanted = false;
    }

    /// What has to happen next; `None` when nothing has to any more. `is_free` tells whether guest
    /// memory is not taken by another function.
    pub fn next_effect<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        windows: &GuestWindows,
        is_free: IsFree<'_>,
    ) -> Option<Effect> {
        let function = Function::new(config, self.host);
        if let Some(piece) = self.unmap(windows) {
            return Some(Effect::Unmap(piece));
        }
        // Nothing reaches registers that hardware is about to stop answering for (CVE-2020-12888).
        self.begin_mappings(windows, is_free);
        self.sync_decode(function);
        if let Some(piece) = self.map() {
            return Some(Effect::Map(piece));
        }
        if core::mem::take(&mut self.msi_changed)
            && let Some(msi) = &self.msi
        {
            return Some(Effect::Msi(msi.state()));
        }
        if let Some(vector) = self.msi_x.as_mut().and_then(GuestMsiX::next) {
            return Some(Effect::MsiX(vector));
        }
        core::mem::take(&mut self.reset_wanted).then_some(Effect::Reset)
    }

    /// Mapping `piece` has failed: what is mapped of its BAR is taken back, and the guest goes on
    /// without.
    pub fn fail(&mut self, piece: Piece) {
        if let Some(Some(mapping)) = self.mappings.get_mut(usize::from(piece.bar)) {
            mapping.fail(piece);
        }
    }

    /// Where the guest wants a BAR now.
    fn wanted(&self, place: usize, windows: &GuestWindows) -> Option<Gpa> {
        let bar = self.bars.get(place)?.as_ref()?;
        let decode = decode_of(bar);
        let bar = Some(bar).filter(|_| self.command.contains(decode))?;
        Some(bar.place(windows)?.start())
    }

    fn unmap(&mut self, windows: &GuestWindows) -> Option<Piece> {
        for place in 0..BARS {
            let wanted = self.wanted(place, windows);
            let Some(Some(mapping)) = self.mappings.get_mut(place) else {
                continue;
            };
            if mapping.must_unmap(wanted)
                && let Some(piece) = mapping.unmap()
            {
                return Some(piece);
            }
        }
        None
    }

    /// Claims memory for what is wanted somewhere and mapped nowhere. Nothing is to be unmapped.
    fn begin_mappings(&mut self, windows: &GuestWindows, is_free: IsFree<'_>) {
        for place in 0..BARS {
            let Some(wanted) = self.wanted(place, windows) else {
                continue;
            };
            let Some(Some(mapping)) = self.mappings.get(place) else {
                continue;
            };
            let size = self
                .bars
                .get(place)
                .copied()
                .flatten()
                .map(|bar| bar.size());
            let range = size.and_then(|size| GpaRange::new(wanted, size));
            let idle = mapping.claim().is_none() && !mapping.has_failed();
            // Two BARs at one place: the first has it.
            let free = |range: GpaRange| is_free(range) && !self.claims_any(range);
            let begins = idle && range.is_some_and(free);
            if let (true, Some(Some(mapping))) = (begins, self.mappings.get_mut(place)) {
                mapping.begin(wanted);
            }
        }
    }

    fn map(&mut self) -> Option<Piece> {
        self.mappings
            .iter_mut()
            .flatten()
            .filter(|mapping| mapping.claim().is_some())
            .find_map(|mapping| mapping.map())
    }

    /// Hardware decodes what is mapped, or about to be.
    fn sync_decode<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let mut decode = Command::empty();
        let mut rom = false;
        for (bar, mapping) in self.bars.iter().zip(&self.mappings) {
            if let (Some(bar), Some(mapping)) = (bar, mapping)
                && mapping.claim().is_some()
            {
                decode |= decode_of(bar);
                rom |= bar.kind() == BarKind::Rom;
            }
        }
        let others = self.hardware - Command::DECODE;
        self.set_hardware(function, others | decode);
        self.sync_rom(function, rom);
    }

    /// The ROM has an enable bit of its own.
    fn sync_rom<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>, enabled: bool) {
        if self.bar(ROM).is_none() {
            return;
        }
        let register: Register<u32> = header::ROM;
        let before = function.read(register);
        let after = before & !1 | u32::from(enabled);
        if after != before {
            function.write(register, after);
        }
    }

    /// Reads `bytes` at `offset` of a BAR, in a page that is not mapped because of MSI-X.
    pub fn read_trapped(&self, bar: u8, offset: u64, bytes: u64) -> Trapped {
        match (&self.msi_x, self.bar(bar)) {
            (Some(msi_x), Some(shown)) => msi_x.read(bar, shown.host(), offset, bytes),
            _ => Trapped::Value(u64::MAX),
        }
    }

    /// Writes `bytes` at `offset` of a BAR, in a page that is not mapped because of MSI-X.
    pub fn write_trapped(&mut self, bar: u8, offset: u64, bytes: u64, value: u64) -> Trapped {
        let host = self.bar(bar).map(GuestBar::host);
        match (&mut self.msi_x, host) {
            (Some(msi_x), Some(host)) => msi_x.write(bar, host, (offset, bytes), value),
            _ => Trapped::Value(0),
        }
    }

    /// The BAR, and the offset in it, that an access to guest memory in one of its holes means.
    pub fn find_trapped(&self, address: Gpa) -> Option<(u8, u64)> {
        let mut mappings = (0..).zip(&self.mappings);
        mappings.find_map(|(bar, mapping)| {
            let mapping = mapping.as_ref()?;
            let claim = mapping.claim().filter(|claim| claim.contains(address))?;
            let offset = address.get().checked_sub(claim.start().get())?;
            mapping.is_hole(offset).then_some((bar, offset))
        })
    }
}

fn decode_of(bar: &GuestBar) -> Command {
    if bar.kind().is_memory() {
        Command::MEMORY
    } else {
        Command::IO
    }
}

/// The header but for its BARs (PCI Express Base 6.0, 7.5.1.1 and 7.5.1.2).
fn install_header(handlers: &mut Handlers, device: &Device, multifunction: bool) {
    let pair = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
    handlers.set(0x00, Handler::Fixed(pair(device.vendor, device.device)));
    handlers.set(0x04, Handler::Command);
    let class = device.class.bits() << 8 | u32::from(device.revision);
    handlers.set(0x08, Handler::Fixed(class));
    let kind = u32::from(HeaderType::endpoint(multifunction).bits()) << 16;
    let cache_line = Masks {
        read_only: 0xff << 16,
        writable: 0xff,
        ..Masks::default()
    };
    handlers.set(
        0x0c,
        Handler::Value {
            value: kind,
            reset: kind,
            masks: cache_line,
        },
    );
    if let Some((vendor, subsystem)) = device.subsystem {
        handlers.set(0x2c, Handler::Fixed(pair(vendor, subsystem)));
    }
    let pin = device.pin.map_or(0, |pin| u32::from(pin.number()) << 8);
    let interrupt = Masks {
        read_only: 0xff00,
        writable: 0xff,
        ..Masks::default()
    };
    handlers.set(
        0x3c,
        Handler::Value {
            value: pin,
            reset: pin,
            masks: interrupt,
        },
    );
}

/// The address of vital product data: a guest reads, and does not write, what is there (PCI Local
/// Bus 3.0, appendix I).
fn write_vpd<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    offset: pci_host::ConfigOffset,
    lane: Lane,
    bits: u32,
) {
    const ADDRESS: u32 = 0xffff << 16;
    const WRITE: u32 = 1 << 31;
    let register = offset.checked_add(2).and_then(Register::<u16>::new);
    if let Some(register) = register
        && lane.covers(ADDRESS)
        && bits & WRITE == 0
    {
        function.write(register, (bits >> 16) as u16);
    }
}

#[cfg(test)]
mod tests;
