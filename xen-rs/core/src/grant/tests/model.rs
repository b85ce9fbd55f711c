//! Random operations of two mapping domains against a list of what is mapped.

extern crate std;
use std::collections::BTreeMap;
use std::vec::Vec;
use std::{format, vec};

use proptest::prelude::*;
use xen_abi::DomId;
use xen_abi::grant_table::{GrantStatus, entry_flags as flag};

use super::super::*;
use super::fake::{Guest, RAM_FRAMES, READ_ONLY_FRAME, mfn_of};
use super::{MAPPER, OTHER, request, table};
use crate::paging::Unreachable;

const REFERENCES: u32 = 4;
const HANDLES: u32 = 6;
const MAPPERS: [DomId; 2] = [MAPPER, OTHER];

#[derive(Clone, Copy, Debug)]
enum Op {
    /// The guest writes an entry that is not in use.
    Grant(u32, usize, u32, bool),
    /// Mapper, reference, place, writable, and whether the caller succeeds.
    Map(usize, u32, u64, bool, bool),
    /// Mapper, handle, place, and whether the caller succeeds.
    Unmap(usize, u32, u64, bool),
}

fn op() -> impl Strategy<Value = Op> {
    let mapper = || 0..MAPPERS.len();
    let reference = || prop_oneof![20 => 0..REFERENCES, 1 => any::<u32>()];
    let handle = prop_oneof![20 => 0..HANDLES, 1 => any::<u32>()];
    let gfn = 0..RAM_FRAMES as u32 + 1;
    prop_oneof![
        3 => (0..REFERENCES, mapper(), gfn, any::<bool>())
            .prop_map(|(reference, who, gfn, ro)| Op::Grant(reference, who, gfn, ro)),
        5 => (mapper(), reference(), 0u64..3, any::<bool>(), any::<bool>())
            .prop_map(|(who, reference, at, writable, done)| {
                Op::Map(who, reference, at, writable, done)
            }),
        4 => (mapper(), handle, 0u64..3, any::<bool>())
            .prop_map(|(who, handle, at, done)| Op::Unmap(who, handle, at, done)),
    ]
}

/// A mapping that should exist.
#[derive(Clone, Copy, Debug)]
struct Mapped {
    reference: u32,
    at: u64,
    gfn: u64,
    writable: bool,
}

struct World {
    guest: Guest,
    table: GrantTable,
    tracks: Vec<Maptrack>,
    /// By mapper and handle.
    mapped: BTreeMap<(usize, u32), Mapped>,
}

impl World {
    fn new() -> Self {
        Self {
            guest: Guest::new(),
            table: table(),
            tracks: MAPPERS
                .map(|mapper| Maptrack::new(mapper, HANDLES))
                .into_iter()
                .collect(),
            mapped: BTreeMap::new(),
        }
    }

    fn users(&self, reference: u32) -> impl Iterator<Item = (usize, Mapped)> {
        let all = self.mapped.iter().map(|(&(who, _), &mapped)| (who, mapped));
        all.filter(move |(_, mapped)| mapped.reference == reference)
    }

