//! A function as the hardware domain sees it: as it is.
//!
//! Accesses reach hardware with the width that they have. What differs from bare metal: registers
//! appear in the domain's memory, at the addresses that they have, as the function decodes; a function
//! decodes only where nothing of others is; and what others depend on stays as it is.

mod bar;
mod bus;
mod guard;
mod pages;
mod r_car;

use alloc::boxed::Box;
use alloc::vec::Vec;

use pci_host::capability::Placement;
use pci_host::config::{ConfigAccess, Function};
use pci_host::header::{self, Command, Layout};
use pci_host::{Access, ConfigOffset, Device, HostSbdf};
use xen_types::{Gpa, Hpa, HpaRange};

pub use self::bar::Locate;
use self::bar::Tracked;
pub use self::bus::HardwarePci;
pub use self::guard::Dependents;
use self::guard::guards;
pub use self::pages::SharedPages;
pub use self::r_car::{RCarWindow, Target};
use crate::access::{GuestAccess, Lane};
use crate::effect::{Effect, Piece};
use crate::guest::{Holes, Mapping};
use crate::masks::{Filtered, accesses};

const BARS: usize = 7;
const ROM: usize = 6;
/// The dword of command and status.
const COMMAND: u16 = 1;

/// A function of the machine in the hardware domain.
#[derive(Debug)]
pub struct HardwareFunction {
    sbdf: HostSbdf,
    layout: Layout,
    bars: [Option<Tracked>; BARS],
    mappings: [Option<Box<Mapping>>; BARS],
    /// What the domain wants of the command.
    command: Command,
    /// What hardware's command holds.
    hardware: Command,
    /// A virtual function: its registers are where its physical one says, and it decodes as long as
    /// it is there (PCI Express Base 6.0, 9.3.4.1.3).
    is_virtual: bool,
    /// The domain no longer has it.
    withdrawn: bool,
    /// What stays on because others depend on it.
    forced: Command,
    /// The domain has written a BAR that has not moved yet.
    holds: bool,
    guards: Vec<Filtered>,
    /// The dword with the bit that enables virtual functions.
    sr_iov_control: Option<u16>,
    virtual_functions_written: bool,
}

impl HardwareFunction {
    /// `device`, as it is now.
    pub fn new<C: ConfigAccess + ?Sized>(config: &C, device: &Device) -> Self {
        let function = Function::new(config, device.sbdf);
        let command = function.read(header::COMMAND);
        let mut bars = [None; BARS];
        let mut mappings: [Option<Box<Mapping>>; BARS] = Default::default();
        let all = device.bars.iter().chain([&device.rom]);
        let places = bars.iter_mut().zip(&mut mappings);
        for (number, ((place, mapping), bar)) in (0..).zip(places.zip(all)) {
            *place = bar.map(Tracked::new);
            // Where it is, is known when it is mapped.
            *mapping = bar.and_then(|bar| {
                let range = HpaRange::new(Hpa::new(0), bar.size)?;
                let mapping = Mapping::new(number, bar.kind, range, Holes::new());
                Some(Box::new(mapping))
            });
        }
        let mut hardware = Self {
            sbdf: device.sbdf,
            layout: device.layout,
            bars,
            mappings,
            command,
            hardware: command,
            is_virtual: device.physical.is_some(),
            withdrawn: false,
            forced: Command::empty(),
            holds: false,
            guards: guards(device, Dependents::default()),
            sr_iov_control: device
                .sr_iov
                .and_then(|sr_iov| sr_iov.offset.checked_add(8))
                .map(|offset| offset.get() / 4),
            virtual_functions_written: false,
        };
        hardware.refresh(config);
        hardware
    }

    /// The function of the machine.
    pub fn sbdf(&self) -> HostSbdf {
        self.sbdf
    }

