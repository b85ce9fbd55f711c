//! Stream table and stream table entries: looked up, cached for ever, decoded (IHI 0070, 3.3, 5.1,
//! 5.2).

use std::collections::HashMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use xen_types::Hpa;

use super::super::memory::Memory;
use super::Ids;
use super::events::{BAD_STE, BAD_STREAM, STE_FETCH};
use crate::StreamId;

pub(super) type Entry = [u64; 8];

/// Where the stream table is and how it looks.
pub(super) struct Shape {
    pub base: Hpa,
    pub register: u32,
    pub two_levels: bool,
}

impl Shape {
    fn log2(&self) -> u32 {
        self.register & 0x3f
    }

    fn split(&self) -> Option<u32> {
        (self.register >> 16 & 0b11 == 1).then_some(self.register >> 6 & 0x1f)
    }

    fn descriptor(&self, stream: StreamId, split: u32) -> Hpa {
        Hpa::new(self.base.get() + u64::from(stream.get() >> split) * 8)
    }
}

/// What an entry says.
pub(super) enum Meaning {
    Abort,
    Bypass,
    Stage2(Translation),
}

/// A translation by stage 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Translation {
    pub vmid: u16,
    pub root: Hpa,
    pub start_level: u32,
    pub input_bits: u32,
    pub stalls: bool,
    /// `S2AFFD`: access flags do not count.
    pub ignores_access_flags: bool,
}

/// Decodes an entry; an event where it is ILLEGAL.
pub(super) fn decode(entry: &Entry, ids: Ids) -> Result<Meaning, u8> {
    let [first, _, third, fourth, ..] = *entry;
    if first & 1 == 0 {
        return Err(BAD_STE);
    }
    match first >> 1 & 0b111 {
        0b000..=0b011 => return Ok(Meaning::Abort),
        0b100 => return Ok(Meaning::Bypass),
        0b110 => {}
        // Stage 1 has no tables here.
        _ => return Err(BAD_STE),
    }
    let vtcr = third >> 32 & 0x7_ffff;
    let (size, start) = (64 - (vtcr & 0x3f) as u32, (vtcr >> 6 & 0b11) as u32);
    let output_bits = ids.output_bits();
    let illegal = size > output_bits
        || size < 25
        || start == 3
        || start == 2 && output_bits < 44
        // One table of the start level: 9 bits.
        || size > 12 + 9 * (start + 2)
        || size <= 12 + 9 * (start + 1)
        // S2TG, S2AA64, S2ENDI.
        || vtcr >> 14 & 0b11 != 0
        || third >> 51 & 0b11 != 0b01
        || fourth & 0xfff != 0
        || fourth >> output_bits != 0;
    let (stalls, may_stall) = (third >> 57 & 1 == 1, ids.0[0] >> 24 & 0b11 != 1);
    if illegal || stalls && !may_stall || !stalls && ids.always_stalls() {
        return Err(BAD_STE);
    }
    Ok(Meaning::Stage2(Translation {
        vmid: third as u16,
        root: Hpa::new(fourth),
        start_level: 2 - start,
        input_bits: size,
        stalls,
        ignores_access_flags: third >> 53 & 1 == 1,
    }))
}

/// What was fetched and not forgotten.
#[derive(Default)]
pub(super) struct Configurations {
    descriptors: HashMap<Hpa, u64>,
    entries: HashMap<u32, (Hpa, Entry)>,
    /// Values that words had, since the SMMU last forgot the entry they are of.
    former: HashMap<Hpa, Vec<u64>>,
}

