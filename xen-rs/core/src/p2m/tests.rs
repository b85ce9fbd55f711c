extern crate std;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::memory::buddy::Buddy;
use crate::memory::frame::{FrameInfo, Left};
use crate::paging::ENTRIES;

/// Tables as plain arrays; so many can be had.
struct Tables {
    tables: Vec<Option<[u64; ENTRIES]>>,
    left: usize,
    /// TLBs do not do what they are told.
    remembers: bool,
}

const FIRST_TABLE: u64 = 0x10_0000;

impl Tables {
    fn new(left: usize) -> Self {
        Self {
            tables: Vec::new(),
            left,
            remembers: false,
        }
    }

    fn index(table: Mfn) -> usize {
        (table.get() - FIRST_TABLE) as usize
    }
}

impl TableMemory for Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        self.left = self.left.checked_sub(1).ok_or(OutOfTables)?;
        self.tables.push(Some([0; ENTRIES]));
        Ok(Mfn::new(FIRST_TABLE + self.tables.len() as u64 - 1))
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        let table = table.release();
        self.left += 1;
        self.tables[Self::index(table)].take().expect("freed once");
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        self.tables[Self::index(table)].expect("a table")[index]
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        self.tables[Self::index(table)].as_mut().expect("a table")[index] = descriptor;
    }

    fn invalidate(&mut self, _address: u64) -> Result<(), Remembered> {
        if self.remembers {
            Err(Remembered)
        } else {
            Ok(())
        }
    }
}

const ALICE: DomId = DomId::new(1);

fn gfn(number: u64) -> Gfn {
    Gfn::new(number)
}

fn one_domain(frames: &FrameTable<'_>, tables: &mut Tables) -> P2m {
    let mut buddy = Buddy::new(frames_static(frames));
    buddy.add(frames.banks().next().unwrap()).unwrap();
    let block = buddy.allocate(3, ALICE, FrameType::DomainRam).unwrap();
    assert_eq!(block.first(), Mfn::new(0));
    let mut p2m = P2m::new(ALICE, 40, tables).unwrap();
    for number in 0..8 {
        let displaced = p2m.put(tables, gfn(number), Mfn::new(number), Attributes::Ram);
        assert_eq!(displaced, Ok(Displaced(None)));
    }
    p2m
}

fn frames_static<'a>(frames: &'a FrameTable<'a>) -> &'a FrameTable<'a> {
    frames
}