    /// Whether the mapper may have it, by what the entry says and who uses it.
    fn may_map(&self, who: usize, reference: u32, writable: bool) -> bool {
        if reference >= REFERENCES {
            return false;
        }
        let header = self.guest.header(reference);
        let gfn = u64::from(self.guest.frame(reference));
        header.flags & (flag::TYPE_MASK | flag::SUB_PAGE) == flag::PERMIT_ACCESS
            && header.grantee == MAPPERS[who]
            && gfn < RAM_FRAMES
            && !(writable && (header.flags & flag::READ_ONLY != 0 || gfn == READ_ONLY_FRAME))
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Grant(reference, who, gfn, read_only) => {
                if self.users(reference).next().is_none() {
                    let read_only = if read_only { flag::READ_ONLY } else { 0 };
                    let flags = flag::PERMIT_ACCESS | read_only;
                    self.guest.grant(reference, flags, MAPPERS[who], gfn);
                }
            }
            Op::Map(who, reference, at, writable, done) => {
                self.map(who, reference, at, writable, done);
            }
            Op::Unmap(who, handle, at, done) => self.unmap(who, handle, at, done),
        }
    }

    fn map(&mut self, who: usize, reference: u32, at: u64, writable: bool, done: bool) {
        let full = self.mapped.keys().filter(|key| key.0 == who).count() == HANDLES as usize;
        let expected = !full && self.may_map(who, reference, writable);
        let (track, guest) = (&mut self.tracks[who], &self.guest);
        let wanted = request(reference, at, writable);
        let map = match track.begin_map(&mut self.table, guest, guest, wanted) {
            Ok(map) => map,
            Err(error) => {
                assert!(!expected, "{error}");
                assert!(!full || error.status() == GrantStatus::NoSpace);
                return;
            }
        };
        assert!(expected);
        let gfn = u64::from(guest.frame(reference));
        assert_eq!(map.pin().mfn(), mfn_of(gfn));
        if !done {
            track.cancel_map(&mut self.table, guest, guest, map);
            return;
        }
        let mapped = Mapped {
            reference,
            at,
            gfn,
            writable,
        };
        let handle = track.commit_map(map).get();
        let before = self.mapped.insert((who, handle), mapped);
        assert!(before.is_none(), "a handle is used twice");
    }

    fn unmap(&mut self, who: usize, handle: u32, at: u64, done: bool) {
        let known = self.mapped.get(&(who, handle));
        let expected = known.is_some_and(|mapped| mapped.at == at);
        let (track, guest) = (&mut self.tracks[who], &self.guest);
        let Ok(unmap) = track.begin_unmap(handle, at << 12) else {
            assert!(!expected);
            return;
        };
        assert!(expected);
        if done {
            let frame = Unreachable::new(unmap.pin().mfn());
            track.commit_unmap(&mut self.table, guest, guest, unmap, frame);
            self.mapped.remove(&(who, handle));
        } else {
            track.cancel_unmap(unmap);
        }
    }

    /// Pins, flags and references are what the list of mappings makes them.
    fn check(&self) {
        let mut references = vec![0; RAM_FRAMES as usize];
        for reference in 0..REFERENCES {
            let users: Vec<Mapped> = self.users(reference).map(|(_, mapped)| mapped).collect();
            let writers = users.iter().filter(|mapped| mapped.writable).count() as u32;
            let readers = users.len() as u32 - writers;
            assert_eq!(self.table.uses(reference), (readers, writers));
            let flags = self.guest.flags(reference);
            assert_eq!(flags & flag::READING != 0, readers + writers > 0);
            assert_eq!(flags & flag::WRITING != 0, writers > 0);
            assert!(writers == 0 || flags & flag::READ_ONLY == 0);
            if let Some(mapped) = users.first() {
                references[mapped.gfn as usize] += 1;
            }
        }
        for (gfn, &expected) in references.iter().enumerate() {
            assert_eq!(self.guest.references(gfn as u64), expected, "gfn {gfn}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// XSA-224 and its kin: what holds a frame is counted exactly, in all orders of maps and unmaps,
    /// also those that fail half-way.
    #[test]
    fn xsa_224_pins_equal_mappings_after_each_step(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            world.check();
        }
        let left: Vec<_> = world.mapped.iter().map(|(&key, &mapped)| (key, mapped)).collect();
        for ((who, handle), mapped) in left {
            world.unmap(who, handle, mapped.at, true);
            world.check();
        }
        prop_assert!(world.table.is_idle());
    }

    #[test]
    fn any_number_is_survived(handle: u32, address: u64, reference: u32, flags: u16, frame: u32) {
        let mut world = World::new();
        world.guest.grant(0, flags, MAPPER, frame);
        world.map(0, 0, 0, true, false);
        let (guest, track) = (&world.guest, &mut world.tracks[0]);
        let _ = track.begin_unmap(handle, address).map(|unmap| format!("{unmap:?}"));
        let _ = world.table.acquire(guest, guest, reference, MAPPER, true);
        prop_assert!(track.begin_unmap_any(handle).is_none());
    }
}
