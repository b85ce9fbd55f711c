//! What is behind one host bridge: buses, bridges that route, time, and notes of all that happens.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use spin::{Mutex, MutexGuard};

use super::function::{SimFunction, access};
use super::msi::Message;
use crate::bar::BarKind;
use crate::config::{Access, Width};
use crate::{RequesterId, Time};

/// A function in its place, and what is behind it.
#[derive(Clone, Debug)]
pub struct Slot {
    devfn: u8,
    function: SimFunction,
    behind: Vec<Slot>,
}

/// A config access as it arrived at a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Where it was sent.
    pub function: RequesterId,
    /// Its bytes.
    pub access: Access,
    /// What was written; `None` for a read.
    pub written: Option<u32>,
}

/// Where in a function a memory access ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The device and function number on its bus, and the bus.
    pub function: RequesterId,
    /// Which BAR: its register's offset.
    pub register: u16,
    /// Bytes from the BAR's start.
    pub offset: u64,
}

/// All behind a host bridge. Clones are the same machine.
#[derive(Clone)]
pub struct Fabric(Arc<Mutex<State>>);

struct State {
    first_bus: u8,
    slots: Vec<Slot>,
    now: u64,
    seen: Vec<Seen>,
}

impl Slot {
    /// `function` as device `device`, function `number` of its bus.
    pub fn new(device: u8, number: u8, function: SimFunction) -> Self {
        Self::ari(device << 3 | number, function)
    }

    /// `function` as the one of 256 of its device.
    pub fn ari(devfn: u8, function: SimFunction) -> Self {
        Self {
            devfn,
            function,
            behind: Vec::new(),
        }
    }

    /// The same as another device.
    pub fn at_device(mut self, device: u8) -> Self {
        self.devfn = device << 3 | self.devfn & 7;
        self
    }

    /// With these behind the bridge.
    pub fn with(mut self, behind: impl IntoIterator<Item = Slot>) -> Self {
        self.behind.extend(behind);
        self
    }

    fn secondary(&self) -> u8 {
        self.function.get(0x19, Width::Byte) as u8
    }

    fn leads_to(&self, bus: u8) -> bool {
        let last = self.function.get(0x1a, Width::Byte) as u8;
        let first = self.secondary();
        self.function.is_bridge() && first != 0 && (first..=last).contains(&bus)
    }

    fn reset_behind(&mut self, now: u64) {
        for slot in &mut self.behind {
            slot.function.reset(now);
            slot.reset_behind(now);
        }
    }

    /// How many functions the slot holds, itself included.
    pub fn count(&self) -> usize {
        1 + self.behind.iter().map(Self::count).sum::<usize>()
    }
}

impl Fabric {
    /// A fabric whose root bus is number 0.
    pub fn new(slots: impl IntoIterator<Item = Slot>) -> Self {
        Self::on_bus(0, slots)
    }