    /// Says who depends on `device`, which is this one, besides the hardware domain.
    pub fn set_dependents<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        device: &Device,
        dependents: Dependents,
    ) {
        self.guards = guards(device, dependents);
        self.forced = if dependents.behind {
            Command::DECODE | Command::BUS_MASTER
        } else {
            Command::empty()
        };
        let wanted = self.hardware;
        self.set_hardware(Function::new(config, self.sbdf), wanted);
    }

    /// Reads config space.
    #[inline]
    pub fn read<C: ConfigAccess + ?Sized>(&self, config: &C, access: GuestAccess) -> u64 {
        let function = Function::new(config, self.sbdf);
        match access.single().filter(|single| self.is_as_it_is(*single)) {
            Some(single) => function.read_access(single).into(),
            None => self.read_lanes(function, access),
        }
    }

    /// Whether hardware's register is what the domain finds.
    #[inline]
    fn is_as_it_is(&self, access: Access) -> bool {
        access.offset().get() / 4 != COMMAND && !self.holds
    }

    #[inline(never)]
    fn read_lanes<C: ConfigAccess + ?Sized>(
        &self,
        function: Function<'_, C>,
        access: GuestAccess,
    ) -> u64 {
        access.lanes().fold(0, |sum, placed| {
            let Some(offset) = ConfigOffset::new(placed.lane.dword() * 4) else {
                return sum;
            };
            let parts = accesses(offset, placed.lane.mask());
            let dword = parts.fold(0, |dword, part| {
                dword | function.read_access(part) << part.shift()
            });
            sum | placed.to_access(self.shown(placed.lane.dword(), dword))
        })
    }

    /// What the domain has asked for is shown, though hardware may not decode yet. What a reset has
    /// cleared since is not.
    fn shown(&self, dword: u16, value: u32) -> u32 {
        if dword != COMMAND {
            return self.held(dword).unwrap_or(value);
        }
        let decode = |command: Command| u32::from((command & Command::DECODE).bits());
        let withheld = decode(self.command - self.hardware);
        let unasked = decode(self.hardware - self.command);
        value & !unasked | withheld
    }

    /// What the domain finds of a BAR that has not moved yet, or does not.
    fn held(&self, dword: u16) -> Option<u32> {
        let (number, second) = self.bar_at(dword).filter(|_| self.holds)?;
        self.bars.get(number)?.as_ref()?.held(second)
    }

    /// Writes config space. What has to happen is to be asked for before the domain goes on.
    pub fn write<C: ConfigAccess + ?Sized>(&mut self, config: &C, access: GuestAccess, value: u64) {
        let function = Function::new(config, self.sbdf);
        for placed in access.lanes() {
            let bits = placed.from_access(value);
            self.write_lane(function, placed.lane, bits);
        }
    }

    fn write_lane<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) {
        let Some(offset) = ConfigOffset::new(lane.dword() * 4) else {
            return;
        };
        if lane.dword() == COMMAND {
            return self.write_command(function, lane, bits);
        }
        if !self.note_bar(function, lane, bits) {
            return;
        }
        self.virtual_functions_written |= self.sr_iov_control == Some(lane.dword());
        let guard = self
            .guards
            .binary_search_by_key(&offset, |guard| guard.offset);
        match guard.ok().and_then(|place| self.guards.get(place)) {
            Some(guard) => guard.write(function, lane, bits),
            None => {
                for access in accesses(offset, lane.mask()) {
                    function.write_access(access, (bits & access.mask()) >> access.shift());
                }
            }
        }
    }

    /// The BAR, and whether its second register, at a dword.
    fn bar_at(&self, dword: u16) -> Option<(usize, bool)> {
        let offset = dword * 4;
        if offset == self.layout.rom().offset().get() {
            return Some((ROM, false));
        }
        let number = usize::from(offset.checked_sub(header::BAR0)? / 4);
        if number >= self.layout.bars() {
            return None;
        }
        let is_wide = |number: usize| {
            let bar = self.bars.get(number).copied().flatten();
            bar.is_some_and(|bar| bar.kind().is_64bit())
        };
        match number.checked_sub(1) {
            Some(before) if is_wide(before) => Some((before, true)),
            _ => Some((number, false)),
        }
    }

    /// Notes a write to a BAR. Returns whether it may reach hardware at once: not while the function
    /// decodes, as its registers would move away from under their mapping.
    fn note_bar<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) -> bool {
        let Some((number, second)) = self.bar_at(lane.dword()) else {
            return true;
        };
        if self.is_virtual {
            return self.bars.get(number).copied().flatten().is_none();
        }
        // The enable bit of a ROM, and a ROM that is off, may change at any time.
        if number != ROM && self.is_in_use(number) {
            self.notice_reset(function);
            if self.is_in_use(number) {
                self.hold(number, second, lane, bits);
                return false;
            }
        }
        let Some(Some(bar)) = self.bars.get_mut(number) else {
            return true;
        };
        if second {
            bar.write_high(lane, bits);
        } else {
            bar.write_low(lane, bits);
        }
        true
    }

    /// Keeps a write to a BAR from hardware as long as something is mapped there.
    fn hold(&mut self, number: usize, second: bool, lane: Lane, bits: u32) {
        if let Some(Some(bar)) = self.bars.get_mut(number) {
            bar.hold(second, lane, bits);
        }
        self.note_held();
    }

    fn note_held(&mut self) {
        self.holds = self.bars.iter().flatten().any(Tracked::is_held);
    }

    /// Moves the BARs that the domain has written while the function decodes. What is mapped of them
    /// is unmapped first: the next piece. One that others need where it is stays there.
    fn move_held<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) -> Option<Piece> {
        for number in 0..ROM {
            let bar = self.bars.get(number).and_then(Option::as_ref);
            let Some(bar) = bar.filter(|bar| bar.is_held()) else {
                continue;
            };
            let decode = decode_of(bar);
            if self.forced.intersects(decode) {
                continue;
            }
            if let Some(Some(mapping)) = self.mappings.get_mut(number)
                && mapping.claim().is_some()
                && let Some(piece) = mapping.unmap()
            {
                return Some(piece);
            }
            self.set_hardware(function, self.hardware - decode);
            self.release(function, number);
        }
        self.note_held();
        None
    }

    /// Writes to hardware what was held.
    fn release<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>, number: usize) {
        let bar = self.bars.get_mut(number).and_then(Option::as_mut);
        let Some((low, high)) = bar.and_then(Tracked::release) else {
            return;
        };
        let register = |number| header::bar(self.layout, number);
        if let Some(register) = register(number) {
            function.write(register, low);
        }
        if let (Some(register), Some(high)) = (register(number + 1), high) {
            function.write(register, high);
        }
    }

    /// Whether the function answers at a BAR, as far as was written here.
    fn is_in_use(&self, number: usize) -> bool {
        let bar = self.bars.get(number).and_then(Option::as_ref);
        bar.is_some_and(|bar| self.hardware.intersects(decode_of(bar)) && bar.is_enabled())
    }

    /// A reset of the function, or of the bus that it is on, clears what was written: the domain
    /// writes it again. What is mapped stays until then.
    fn notice_reset<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let now = function.read(header::COMMAND);
        let lost = (self.hardware & Command::DECODE) - now;
        // All ones: it is not back yet, or gone.
        if self.is_virtual || lost.is_empty() || now == Command::all() {
            return;
        }
        self.hardware = now;
        self.command -= lost;
        self.read_bars(function);
    }

    fn write_command<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        lane: Lane,
        bits: u32,
    ) {
        self.notice_reset(function);
        let command = lane.insert(self.command.bits().into(), bits);
        self.command = Command::from_bits_retain(command as u16);
        let mappings = self.mappings.iter_mut().flatten();
        mappings.for_each(|mapping| mapping.retry());
        let events = (lane.mask() & bits) >> 16;
        if events != 0 {
            function.write(
                header::STATUS,
                header::Status::from_bits_retain(events as u16),
            );
        }
        let decode = self.hardware & Command::DECODE;
        let wanted = (self.command - Command::DECODE) | decode;
        self.set_hardware(function, wanted);
    }

    fn set_hardware<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        wanted: Command,
    ) {
        let wanted = wanted | self.forced;
        if wanted != self.hardware {
            function.write(header::COMMAND, wanted);
            self.hardware = wanted;
        }
    }

    /// Reads again what hardware holds: for a bridge whose registers the domain accesses itself, and
    /// for a function that it has got back.
    pub fn refresh<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        let function = Function::new(config, self.sbdf);
        self.read_bars(function);
        self.hardware = function.read(header::COMMAND);
        self.command = self.hardware;
        self.withdrawn = false;
    }

    fn read_bars<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        for (number, bar) in self.bars.iter_mut().enumerate() {
            let Some(bar) = bar.as_mut().filter(|_| !self.is_virtual) else {
                continue;
            };
            let register = match number {
                ROM => Some(self.layout.rom()),
                number => header::bar(self.layout, number),
            };
            let low = register.map_or(0, |register| function.read(register));
            let next = header::bar(self.layout, number + 1).filter(|_| bar.kind().is_64bit());
            bar.refresh(low, next.map_or(0, |register| function.read(register)));
        }
        self.note_held();
    }

    /// What has to happen next; `None` when nothing has to any more.
    pub fn next_effect<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        locate: Locate<'_>,
    ) -> Option<Effect> {
        let function = Function::new(config, self.sbdf);
        if self.holds
            && let Some(piece) = self.move_held(function)
        {
            return Some(Effect::Unmap(piece));
        }
        let wanted = self.wanted(locate);
        if let Some(piece) = self.unmap(&wanted) {
            return Some(Effect::Unmap(piece));
        }
        self.sync_decode(function, locate);
        self.begin(&wanted);
        let mappings = self.mappings.iter_mut().flatten();
        let mut begun = mappings.filter(|mapping| mapping.claim().is_some());
        begun.find_map(|mapping| mapping.map()).map(Effect::Map)
    }

    /// Where virtual functions are, after the domain has enabled or disabled them; `None` where it
    /// has not since the last call. With no virtual functions the placement's count is 0.
    pub fn take_virtual_functions<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        device: &Device,
    ) -> Option<Placement> {
        if !core::mem::take(&mut self.virtual_functions_written) {
            return None;
        }
        let enabled = device.sr_iov?.enabled(Function::new(config, self.sbdf));
        let none = Placement {
            count: 0,
            first: 0,
            stride: 0,
        };
        Some(enabled.unwrap_or(none))
    }

    /// Mapping `piece` has failed: what is mapped of its BAR is taken back.
    pub fn fail(&mut self, piece: Piece) {
        if let Some(Some(mapping)) = self.mappings.get_mut(usize::from(piece.bar)) {
            mapping.fail(piece);
        }
    }

    /// Its bridge's bus has another number, or it was unplugged: it is not asked any more, and these
    /// pieces of it have to be unmapped.
    pub fn into_mapped(mut self) -> impl Iterator<Item = Piece> {
        core::iter::from_fn(move || {
            let mut mappings = self.mappings.iter_mut().flatten();
            mappings.find_map(|mapping| mapping.claim().and_then(|_| mapping.unmap()))
        })
    }

    /// Whether nothing of it is mapped.
    pub fn is_idle(&self) -> bool {
        let mut mappings = self.mappings.iter().flatten();
        mappings.all(|mapping| mapping.claim().is_none())
    }

    /// Takes the function from the domain: nothing is mapped any more when all effects are carried
    /// out, and it asks for nothing.
    pub fn withdraw<C: ConfigAccess + ?Sized>(&mut self, config: &C) {
        self.command = Command::INTX_DISABLE;
        self.withdrawn = true;
        let function = Function::new(config, self.sbdf);
        let decode = self.hardware & Command::DECODE;
        self.set_hardware(function, Command::INTX_DISABLE | decode);
    }

    /// The kinds of decode that the domain wants, and that hurt nobody: all registers that would
    /// answer are where they may be.
    fn decode(&self, locate: Locate<'_>) -> Command {
        let mut decode = match (self.withdrawn, self.is_virtual) {
            (true, _) => Command::empty(),
            (false, true) => Command::MEMORY,
            (false, false) => self.command & Command::DECODE,
        };
        for bar in self.bars.iter().flatten().filter(|bar| bar.is_enabled()) {
            if place(bar, locate).is_none() {
                decode -= decode_of(bar);
            }
        }
        decode
    }

    /// The pages that each BAR has to be mapped at.
    fn wanted(&self, locate: Locate<'_>) -> [Option<HpaRange>; BARS] {
        let decode = self.decode(locate);
        self.bars.map(|bar| {
            let bar = bar.filter(|bar| bar.is_enabled() && decode.contains(decode_of(bar)))?;
            place(&bar, locate)
        })
    }

    fn unmap(&mut self, wanted: &[Option<HpaRange>; BARS]) -> Option<Piece> {
        let mappings = self.mappings.iter_mut().zip(wanted);
        mappings
            .filter_map(|(mapping, wanted)| Some((mapping.as_mut()?, wanted)))
            .find_map(|(mapping, wanted)| {
                let wanted = wanted.map(|wanted| Gpa::new(wanted.start().get()));
                mapping.must_unmap(wanted).then(|| mapping.unmap())?
            })
    }

    /// Registers are in the domain's memory where the processor has them.
    fn begin(&mut self, wanted: &[Option<HpaRange>; BARS]) {
        for (mapping, wanted) in self.mappings.iter_mut().zip(wanted) {
            if let (Some(mapping), Some(wanted)) = (mapping, wanted)
                && mapping.claim().is_none()
                && !mapping.has_failed()
            {
                mapping.begin_identity(*wanted);
            }
        }
    }

    /// Hardware decodes what may be mapped; what was mapped is unmapped before it stops.
    fn sync_decode<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        locate: Locate<'_>,
    ) {
        let wanted = (self.hardware - Command::DECODE) | self.decode(locate);
        self.set_hardware(function, wanted);
    }
}

fn decode_of(bar: &Tracked) -> Command {
    if bar.kind().is_memory() {
        Command::MEMORY
    } else {
        Command::IO
    }
}

fn place(bar: &Tracked, locate: Locate<'_>) -> Option<HpaRange> {
    locate(bar.kind(), bar.address(), bar.size())?.page_aligned_outwards()
}

#[cfg(test)]
mod tests;
