extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::memory::buddy::Buddy;
use crate::memory::frame::{FrameInfo, Left};
use crate::paging::ENTRIES;

/// Tables as plain arrays, so many of which can be had, and a TLB that takes up at once whatever they say
/// of the lowest pages, and keeps it until it is told to forget.
struct Tables {
    tables: Vec<Option<[u64; ENTRIES]>>,
    left: usize,
    /// Where walks begin, once hardware walks.
    root: Option<Mfn>,
    tlb: BTreeSet<(Gfn, Mfn)>,
    /// Nothing is forgotten any more.
    remembers: bool,
}

const FIRST_TABLE: u64 = 0x10_0000;

impl Tables {
    fn new(left: usize) -> Self {
        Self {
            tables: Vec::new(),
            left,
            root: None,
            tlb: BTreeSet::new(),
            remembers: false,
        }
    }

    fn index(table: Mfn) -> usize {
        (table.get() - FIRST_TABLE) as usize
    }

    /// Whether the TLB leads to a frame.
    fn reaches(&self, mfn: Mfn) -> bool {
        self.tlb.iter().any(|(_, reached)| *reached == mfn)
    }

    /// Walks to the lowest pages, which are no blocks in these tests.
    fn walk(&mut self) {
        let Some(mut table) = self.root else {
            return;
        };
        for _ in 0..3 {
            match self.read(table, 0) {
                0 => return,
                descriptor => table = Mfn::new((descriptor & 0xffff_ffff_f000) >> 12),
            }
        }
        let found = (0..GFNS).filter_map(|number| {
            let descriptor = self.read(table, number as usize);
            let mfn = Mfn::new((descriptor & 0xffff_ffff_f000) >> 12);
            (descriptor != 0).then_some((gfn(number), mfn))
        });
        let found: Vec<_> = found.collect();
        self.tlb.extend(found);
    }
}

impl TableMemory for Tables {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        self.left = self.left.checked_sub(1).ok_or(OutOfTables)?;
        self.tables.push(Some([0; ENTRIES]));
        Ok(Mfn::new(FIRST_TABLE + self.tables.len() as u64 - 1))
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        self.left += 1;
        let table = Self::index(table.release());
        self.tables[table].take().expect("freed once");
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        self.tables[Self::index(table)].expect("a table")[index]
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        self.tables[Self::index(table)].as_mut().expect("a table")[index] = descriptor;
        self.walk();
    }

    fn invalidate(&mut self, address: u64) -> Result<(), Remembered> {
        if self.remembers {
            return Err(Remembered);
        }
        self.tlb.retain(|(gfn, _)| gfn.get() != address >> 12);
        self.walk();
        Ok(())
    }

    fn retire(&mut self) -> Result<(), Remembered> {
        if self.remembers {
            return Err(Remembered);
        }
        self.root = None;
        self.tlb.clear();
        Ok(())
    }
}

const ALICE: DomId = DomId::new(1);

fn gfn(number: u64) -> Gfn {
    Gfn::new(number)
}

fn pages(first: u64, count: u64) -> HpaRange {
    let start = Mfn::new(first).address().unwrap();
    HpaRange::new(start, count * PAGE_SIZE).unwrap()
}

/// A page of the domain's own that a guest frame has led to.
fn ram(number: u64) -> Displaced {
    Displaced::Ram(Unreachable::new(pages(number, 1)))
}

fn reference(number: u64) -> Displaced {
    Displaced::Reference(Unreachable::new(Mfn::new(number)))
}

