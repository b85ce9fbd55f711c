//! Stage 2 walks, and a TLB that keeps pages, blocks and tables on the way until it is told to
//! forget them (IHI 0070, 3.4, 4.4; Arm ARM D8.2).

use std::collections::HashMap;
use std::format;
use std::string::String;

use xen_types::{Gpa, Hpa};

use super::super::memory::Memory;
use super::configuration::Translation;
use super::events::{ACCESS, ADDRESS_SIZE, PERMISSION, TRANSLATION, WALK_ABORT};
use crate::Access;

/// Bits of an address below what an entry of a level resolves.
const fn shift(level: u32) -> u32 {
    39 - 9 * level
}

/// VMID, level, and the address bits that the entry was found by.
type Key = (u16, u32, u64);

fn key(vmid: u16, level: u32, address: u64) -> Key {
    (vmid, level, address >> shift(level))
}

#[derive(Default)]
pub(super) struct Translations {
    /// Descriptors of pages and blocks.
    leaves: HashMap<Key, u64>,
    /// Tables that descriptors of a level lead to.
    tables: HashMap<Key, Hpa>,
}

impl Translations {
    /// Where an access leads; an event where nowhere.
    pub(super) fn translate(
        &mut self,
        memory: &Memory,
        translation: &Translation,
        address: Gpa,
        access: Access,
        output_bits: u32,
    ) -> Result<Hpa, u8> {
        let address = address.get();
        if address >> translation.input_bits != 0 {
            return Err(TRANSLATION);
        }
        let (leaf, level) = match self.cached(translation.vmid, address) {
            Some(found) => found,
            None => self.walk(memory, translation, address)?,
        };
        let permission = match access {
            Access::Read => leaf >> 6 & 1,
            Access::Write => leaf >> 7 & 1,
        };
        if leaf >> 10 & 1 == 0 && !translation.ignores_access_flags {
            return Err(ACCESS);
        }
        if permission == 0 {
            return Err(PERMISSION);
        }
        let offset = address & ((1 << shift(level)) - 1);
        let output = (leaf & 0x0000_ffff_ffff_f000 & !((1 << shift(level)) - 1)) + offset;
        if output >> output_bits != 0 {
            return Err(ADDRESS_SIZE);
        }
        Ok(Hpa::new(output))
    }

    fn cached(&self, vmid: u16, address: u64) -> Option<(u64, u32)> {
        let leaf = |level| Some((*self.leaves.get(&key(vmid, level, address))?, level));
        (1..=3).find_map(leaf)
    }

    /// Walks on from the last table that is known, and keeps all that it finds.
    fn walk(
        &mut self,
        memory: &Memory,
        translation: &Translation,
        address: u64,
    ) -> Result<(u64, u32), u8> {
        let vmid = translation.vmid;
        let known = (translation.start_level..3)
            .rev()
            .find_map(|level| Some((*self.tables.get(&key(vmid, level, address))?, level + 1)));
        let (mut table, first) = known.unwrap_or((translation.root, translation.start_level));
        for level in first..=3 {
            let index = address >> shift(level) & 0x1ff;
            let at = Hpa::new(table.get() + index * 8);
            let descriptor = memory.device_read(at).ok_or(WALK_ABORT)?;
            match (descriptor & 0b11, level) {
                (0b11, 0..=2) => {
                    table = Hpa::new(descriptor & 0x0000_ffff_ffff_f000);
                    self.tables.insert(key(vmid, level, address), table);
                }
                (0b01, 1..=2) | (0b11, 3) => {
                    self.leaves.insert(key(vmid, level, address), descriptor);
                    return Ok((descriptor, level));
                }
                _ => break,
            }
        }
        Err(TRANSLATION)
    }

    /// CMD_TLBI_S2_IPA for `bytes` from `address`; with `leaf`, tables stay.
    pub(super) fn forget_range(&mut self, vmid: u16, address: u64, bytes: u64, leaf: bool) {
        let last = address + (bytes - 1);
        let hit = |(other, level, prefix): &Key| {
            let range = address >> shift(*level)..=last >> shift(*level);
            *other == vmid && range.contains(prefix)
        };
        self.leaves.retain(|key, _| !hit(key));
        if !leaf {
            self.tables.retain(|key, _| !hit(key));
        }
    }

    /// CMD_TLBI_S12_VMALL.
    pub(super) fn forget_domain(&mut self, vmid: u16) {
        self.leaves.retain(|(other, ..), _| *other != vmid);
        self.tables.retain(|(other, ..), _| *other != vmid);
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn remembers(&self, start: Hpa, bytes: u64) -> Option<String> {
        let end = start.get() + bytes;
        let leaf = self.leaves.iter().find(|((_, level, _), descriptor)| {
            let output = *descriptor & 0x0000_ffff_ffff_f000;
            output < end && start.get() < output + (1 << shift(*level))
        });
        let table = self.tables.iter().find(|(_, table)| {
            let table = table.get();
            table < end && start.get() < table + 0x1000
        });
        let describe = |what, (vmid, level, prefix): &Key| {
            let address = prefix << shift(*level);
            format!("VMID {vmid}: a {what} of level {level} is remembered for {address:#x}")
        };
        leaf.map(|(key, _)| describe("mapping", key))
            .or_else(|| table.map(|(key, _)| describe("table", key)))
    }
}
