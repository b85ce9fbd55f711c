//! A function as a guest sees it: a header and capabilities of its own.
//!
//! A read gives what the guest's registers hold. A write changes them, and leaves work behind:
//! [`GuestFunction::next_effect`] says what has to happen next until nothing is left, and only then
//! the guest goes on. So work can be interrupted between any two effects.

mod bar;
mod capabilities;
mod command;
mod handler;
mod mapping;
mod msi;
mod msi_x;
mod trapped;
mod values;
mod work;

pub use bar::{GuestBar, GuestWindows};
pub use mapping::{Holes, Mapping};
pub use msi::MsiState;
pub use msi_x::{Trapped, VectorState};

use alloc::boxed::Box;

use pci_host::bar::Bar;
use pci_host::capability::express::INITIATE_RESET;
use pci_host::config::{Access, ConfigAccess, Function};
use pci_host::header::{self, Command};
use pci_host::{Device, HostSbdf};
use xen_types::{GpaRange, HpaRange};

use self::handler::{Handler, Handlers};
use self::msi::{GuestMsi, MsiRegister};
use self::msi_x::GuestMsiX;
use self::values::{install_header, set_multifunction, write_vpd};
use crate::access::{GuestAccess, Lane};

/// Base address registers and the ROM.
const BARS: usize = 7;
/// The ROM's number among them.
const ROM: u8 = 6;

/// Whether a range of the guest's memory is taken by another function.
pub type IsFree<'a> = &'a dyn Fn(GpaRange) -> bool;

/// Which interrupts of a function can reach a guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interrupts {
    /// Its pin leads somewhere.
    pub intx: bool,
    /// There is a controller for messages: MSI and MSI-X.
    pub messages: bool,
}

impl Interrupts {
    /// All that the function has.
    pub const ALL: Self = Self {
        intx: true,
        messages: true,
    };
}

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
    /// A BAR has appeared somewhere or disappeared.
    moved: bool,
    can_reset: bool,
    reset_wanted: bool,
    /// It leaves the guest, who does not find it any more.
    withdrawn: bool,
    msi: Option<GuestMsi>,
    msi_changed: bool,
    msi_x: Option<GuestMsiX>,
}

impl GuestFunction {
    /// `device`, reset and quiet, for a guest, who finds those of its interrupts that can reach it.
    /// `host` says where the processor has a BAR. The guest finds it as after power-on, all BARs at 0.
    pub fn new<C: ConfigAccess + ?Sized>(
        config: &C,
        device: &Device,
        interrupts: Interrupts,
        host: impl Fn(&Bar) -> Option<HpaRange>,
    ) -> Self {
        let function = Function::new(config, device.sbdf);
        let mut handlers = Handlers::new();
        let made = capabilities::install(&mut handlers, function, device, interrupts.messages);
        install_header(&mut handlers, device, interrupts.intx);
        let mut guest = Self {
            host: device.sbdf,
            handlers,
            command: Command::empty(),
            hardware: function.read(header::COMMAND),
            intx_masked: false,
            bars: [None; BARS],
            mappings: Default::default(),
            moved: false,
            can_reset: device
                .express
                .is_some_and(|express| express.function_level_reset),
            reset_wanted: false,
            withdrawn: false,
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
        let mapping = Mapping::new(number, bar.kind, shown.host(), holes.unwrap_or_default());
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

    /// Says whether the guest finds other functions beside this one.
    pub fn set_multifunction(&mut self, multifunction: bool) {
        set_multifunction(&mut self.handlers, multifunction);
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
        if self.withdrawn {
            return access.ones();
        }
        let function = Function::new(config, self.host);
        access.lanes().fold(0, |sum, placed| {
            sum | placed.to_access(self.read_dword(function, placed.lane.dword()))
        })
    }

    /// Writes config space. What has to happen is to be asked for before the guest goes on.
    pub fn write<C: ConfigAccess + ?Sized>(&mut self, config: &C, access: GuestAccess, value: u64) {
        if self.withdrawn {
            return;
        }
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

    /// The device was reset, as [`Effect::Reset`](crate::effect::Effect::Reset) asked for: its command register is as the
    /// guest's is.
    pub fn after_reset<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        let function = Function::new(config, self.host);
        self.hardware = function.read(header::COMMAND);
        self.sync_command(function);
    }

    /// Takes the function from the guest, to whom it is absent from now on: nothing is mapped any more
    /// when all effects are carried out.
    pub fn withdraw<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        let function = Function::new(config, self.host);
        self.begin_reset(function);
        self.reset_wanted = false;
        self.withdrawn = true;
    }

    /// Whether that has begun.
    pub fn is_withdrawn(&self) -> bool {
        self.withdrawn
    }
}

#[cfg(test)]
mod tests;