fn with_domain(test: impl FnOnce(&FrameTable<'_>, &mut Tables, P2m)) {
    let infos: Vec<_> = (0..8).map(|_| FrameInfo::default()).collect();
    let mut frames = FrameTable::new();
    frames.add_bank(Mfn::new(0), &infos).unwrap();
    let mut tables = Tables::new(100);
    let p2m = one_domain(&frames, &mut tables);
    test(&frames, &mut tables, p2m);
}

#[test]
fn only_own_ram_is_referenced_and_given_up() {
    with_domain(|frames, tables, mut p2m| {
        let not_own = |number| Err(P2mError::NotOwnRam(gfn(number)));
        let put = |p2m: &mut P2m, tables: &mut Tables, number, attributes| {
            let displaced = p2m.put(tables, gfn(number), Mfn::new(500), attributes);
            assert_eq!(displaced, Ok(Displaced(None)));
        };
        put(&mut p2m, tables, 1, Attributes::Foreign);
        put(&mut p2m, tables, 2, Attributes::Granted);
        put(&mut p2m, tables, 3, Attributes::Shared);
        for number in [1, 2, 3, 100, u64::MAX] {
            assert_eq!(
                p2m.reference_ram(tables, frames, gfn(number), false),
                not_own(number)
            );
            assert!(p2m.take_ram(tables, gfn(number)).is_err());
        }
        assert_eq!(
            p2m.reference_ram(tables, frames, gfn(4), true),
            Ok(Mfn::new(4))
        );
        assert_eq!(frames.lookup(Mfn::new(4)).unwrap().state().references, 1);
        // A frame that only claims to be the domain's.
        put(&mut p2m, tables, 5, Attributes::Ram);
        assert_eq!(p2m.reference_ram(tables, frames, gfn(5), true), not_own(5));
    });
}

/// Where a TLB does not forget, a frame is lost rather than free: it may still be written.
#[test]
fn xsa_373_what_is_remembered_is_not_given_back() {
    with_domain(|_, tables, mut p2m| {
        let displaced = p2m.put(tables, gfn(20), Mfn::new(500), Attributes::Foreign);
        assert_eq!(displaced, Ok(Displaced(None)));
        let displaced = p2m.put(tables, gfn(21), Mfn::new(501), Attributes::Granted);
        assert_eq!(displaced, Ok(Displaced(None)));
        tables.remembers = true;
        let remembered = |number: u64| P2mError::Map(MapError::Remembered(number << 12));
        assert_eq!(p2m.take_ram(tables, gfn(1)), Err(remembered(1)));
        assert_eq!(p2m.remove(tables, gfn(20)), Err(remembered(20)));
        // Nor does what was to be there come in its place.
        let put = p2m.put(tables, gfn(2), Mfn::new(502), Attributes::Foreign);
        assert_eq!(put, Err(remembered(2)));
        for number in [1, 2, 20] {
            assert_eq!(p2m.lookup(tables, gfn(number)), None);
        }
        // A handle can be given back later, when nothing remembers.
        let ungranted = p2m.remove_granted(tables, gfn(21), Mfn::new(501));
        assert_eq!(ungranted, Err(remembered(21)));
        let again = p2m.remove_granted(tables, gfn(21), Mfn::new(501));
        assert_eq!(again, Err(remembered(21)));
        tables.remembers = false;
        let ungranted = p2m.remove_granted(tables, gfn(21), Mfn::new(501));
        assert_eq!(ungranted, Ok(Unreachable::new(Mfn::new(501))));
    });
}

/// What the domain itself may only read, it cannot have written through others.
#[test]
fn xsa_98_read_only_ram_is_not_referenced_for_writing() {
    with_domain(|frames, tables, mut p2m| {
        let displaced = p2m.put(tables, gfn(2), Mfn::new(2), Attributes::ReadOnlyRam);
        assert_eq!(displaced, Ok(Displaced(None)));
        let refused = Err(P2mError::NotOwnRam(gfn(2)));
        assert_eq!(p2m.reference_ram(tables, frames, gfn(2), true), refused);
        assert_eq!(
            p2m.reference_ram(tables, frames, gfn(2), false),
            Ok(Mfn::new(2))
        );
    });
}

#[test]
fn xsa_301_frames_beyond_the_guest_address_space_are_refused_not_aliased() {
    with_domain(|frames, tables, mut p2m| {
        for bit in 28..64 {
            let far = gfn(1 << bit | 4);
            let out_of_range = P2mError::OutOfRange(far);
            assert_eq!(p2m.lookup(tables, far), None);
            assert!(p2m.reference_ram(tables, frames, far, false).is_err());
            let put = p2m.put(tables, far, Mfn::new(500), Attributes::Foreign);
            assert_eq!(put, Err(out_of_range));
            assert_eq!(p2m.remove(tables, far), Err(out_of_range));
            assert_eq!(p2m.take_ram(tables, far), Err(out_of_range));
            assert_eq!(
                p2m.remove_granted(tables, far, Mfn::new(4)),
                Err(out_of_range)
            );
        }
    });
}

#[test]
fn a_device_is_neither_replaced_nor_removed() {
    with_domain(|_, tables, mut p2m| {
        let registers = Mfn::new(0x8_0000).address().unwrap();
        p2m.table_mut()
            .map(
                tables,
                0x8000_0000,
                registers,
                0x20_0000,
                Attributes::Device,
            )
            .unwrap();
        let at = gfn(0x8_0010);
        let refused = P2mError::Device(at);
        assert_eq!(
            p2m.put(tables, at, Mfn::new(4), Attributes::Shared),
            Err(refused)
        );
        assert_eq!(p2m.remove(tables, at), Err(refused));
        assert_eq!(p2m.take_ram(tables, at), Err(P2mError::NotOwnRam(at)));
        assert_eq!(p2m.lookup(tables, at).unwrap().level, 2);
    });
}

/// A change that fails for want of a table changes nothing, and loses no reference.
#[test]
fn xsa_222_without_memory_for_tables_a_frame_stays_where_it_is() {
    with_domain(|_, tables, mut p2m| {
        let start = Mfn::new(0x4_0000).address().unwrap();
        p2m.table_mut()
            .map(tables, 0x4000_0000, start, 0x20_0000, Attributes::Ram)
            .unwrap();
        tables.left = 0;
        let at = gfn(0x4_0007);
        let no_tables = P2mError::Map(MapError::OutOfTables(OutOfTables));
        assert_eq!(p2m.take_ram(tables, at), Err(no_tables));
        assert_eq!(
            p2m.put(tables, at, Mfn::new(1), Attributes::Foreign),
            Err(no_tables)
        );
        let nowhere = gfn(0x800_0000);
        assert_eq!(
            p2m.put(tables, nowhere, Mfn::new(1), Attributes::Foreign),
            Err(no_tables)
        );
        let found = p2m.lookup(tables, at).unwrap();
        assert_eq!((found.output.frame(), found.level), (Mfn::new(0x4_0007), 2));
        // A page that has its table can be replaced without another.
        let displaced = p2m.put(tables, gfn(3), Mfn::new(9), Attributes::Foreign);
        assert_eq!(displaced, Ok(Displaced(None)));
        let displaced = p2m.put(tables, gfn(3), Mfn::new(3), Attributes::Ram);
        assert_eq!(
            displaced,
            Ok(Displaced(Some(Unreachable::new(Mfn::new(9)))))
        );
    });
}

/// Whatever was there, the descriptor is zero when it is taken away, also where no CPU could use it.
#[test]
fn xsa_393_what_is_removed_leaves_nothing_behind() {
    with_domain(|_, tables, mut p2m| {
        for attributes in [
            Attributes::Ram,
            Attributes::ReadOnlyRam,
            Attributes::Foreign,
            Attributes::ReadOnlyForeign,
            Attributes::Granted,
            Attributes::ReadOnlyGranted,
            Attributes::Shared,
        ] {
            let _ = p2m.put(tables, gfn(5), Mfn::new(500), attributes);
            let held = matches!(
                attributes,
                Attributes::Foreign | Attributes::ReadOnlyForeign
            );
            let removed = p2m.remove(tables, gfn(5)).unwrap();
            let reference = removed.reference().map(Unreachable::release);
            assert_eq!(reference, held.then_some(Mfn::new(500)));
            assert_eq!(p2m.lookup(tables, gfn(5)), None);
            assert_eq!(p2m.remove(tables, gfn(5)), Err(P2mError::Nothing(gfn(5))));
            let descriptors = tables.tables.iter().flatten().flatten();
            assert!(
                descriptors
                    .filter(|descriptor| *descriptor & 1 == 0)
                    .all(|gone| *gone == 0),
                "{attributes:?}"
            );
        }
    });
}

#[test]
fn an_unmapped_grant_does_not_take_what_has_come_in_its_place() {
    with_domain(|_, tables, mut p2m| {
        let grant = |p2m: &mut P2m, tables: &mut Tables| {
            let displaced = p2m.put(tables, gfn(20), Mfn::new(6), Attributes::Granted);
            assert_eq!(displaced, Ok(Displaced(None)));
        };
        grant(&mut p2m, tables);
        let _ = p2m.remove_granted(tables, gfn(20), Mfn::new(7)).unwrap();
        assert!(p2m.lookup(tables, gfn(20)).is_some());
        let _ = p2m.remove_granted(tables, gfn(20), Mfn::new(6)).unwrap();
        assert!(p2m.lookup(tables, gfn(20)).is_none());
        let _ = p2m.remove_granted(tables, gfn(4), Mfn::new(4)).unwrap();
        assert!(p2m.lookup(tables, gfn(4)).is_some());
    });
}

const DOMAINS: u16 = 3;
const FRAMES: u64 = 12;
const GFNS: u64 = 8;

/// What happens to domains' guest frames, by numbers of domains and guest frames.
#[derive(Clone, Debug)]
enum Step {
    Populate(usize, u64),
    Decrease(usize, u64),
    MapForeign(usize, u64, usize, u64),
    Remove(usize, u64),
    Grant(usize, u64, usize, u64, bool),
    Ungrant(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let domain = || 0..usize::from(DOMAINS);
    let gfn = || 0..GFNS;
    prop_oneof![
        (domain(), gfn()).prop_map(|(d, g)| Step::Populate(d, g)),
        (domain(), gfn()).prop_map(|(d, g)| Step::Decrease(d, g)),
        (domain(), gfn(), domain(), gfn()).prop_map(|(d, g, f, i)| Step::MapForeign(d, g, f, i)),
        (domain(), gfn()).prop_map(|(d, g)| Step::Remove(d, g)),
        (domain(), gfn(), domain(), gfn(), any::<bool>())
            .prop_map(|(d, g, f, i, w)| Step::Grant(d, g, f, i, w)),
        (0..8usize).prop_map(Step::Ungrant),
    ]
}

/// Domains that do to each other what hypercalls let them.
struct World<'a> {
    frames: &'a FrameTable<'a>,
    buddy: Buddy<'a>,
    tables: Tables,
    p2ms: Vec<P2m>,
    /// Grant mappings: domain, guest frame, frame.
    grants: Vec<(usize, Gfn, Mfn)>,
}

impl World<'_> {
    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Populate(domain, number) => self.populate(domain, gfn(number)),
            Step::Decrease(domain, number) => self.decrease(domain, gfn(number)),
            Step::MapForeign(domain, at, from, index) => {
                self.map(domain, gfn(at), from, gfn(index), Attributes::Foreign);
            }
            Step::Remove(domain, number) => {
                let removed = self.p2ms[domain].remove(&mut self.tables, gfn(number));
                if let Ok(displaced) = removed {
                    self.put(displaced);
                }
            }
            Step::Grant(domain, at, from, index, writable) => {
                let attributes = if writable {
                    Attributes::Granted
                } else {
                    Attributes::ReadOnlyGranted
                };
                if let Some(mfn) = self.map(domain, gfn(at), from, gfn(index), attributes) {
                    self.grants.push((domain, gfn(at), mfn));
                }
            }
            Step::Ungrant(number) => {
                if number < self.grants.len() {
                    let (domain, at, mfn) = self.grants.remove(number);
                    let removed = self.p2ms[domain].remove_granted(&mut self.tables, at, mfn);
                    self.put(Displaced(Some(removed.unwrap())));
                }
            }
        }
    }

    fn populate(&mut self, domain: usize, at: Gfn) {
        let owner = self.p2ms[domain].owner();
        let Ok(block) = self.buddy.allocate(0, owner, FrameType::DomainRam) else {
            return;
        };
        // A page of its own in its place would be lost: the hypercall asks first.
        let taken = self.p2ms[domain].lookup(&self.tables, at);
        if taken.is_some_and(|taken| taken.attributes == Attributes::Ram) {
            self.buddy.free(block).unwrap();
            return;
        }
        let displaced = self.p2ms[domain]
            .put(&mut self.tables, at, block.first(), Attributes::Ram)
            .unwrap();
        self.put(displaced);
    }

    fn decrease(&mut self, domain: usize, at: Gfn) {
        let owner = self.p2ms[domain].owner();
        if let Ok(taken) = self.p2ms[domain].take_ram(&mut self.tables, at) {
            let mfn = taken.release();
            let block = self.buddy.single_out(mfn).unwrap();
            let entry = self.frames.lookup(mfn).unwrap();
            if entry.give_up(owner).unwrap() == Left::Nothing {
                self.buddy.free(block).unwrap();
            }
        }
    }

    fn map(
        &mut self,
        domain: usize,
        at: Gfn,
        from: usize,
        index: Gfn,
        attributes: Attributes,
    ) -> Option<Mfn> {
        // Its own pages would be lost.
        let there = self.p2ms[domain].lookup(&self.tables, at);
        if there.is_some_and(|there| there.attributes == Attributes::Ram) {
            return None;
        }
        let mfn = self.p2ms[from]
            .reference_ram(&self.tables, self.frames, index, true)
            .ok()?;
        let displaced = self.p2ms[domain]
            .put(&mut self.tables, at, mfn, attributes)
            .unwrap();
        self.put(displaced);
        Some(mfn)
    }

    fn put(&mut self, displaced: Displaced) {
        if let Some(mfn) = displaced.reference().map(Unreachable::release)
            && self.frames.lookup(mfn).unwrap().put().unwrap() == Left::Nothing
        {
            let block = self.buddy.single_out(mfn).unwrap();
            self.buddy.free(block).unwrap();
        }
    }

    /// Every way to a frame is its owner's or is counted, and all that is counted is a way.
    fn check(&self) {
        let mut references: BTreeMap<Mfn, u32> = BTreeMap::new();
        for (_, _, mfn) in &self.grants {
            *references.entry(*mfn).or_default() += 1;
        }
        for p2m in &self.p2ms {
            for number in 0..GFNS {
                let Some(found) = p2m.lookup(&self.tables, gfn(number)) else {
                    continue;
                };
                let mfn = found.output.frame();
                let state = self.frames.lookup(mfn).unwrap().state();
                match found.attributes {
                    Attributes::Ram => {
                        assert_eq!(
                            (state.owner, state.kind),
                            (p2m.owner(), FrameType::DomainRam)
                        );
                    }
                    Attributes::Foreign => *references.entry(mfn).or_default() += 1,
                    // Still granted, at this very place.
                    _ => {
                        let held = |grant: &&(usize, Gfn, Mfn)| {
                            let domain = self.p2ms[grant.0].owner();
                            (domain, grant.1, grant.2) == (p2m.owner(), gfn(number), mfn)
                        };
                        assert!(self.grants.iter().find(held).is_some());
                    }
                }
            }
        }
        for number in 0..FRAMES {
            let mfn = Mfn::new(number);
            let state = self.frames.lookup(mfn).unwrap().state();
            let counted = references.get(&mfn).copied().unwrap_or(0);
            assert_eq!(state.references, counted, "frame {number}: {state:?}");
            if counted > 0 {
                assert!(matches!(
                    state.kind,
                    FrameType::DomainRam | FrameType::GivenUp
                ));
            }
        }
    }
}

proptest! {
    /// XSA-473, XSA-217 and their kin: no frame has a writer that is neither its owner nor holds a
    /// reference, and none changes hands while it is referenced: what is free or another's is
    /// reached by nobody else.
    #[test]
    fn xsa_473_no_frame_is_reached_without_owning_or_holding_it(
        steps in prop::collection::vec(any_step(), 0..120)
    ) {
        let infos: Vec<_> = (0..FRAMES).map(|_| FrameInfo::default()).collect();
        let mut frames = FrameTable::new();
        frames.add_bank(Mfn::new(0), &infos).unwrap();
        let mut buddy = Buddy::new(&frames);
        buddy.add(frames.banks().next().unwrap()).unwrap();
        let mut tables = Tables::new(1000);
        let p2ms = (0..DOMAINS)
            .map(|number| P2m::new(DomId::new(number), 40, &mut tables).unwrap())
            .collect();
        let mut world = World { frames: &frames, buddy, tables, p2ms, grants: vec![] };
        for step in &steps {
            world.apply(step);
            world.check();
        }
    }
}