impl Configurations {
    /// The entry of a stream, from the cache if it was ever fetched, valid or not.
    pub(super) fn find(
        &mut self,
        memory: &Memory,
        shape: &Shape,
        stream: StreamId,
    ) -> Result<Entry, u8> {
        if let Some((_, entry)) = self.entries.get(&stream.get()) {
            return Ok(*entry);
        }
        if !stream.fits(shape.log2()) {
            return Err(BAD_STREAM);
        }
        let place = match shape.split() {
            None => Hpa::new(shape.base.get() + u64::from(stream.get()) * 64),
            Some(_) if !shape.two_levels => return Err(STE_FETCH),
            Some(split) => {
                let at = shape.descriptor(stream, split);
                let fetched = memory.device_read(at).ok_or(STE_FETCH)?;
                let descriptor = *self.descriptors.entry(at).or_insert(fetched);
                locate(descriptor, stream, split).ok_or(BAD_STREAM)?
            }
        };
        let mut entry = [0; 8];
        for (index, word) in (0..).zip(&mut entry) {
            *word = memory.device_read(word_at(place, index)).ok_or(STE_FETCH)?;
        }
        self.entries.insert(stream.get(), (place, entry));
        Ok(entry)
    }

    /// CMD_CFGI_STE; with `leaf` the descriptor stays.
    pub(super) fn forget(&mut self, memory: &Memory, shape: &Shape, stream: StreamId, leaf: bool) {
        self.entries.remove(&stream.get());
        if let Some(place) = current_place(memory, shape, stream) {
            (0..8).for_each(|index| {
                self.former.remove(&word_at(place, index));
            });
        }
        if let Some(split) = shape.split().filter(|_| !leaf) {
            self.descriptors.remove(&shape.descriptor(stream, split));
        }
    }

    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    pub(super) fn note_write(&mut self, at: Hpa, former: u64) {
        self.former.entry(at).or_default().push(former);
    }

    /// Every mixture of words that the SMMU may have read of a stream's entry.
    pub(super) fn possible(&self, memory: &Memory, shape: &Shape, stream: StreamId) -> Vec<Entry> {
        let Some(place) = current_place(memory, shape, stream) else {
            return Vec::new();
        };
        let mut mixtures = Vec::from([[0; 8]]);
        for index in 0..8 {
            let at = word_at(place, index);
            let mut values = self.former.get(&at).cloned().unwrap_or_default();
            values.extend(memory.written(at));
            values.sort_unstable();
            values.dedup();
            let with = |mut entry: Entry, value| {
                entry[index as usize] = value;
                entry
            };
            mixtures = mixtures
                .iter()
                .flat_map(|entry| values.iter().map(|value| with(*entry, *value)))
                .collect();
        }
        mixtures
    }

    pub(super) fn remembers(&self, start: Hpa, bytes: u64) -> Option<String> {
        let inside = |at: Hpa| start <= at && at.get() - start.get() < bytes;
        let mut places = self.entries.iter().filter(|(_, (place, _))| inside(*place));
        let mut roots = self
            .entries
            .iter()
            .filter(|(_, (_, entry))| entry[0] & 0b1111 == 0b1101 && inside(Hpa::new(entry[3])));
        places
            .next()
            .map(|(stream, _)| format!("the entry of stream {stream:#x} is there"))
            .or_else(|| {
                let (stream, _) = roots.next()?;
                Some(format!("stream {stream:#x} is translated by a root there"))
            })
    }
}

fn word_at(place: Hpa, index: u64) -> Hpa {
    Hpa::new(place.get() + 8 * index)
}

/// Where a descriptor of the first level says that an entry is.
fn locate(descriptor: u64, stream: StreamId, split: u32) -> Option<Hpa> {
    let span = (descriptor & 0x1f) as u32;
    let index = u64::from(stream.get()) & ((1 << split) - 1);
    let known = (1..=split + 1).contains(&span) && index < 1 << (span - 1);
    known.then(|| Hpa::new((descriptor & 0x000f_ffff_ffff_ffc0) + index * 64))
}

/// Where the entry of a stream is by what the driver wrote.
fn current_place(memory: &Memory, shape: &Shape, stream: StreamId) -> Option<Hpa> {
    match shape.split() {
        None => Some(Hpa::new(shape.base.get() + u64::from(stream.get()) * 64)),
        Some(split) => {
            let descriptor = memory.written(shape.descriptor(stream, split))?;
            locate(descriptor, stream, split)
        }
    }
}
