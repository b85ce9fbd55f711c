//! MSI-X as a guest sees it (PCI Local Bus 3.0, 6.8.2; PCI Express Base 6.0, 7.7.2).
//!
//! The pages of table and pending bits are not mapped. The table is the guest's own; pending bits and
//! registers that share a page with them are forwarded.

use alloc::boxed::Box;
use alloc::vec;
use core::ops::Range;

use arrayvec::ArrayVec;
use pci_host::capability::{BarPlace, MsiX};
use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use super::mapping::Holes;
use crate::access::Lane;

/// Message control, in the upper half of its dword: enable and function mask.
const ENABLE: u32 = 1 << 31;
const FUNCTION_MASK: u32 = 1 << 30;
/// Bytes of a table entry, and of a field.
const ENTRY: u64 = 16;
const FIELD: u64 = 4;
/// Vector control: masked.
const MASKED: u32 = 1;

/// What a guest wants of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct VectorState {
    /// Its number.
    pub vector: u16,
    /// Where the guest wants its message written.
    pub address: u64,
    /// What the guest wants written.
    pub data: u32,
    /// Whether it sends nothing now, for whichever reason.
    pub masked: bool,
}

/// Where an access to a trapped page goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trapped {
    /// It was dealt with. A read gives this.
    Value(u64),
    /// To the device, as it is.
    Forward(Hpa),
}

/// Address (2), data and vector control.
type Entry = [u32; 4];

/// The capability, and the guest's table.
#[derive(Clone, Debug)]
pub(super) struct GuestMsiX {
    capability: MsiX,
    header: u16,
    enabled: bool,
    function_mask: bool,
    table: Box<[Entry]>,
    /// Vectors that the caller has not been told of.
    dirty: Range<u16>,
}

impl GuestMsiX {
    /// With `header` as id and next capability.
    pub fn new(capability: MsiX, header: u16) -> Self {
        Self {
            capability,
            header,
            enabled: false,
            function_mask: false,
            table: vec![[0, 0, 0, MASKED]; capability.vectors.into()].into_boxed_slice(),
            dirty: 0..0,
        }
    }

    /// As after a reset.
    pub fn reset(&mut self) {
        if self.enabled {
            self.touch(0..self.capability.vectors);
        }
        (self.enabled, self.function_mask) = (false, false);
        self.table.fill([0, 0, 0, MASKED]);
    }

    /// Where the table is.
    pub fn table(&self) -> BarPlace {
        self.capability.table
    }

    /// Whether the guest has enabled it.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Reads id, next and message control.
    pub fn read_control(&self) -> u32 {
        let mut control = u32::from(self.header);
        control |= (u32::from(self.capability.vectors) - 1) << 16;
        control |= if self.enabled { ENABLE } else { 0 };
        control | if self.function_mask { FUNCTION_MASK } else { 0 }
    }

    /// Writes them.
    pub fn write_control(&mut self, lane: Lane, value: u32) {
        let after = lane.insert(self.read_control(), value);
        let before = (self.enabled, self.function_mask);
        self.enabled = after & ENABLE != 0;
        self.function_mask = after & FUNCTION_MASK != 0;
        let matters = before.0 || self.enabled;
        if before != (self.enabled, self.function_mask) && matters {
            self.touch(0..self.capability.vectors);
        }
    }

    /// The next vector of which the caller has to know.
    pub fn next(&mut self) -> Option<VectorState> {
        let vector = self.dirty.next()?;
        self.vector(vector)
    }

    /// What the guest wants of a vector; `None` beyond the last.
    pub fn vector(&self, vector: u16) -> Option<VectorState> {
        let [low, high, data, control] = *self.table.get(usize::from(vector))?;
        let heard = self.enabled && !self.function_mask;
        Some(VectorState {
            vector,
            address: u64::from(high) << 32 | u64::from(low & !0b11),
            data,
            masked: !heard || control & MASKED != 0,
        })
    }

    fn touch(&mut self, vectors: Range<u16>) {
        self.dirty = if self.dirty.is_empty() {
            vectors
        } else {
            self.dirty.start.min(vectors.start)..self.dirty.end.max(vectors.end)
        };
    }

    /// What of a BAR is not mapped: the pages of both structures.
    pub fn holes(&self, bar: u8, size: u64) -> Holes {
        let pages = |place: BarPlace, bytes: u64| {
            let start = u64::from(place.offset) & !(PAGE_SIZE - 1);
            let end = u64::from(place.offset)
                .saturating_add(bytes)
                .next_multiple_of(PAGE_SIZE);
            (place.bar == bar).then_some(start..end.min(size))
        };
        let table = pages(self.capability.table, self.capability.table_size());
        let pending = pages(self.capability.pending, self.capability.pending_size());
        let mut holes: Holes = [table, pending].into_iter().flatten().collect();
        holes.sort_by_key(|hole| hole.start);
        merged(&holes)
    }