fn one_domain(frames: &FrameTable<'_>, tables: &mut Tables) -> P2m {
    let mut buddy = Buddy::new(frames_static(frames));
    buddy.add(frames.banks().next().unwrap()).unwrap();
    let block = buddy.allocate(3, ALICE, FrameType::DomainRam).unwrap();
    assert_eq!(block.first(), Mfn::new(0));
    let mut p2m = P2m::new(ALICE, 40, tables).unwrap();
    for number in 0..8 {
        let displaced = p2m.put(tables, gfn(number), Mfn::new(number), Attributes::Ram);
        assert_eq!(displaced, Ok(Displaced::Nothing));
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
            assert_eq!(displaced, Ok(ram(number)));
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

/// What the domain itself may only read, it cannot have written through others.
#[test]
fn xsa_98_read_only_ram_is_not_referenced_for_writing() {
    with_domain(|frames, tables, mut p2m| {
        let displaced = p2m.put(tables, gfn(2), Mfn::new(2), Attributes::ReadOnlyRam);
        assert_eq!(displaced, Ok(ram(2)));
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
        assert!(matches!(displaced, Ok(Displaced::Ram(_))));
        let displaced = p2m.put(tables, gfn(3), Mfn::new(3), Attributes::Ram);
        assert_eq!(displaced, Ok(reference(9)));
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
            let held = match attributes {
                Attributes::Foreign | Attributes::ReadOnlyForeign | Attributes::Shared => {
                    reference(500)
                }
                Attributes::Ram | Attributes::ReadOnlyRam => ram(500),
                _ => Displaced::Nothing,
            };
            let removed = p2m.remove(tables, gfn(5)).unwrap();
            assert_eq!(removed, held);
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
            assert_eq!(displaced, Ok(Displaced::Nothing));
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

#[test]
fn ram_comes_in_blocks_and_goes_as_it_came() {
    with_domain(|_, tables, mut p2m| {
        let at = gfn(0x4_0000);
        let block = || Unreachable::new(pages(0x4_0000, 0x4_0200));
        assert_eq!(p2m.add_ram(tables, at, block()), Ok(Displaced::Nothing));
        assert_eq!(p2m.highest(), gfn(0x8_01ff));
        assert_eq!(p2m.lookup(tables, at).unwrap().level, 1);
        let NotAdded { error, ram } = p2m.add_ram(tables, at, block()).unwrap_err();
        assert!(matches!(error, P2mError::Map(MapError::Conflict(_))));
        assert_eq!(ram, block());
        let next = p2m.next_ram(tables, Gpa::new(0x4123_4000)).unwrap();
        assert_eq!((next.input, next.size), (0x4000_0000, 1 << 30));
        let next = p2m.next_ram(tables, Gpa::new(0x8000_0000)).unwrap();
        assert_eq!((next.input, next.size), (0x8000_0000, 2 << 20));
        assert_eq!(p2m.take_next(tables, Gpa::new(0)), None);
        p2m.close(tables).unwrap();
        assert_eq!(
            p2m.put(tables, gfn(7), Mfn::new(7), Attributes::Shared),
            Err(P2mError::Closed(gfn(7)))
        );
        let mut from = Gpa::new(0x4000_0000);
        for size in [1 << 30, 2 << 20] {
            let (range, displaced) = p2m.take_next(tables, from).unwrap();
            assert_eq!(range.size(), size);
            let block = pages(range.start().get() >> 12, size / PAGE_SIZE);
            assert_eq!(displaced, Displaced::Ram(Unreachable::new(block)));
            from = range.end();
        }
        assert_eq!(p2m.take_next(tables, from), None);
    });
}

/// Whatever is remembered is lost: it is not given back, neither frames nor tables.
#[test]
fn xsa_373_what_is_not_forgotten_is_not_given_back() {
    with_domain(|_, tables, mut p2m| {
        let put = |p2m: &mut P2m, tables: &mut Tables, number| {
            p2m.put(tables, gfn(number), Mfn::new(500), Attributes::Granted)
        };
        assert_eq!(put(&mut p2m, tables, 6), Ok(ram(6)));
        assert_eq!(put(&mut p2m, tables, 7), Ok(ram(7)));
        tables.remembers = true;
        let remembered = |number| P2mError::Map(MapError::Remembered(number * PAGE_SIZE));
        assert_eq!(put(&mut p2m, tables, 1), Err(remembered(1)));
        assert_eq!(p2m.remove(tables, gfn(2)), Err(remembered(2)));
        assert_eq!(p2m.take_ram(tables, gfn(3)), Err(remembered(3)));
        let granted = |p2m: &mut P2m, tables: &mut Tables, number| {
            p2m.remove_granted(tables, gfn(number), Mfn::new(500))
        };
        assert_eq!(granted(&mut p2m, tables, 6), Err(remembered(6)));
        // Also where it is gone already, and where something else has come in its place.
        assert_eq!(granted(&mut p2m, tables, 6), Err(remembered(6)));
        assert_eq!(granted(&mut p2m, tables, 4), Err(remembered(4)));
        for number in [1, 2, 3, 6] {
            assert_eq!(p2m.lookup(tables, gfn(number)), None);
        }
        let left = tables.left;
        assert_eq!(p2m.close(tables), Err(Remembered));
        assert_eq!(p2m.take_next(tables, Gpa::new(0)), None);
        assert_eq!(p2m.dismantle(tables), Err(Remembered));
        assert_eq!(tables.left, left);
    });
}

/// One removal from the TLBs does for all that a domain had, however much that is.
#[test]
fn xsa_355_batches_of_every_size_come_back_whole() {
    for count in 0..40 {
        let mut tables = Tables::new(100);
        let mut p2m = P2m::new(ALICE, 40, &mut tables).unwrap();
        for number in 0..count {
            let page = Unreachable::new(pages(number, 1));
            let added = p2m.add_ram(&mut tables, gfn(number), page);
            assert_eq!(added, Ok(Displaced::Nothing));
        }
        p2m.close(&mut tables).unwrap();
        let mut next = |from: &mut Gpa| {
            let (range, displaced) = p2m.take_next(&mut tables, *from)?;
            *from = range.end();
            Some(displaced)
        };
        let mut from = Gpa::new(0);
        let taken: Vec<_> = core::iter::from_fn(|| next(&mut from)).collect();
        assert_eq!(taken, (0..count).map(ram).collect::<Vec<_>>());
    }
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
    Destroy(usize),
    /// TLBs of the domain's do not do what they are told any more.
    StopForgetting(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => any_usual_step(),
        1 => (0..usize::from(DOMAINS)).prop_map(Step::StopForgetting),
    ]
}

fn any_usual_step() -> impl Strategy<Value = Step> {
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
        domain().prop_map(Step::Destroy),
    ]
}

/// Domains that do to each other what hypercalls let them.
struct World<'a> {
    frames: &'a FrameTable<'a>,
    buddy: Buddy<'a>,
    /// Of each domain.
    tables: Vec<Tables>,
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
                let removed = self.p2ms[domain].remove(&mut self.tables[domain], gfn(number));
                if let Ok(displaced) = removed {
                    self.put(domain, displaced);
                }
            }
            Step::Destroy(domain) => self.destroy(domain),
            Step::StopForgetting(domain) => self.tables[domain].remembers = true,
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
                    let (domain, at, mfn) = self.grants[number];
                    let tables = &mut self.tables[domain];
                    // A grant that may still be reached stays in use.
                    if let Ok(frame) = self.p2ms[domain].remove_granted(tables, at, mfn) {
                        self.grants.remove(number);
                        self.put(domain, Displaced::Reference(frame));
                    }
                }
            }
        }
    }

    fn populate(&mut self, domain: usize, at: Gfn) {
        let owner = self.p2ms[domain].owner();
        let Ok(page) = self.buddy.allocate_ram(0, None, owner) else {
            return;
        };
        let frame = page.held().start().frame();
        for tables in &self.tables {
            assert!(!tables.reaches(frame), "{frame} is free, but reached");
        }
        let added = self.p2ms[domain].add_ram(&mut self.tables[domain], at, page);
        match added {
            Ok(displaced) => self.put(domain, displaced),
            Err(NotAdded { ram, .. }) => self.buddy.free_ram(ram).unwrap(),
        }
    }

    /// All that the domain has goes, and nothing comes any more.
    fn destroy(&mut self, domain: usize) {
        let closed = self.p2ms[domain].close(&mut self.tables[domain]);
        let mut from = Gpa::new(0);
        while let Some((range, displaced)) =
            self.p2ms[domain].take_next(&mut self.tables[domain], from)
        {
            from = range.end();
            self.put(domain, displaced);
        }
        let owner = self.p2ms[domain].owner();
        for number in 0..FRAMES {
            let state = self.frames.lookup(Mfn::new(number)).unwrap().state();
            let is_owned = state.owner == owner && state.kind == FrameType::DomainRam;
            let may_be = closed.is_err() || self.tables[domain].remembers;
            assert!(!is_owned || may_be, "frame {number}: {state:?}");
        }
    }

    fn decrease(&mut self, domain: usize, at: Gfn) {
        if let Ok(ram) = self.p2ms[domain].take_ram(&mut self.tables[domain], at) {
            self.give_up(domain, ram);
        }
    }

    fn give_up(&mut self, domain: usize, ram: Unreachable<HpaRange>) {
        let owner = self.p2ms[domain].owner();
        let mfn = ram.release().start().frame();
        let block = self.buddy.single_out(mfn).unwrap();
        let entry = self.frames.lookup(mfn).unwrap();
        if entry.give_up(owner).unwrap() == Left::Nothing {
            self.buddy.free(block).unwrap();
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
        let mfn = self.p2ms[from]
            .reference_ram(&self.tables[from], self.frames, index, true)
            .ok()?;
        match self.p2ms[domain].put(&mut self.tables[domain], at, mfn, attributes) {
            Ok(displaced) => self.put(domain, displaced),
            Err(_) => {
                self.put_reference(mfn);
                return None;
            }
        }
        Some(mfn)
    }

    fn put(&mut self, domain: usize, displaced: Displaced) {
        match displaced {
            Displaced::Nothing => {}
            Displaced::Ram(ram) => self.give_up(domain, ram),
            Displaced::Reference(frame) => self.put_reference(frame.release()),
        }
    }

    fn put_reference(&mut self, mfn: Mfn) {
        if self.frames.lookup(mfn).unwrap().put().unwrap() == Left::Nothing {
            let block = self.buddy.single_out(mfn).unwrap();
            self.buddy.free(block).unwrap();
        }
    }

    /// Every way to a frame is its owner's or is counted, and all that is counted is a way.
    /// What was lost is counted for ever.
    fn check(&self) {
        let is_lossless = self.tables.iter().all(|tables| !tables.remembers);
        let mut references: BTreeMap<Mfn, u32> = BTreeMap::new();
        for (_, _, mfn) in &self.grants {
            *references.entry(*mfn).or_default() += 1;
        }
        for (p2m, tables) in self.p2ms.iter().zip(&self.tables) {
            for number in 0..GFNS {
                let Some(found) = p2m.lookup(tables, gfn(number)) else {
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
            if is_lossless {
                assert_eq!(state.references, counted, "frame {number}: {state:?}");
            }
            assert!(state.references >= counted, "frame {number}: {state:?}");
            let is_reached = self.tables.iter().any(|tables| tables.reaches(mfn));
            assert!(
                !is_reached || state.is_owned(),
                "frame {number} is free, but reached"
            );
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
        let mut tables: Vec<_> = (0..DOMAINS).map(|_| Tables::new(1000)).collect();
        let start = |(number, tables): (usize, &mut Tables)| {
            let p2m = P2m::new(DomId::new(number as u16), 40, tables).unwrap();
            tables.root = Some(p2m.table().root());
            p2m
        };
        let p2ms = tables.iter_mut().enumerate().map(start).collect();
        let mut world = World { frames: &frames, buddy, tables, p2ms, grants: vec![] };
        for step in &steps {
            world.apply(step);
            world.check();
        }
    }
}