    /// A fabric whose root bus has that number.
    pub fn on_bus(first_bus: u8, slots: impl IntoIterator<Item = Slot>) -> Self {
        Self(Arc::new(Mutex::new(State {
            first_bus,
            slots: slots.into_iter().collect(),
            now: 0,
            seen: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    /// Reads config space: `None` where nobody answers.
    pub fn config_read(&self, function: RequesterId, access: Access) -> Option<u32> {
        let mut state = self.lock();
        let now = state.now;
        state.note(function, access, None);
        let target = state.route(function)?;
        if target.is_busy(now) {
            // PCI Express Base 6.0, 2.3.2: only the vendor id is answered while not ready.
            let vendor = access.offset().get() == 0;
            return vendor.then(|| access.extract(0xffff_0001));
        }
        target.answers(now).then(|| target.config_read(access))
    }

    /// Writes config space: `None` where nobody answers.
    pub fn config_write(&self, function: RequesterId, access: Access, value: u32) -> Option<()> {
        let mut state = self.lock();
        let now = state.now;
        state.note(function, access, Some(value & access.width().ones()));
        let target = state.route(function)?;
        if !target.answers(now) {
            return None;
        }
        if target.config_write(access, value, now)
            && let Some(slot) = state.slot(function)
        {
            slot.reset_behind(now);
        }
        Some(())
    }

    /// Looks at or changes a function, outside the machine.
    pub fn with<R>(
        &self,
        function: RequesterId,
        look: impl FnOnce(&mut SimFunction) -> R,
    ) -> Option<R> {
        self.lock().route(function).map(look)
    }

    /// Lets time pass.
    pub fn advance(&self, microseconds: u64) {
        let mut state = self.lock();
        state.now = state.now.saturating_add(microseconds);
    }

    /// Microseconds since the machine began.
    pub fn now(&self) -> u64 {
        self.lock().now
    }

    /// The config accesses since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        core::mem::take(&mut self.lock().seen)
    }

    /// The functions that claim `address` of the bus's memory; more than one is a conflict.
    pub fn memory_hits(&self, address: u64) -> Vec<Hit> {
        let mut hits = Vec::new();
        let state = self.lock();
        let bus = state.first_bus;
        state
            .slots
            .iter()
            .for_each(|slot| slot.claim(bus, address, &mut hits));
        hits
    }

    /// Reads a dword of memory; `None` where nobody answers.
    pub fn memory_read(&self, address: u64) -> Option<u32> {
        let hit = self.memory_hits(address).first().copied()?;
        self.with(hit.function, |function| function.memory_read(hit))
    }

    /// Writes a dword of memory; `None` where nobody answers.
    pub fn memory_write(&self, address: u64, value: u32) -> Option<()> {
        let hit = self.memory_hits(address).first().copied()?;
        self.with(hit.function, |function| function.memory_write(hit, value))
    }

    /// The function raises an MSI or MSI-X vector: the message that leaves the fabric, if one does.
    pub fn raise(&self, function: RequesterId, vector: u16) -> Option<Message> {
        let requester = self.request(function)?;
        let message = self.with(function, |function| function.raise_vector(vector))??;
        Some(Message {
            requester,
            ..message
        })
    }

    /// A DMA request of the function: the requester id that arrives at the root, if one does.
    pub fn request(&self, function: RequesterId) -> Option<RequesterId> {
        let state = self.lock();
        let bus = state.first_bus;
        let mut way = None;
        for slot in &state.slots {
            way = way.or_else(|| slot.request(bus, function));
        }
        way
    }
}

impl State {
    fn note(&mut self, function: RequesterId, access: Access, written: Option<u32>) {
        self.seen.push(Seen {
            function,
            access,
            written,
        });
    }

    /// The function that a config request reaches.
    fn route(&mut self, function: RequesterId) -> Option<&mut SimFunction> {
        route(&mut self.slots, self.first_bus, function)
    }

    /// The slot of a function that is no virtual one.
    fn slot(&mut self, function: RequesterId) -> Option<&mut Slot> {
        find(&mut self.slots, self.first_bus, function)
    }
}

fn find(slots: &mut [Slot], bus: u8, function: RequesterId) -> Option<&mut Slot> {
    if bus == function.bus() {
        return slots.iter_mut().find(|slot| slot.devfn == function.devfn());
    }
    let bridge = slots
        .iter_mut()
        .find(|slot| slot.leads_to(function.bus()))?;
    let secondary = bridge.secondary();
    // A link has one device, number 0, unless the port takes the number for ARI's.
    let link = bridge.function.leads_to_a_link() && !bridge.function.forwards_ari();
    if secondary == function.bus() && link && function.device() != 0 {
        return None;
    }
    find(&mut bridge.behind, secondary, function)
}

fn route(slots: &mut [Slot], bus: u8, function: RequesterId) -> Option<&mut SimFunction> {
    let place = virtual_place(slots, bus, function);
    match place {
        None => find(slots, bus, function).map(|slot| &mut slot.function),
        Some((physical, index)) => {
            let physical = find(slots, bus, physical)?;
            physical.function.virtual_functions.get_mut(index)
        }
    }
}

/// Which physical function has `function` as its virtual one, and as which.
fn virtual_place(slots: &[Slot], bus: u8, function: RequesterId) -> Option<(RequesterId, usize)> {
    slots.iter().find_map(|slot| {
        let physical = RequesterId::ari(bus, slot.devfn);
        if let Some((offset, stride, count)) = slot.function.enabled_virtual_functions() {
            let index = (0..count).find(|index| {
                let bits = physical.bits().wrapping_add(offset);
                bits.wrapping_add(stride.wrapping_mul(*index)) == function.bits()
            });
            if let Some(index) = index {
                return Some((physical, index.into()));
            }
        }
        if slot.leads_to(function.bus()) {
            return virtual_place(&slot.behind, slot.secondary(), function);
        }
        None
    })
}

impl Slot {
    fn claim(&self, bus: u8, address: u64, hits: &mut Vec<Hit>) {
        let id = RequesterId::ari(bus, self.devfn);
        hits.extend(self.function.claim(id, address));
        if let Some((offset, stride, count)) = self.function.enabled_virtual_functions() {
            for index in 0..count {
                let bits = id
                    .bits()
                    .wrapping_add(offset)
                    .wrapping_add(stride.wrapping_mul(index));
                let function = RequesterId::from_bits(bits);
                hits.extend(self.function.claim_virtual(function, index, address));
            }
        }
        if self.function.is_bridge() && self.function.forwards_memory(address) {
            let secondary = self.secondary();
            self.behind
                .iter()
                .for_each(|slot| slot.claim(secondary, address, hits));
        }
    }

    fn request(&self, bus: u8, function: RequesterId) -> Option<RequesterId> {
        let master = self.function.get(0x04, Width::Word) & 1 << 2 != 0;
        let id = RequesterId::ari(bus, self.devfn);
        if id == function {
            return master.then_some(id);
        }
        if let Some((offset, stride, count)) = self.function.enabled_virtual_functions() {
            for index in 0..count {
                let bits = id
                    .bits()
                    .wrapping_add(offset)
                    .wrapping_add(stride.wrapping_mul(index));
                let own = self.function.virtual_functions.get(usize::from(index))?;
                if bits == function.bits() {
                    return (own.get(0x04, Width::Word) & 1 << 2 != 0).then_some(function);
                }
            }
        }
        let secondary = self.secondary();
        let behind = self
            .behind
            .iter()
            .find_map(|slot| slot.request(secondary, function))?;
        // A bridge to conventional PCI takes ownership: its own id or its secondary bus's
        // (PCI Express to PCI/PCI-X Bridge 1.0, 2.3).
        let takes = self.function.get_port() == Some(7);
        let as_seen = if takes {
            RequesterId::ari(secondary, 0)
        } else {
            behind
        };
        master.then_some(as_seen)
    }
}

impl SimFunction {
    fn get_port(&self) -> Option<u32> {
        let at = self.special.express?;
        Some(self.get(at + 2, Width::Word) >> 4 & 0xf)
    }

    fn decodes_memory(&self) -> bool {
        let in_d0 = |at: u16| self.get(at + 4, Width::Word) & 3 == 0;
        self.get(0x04, Width::Word) & 2 != 0 && self.special.power.is_none_or(in_d0)
    }

    fn bar_address(&self, register: u16, kind: BarKind) -> u64 {
        let low = self.get(register, Width::Dword) & !kind.flag_mask();
        let high = if kind.is_64bit() {
            self.get(register + 4, Width::Dword)
        } else {
            0
        };
        u64::from(high) << 32 | u64::from(low)
    }

    fn claim(&self, function: RequesterId, address: u64) -> Option<Hit> {
        if !self.decodes_memory() {
            return None;
        }
        let memory = |bar: &&(u16, BarKind, u64)| bar.1.is_memory();
        self.special
            .bars
            .iter()
            .filter(memory)
            .find_map(|&(register, kind, size)| {
                let offset = address.checked_sub(self.bar_address(register, kind))?;
                (offset < size).then_some(Hit {
                    function,
                    register,
                    offset,
                })
            })
    }

    fn claim_virtual(&self, function: RequesterId, index: u16, address: u64) -> Option<Hit> {
        let at = self.special.sr_iov?;
        // VF MSE, bit 3 of SR-IOV control.
        if self.get(at + 8, Width::Word) & 1 << 3 == 0 {
            return None;
        }
        let own = self.virtual_functions.get(usize::from(index))?;
        own.special.bars.iter().find_map(|&(register, kind, size)| {
            let base = self.bar_address(at + 0x24 + register - 0x10, kind);
            let start = base.checked_add(size.checked_mul(index.into())?)?;
            let offset = address.checked_sub(start)?;
            (offset < size).then_some(Hit {
                function,
                register,
                offset,
            })
        })
    }

    fn forwards_memory(&self, address: u64) -> bool {
        if self.get(0x04, Width::Word) & 2 == 0 {
            return false;
        }
        let field = |offset, width| u64::from(self.get(offset, width));
        let memory = window(
            (field(0x20, Width::Word) & 0xfff0) << 16,
            (field(0x22, Width::Word) & 0xfff0) << 16,
        );
        let prefetch = window(
            (field(0x24, Width::Word) & 0xfff0) << 16 | field(0x28, Width::Dword) << 32,
            (field(0x26, Width::Word) & 0xfff0) << 16 | field(0x2c, Width::Dword) << 32,
        );
        memory.contains(&address) || prefetch.contains(&address)
    }

    fn memory_read(&self, hit: Hit) -> u32 {
        let key = (usize::from(hit.register), hit.offset & !3);
        self.memory
            .get(&key)
            .copied()
            .unwrap_or(self.memory_default(hit))
    }

    fn memory_write(&mut self, hit: Hit, value: u32) {
        let key = (usize::from(hit.register), hit.offset & !3);
        self.memory.insert(key, value);
    }
}

fn window(base: u64, limit: u64) -> core::ops::RangeInclusive<u64> {
    base..=limit | 0xf_ffff
}

impl Fabric {
    /// Whether the function has memory decode on.
    pub fn decodes(&self, function: RequesterId) -> bool {
        let command = access(0x04, Width::Word);
        let bits = |function: &mut SimFunction| function.get(command.offset().get(), Width::Word);
        self.with(function, bits)
            .is_some_and(|command| command & 2 != 0)
    }
}

impl Time for Fabric {
    fn now(&self) -> Duration {
        Duration::from_micros(Fabric::now(self))
    }

    fn wait(&self, duration: Duration) {
        self.advance(duration.as_micros() as u64);
    }
}