    /// The part of an access that is in the table: the field's number, from the table's start.
    fn field(&self, bar: u8, offset: u64, bytes: u64) -> Option<u64> {
        let place = self.capability.table;
        let inside = offset.checked_sub(place.offset.into())?;
        let whole = inside.checked_add(bytes)? <= self.capability.table_size();
        (place.bar == bar && whole).then_some(inside)
    }

    fn is_in_table(&self, bar: u8, offset: u64, bytes: u64) -> bool {
        let start = u64::from(self.capability.table.offset);
        let end = start.saturating_add(self.capability.table_size());
        let last = offset.saturating_add(bytes);
        self.capability.table.bar == bar && offset < end && start < last
    }

    fn is_in_pending(&self, bar: u8, offset: u64, bytes: u64) -> bool {
        let start = u64::from(self.capability.pending.offset);
        let end = start.saturating_add(self.capability.pending_size());
        let last = offset.saturating_add(bytes);
        self.capability.pending.bar == bar && offset < end && start < last
    }

    /// Reads `bytes` at `offset` of a BAR that the host has at `host`.
    pub fn read(&self, bar: u8, host: HpaRange, offset: u64, bytes: u64) -> Trapped {
        if !self.is_in_table(bar, offset, bytes) {
            return forward(host, offset, bytes);
        }
        // One field or two (6.8.2, figure 6-11): others are undefined.
        let inside = self.field(bar, offset, bytes);
        let Some(inside) = inside.filter(|inside| is_valid(*inside, bytes)) else {
            return Trapped::Value(u64::MAX);
        };
        let field = |at: u64| u64::from(self.get(at).unwrap_or(u32::MAX));
        let low = field(inside);
        let high = if bytes == 8 { field(inside + FIELD) } else { 0 };
        Trapped::Value(high << 32 | low)
    }

    /// Writes `bytes` at `offset` of a BAR that the host has at `host`. Pending bits are read-only.
    pub fn write(
        &mut self,
        bar: u8,
        host: HpaRange,
        (offset, bytes): (u64, u64),
        value: u64,
    ) -> Trapped {
        if self.is_in_pending(bar, offset, bytes) {
            return Trapped::Value(0);
        }
        if !self.is_in_table(bar, offset, bytes) {
            return forward(host, offset, bytes);
        }
        let inside = self.field(bar, offset, bytes);
        if let Some(inside) = inside.filter(|inside| is_valid(*inside, bytes)) {
            self.set(inside, value as u32);
            if bytes == 8 {
                self.set(inside + FIELD, (value >> 32) as u32);
            }
        }
        Trapped::Value(0)
    }

    fn get(&self, inside: u64) -> Option<u32> {
        let entry = self.table.get(usize::try_from(inside / ENTRY).ok()?)?;
        entry.get((inside % ENTRY / FIELD) as usize).copied()
    }

    fn set(&mut self, inside: u64, value: u32) {
        let number = inside / ENTRY;
        let field = (inside % ENTRY / FIELD) as usize;
        // All but the mask bit is reserved (6.8.2.9).
        let value = if field == 3 { value & MASKED } else { value };
        let entry = usize::try_from(number).ok();
        let entry = entry.and_then(|number| self.table.get_mut(number));
        let Some(place) = entry.and_then(|entry| entry.get_mut(field)) else {
            return;
        };
        let changed = *place != value;
        *place = value;
        if changed && self.enabled {
            let vector = number as u16;
            self.touch(vector..vector.saturating_add(1));
        }
    }
}

/// Whether an access is of one whole field, or of two that are aligned together.
fn is_valid(inside: u64, bytes: u64) -> bool {
    matches!(bytes, 4 | 8) && inside.is_multiple_of(bytes)
}

fn forward(host: HpaRange, offset: u64, bytes: u64) -> Trapped {
    let end = offset.checked_add(bytes);
    let inside = end.is_some_and(|end| end <= host.size());
    let aligned = bytes.is_power_of_two() && bytes <= 8 && offset.is_multiple_of(bytes);
    match host.start().checked_add(offset) {
        Some(address) if inside && aligned => Trapped::Forward(address),
        _ => Trapped::Value(u64::MAX),
    }
}

/// Holes in order, those that touch made one.
fn merged(holes: &[Range<u64>]) -> Holes {
    let mut merged: Holes = ArrayVec::new();
    for hole in holes {
        match merged.last_mut() {
            Some(last) if hole.start <= last.end => last.end = last.end.max(hole.end),
            _ => {
                // No more than there were.
                let _ = merged.try_push(hole.clone());
            }
        }
    }
    merged
}
