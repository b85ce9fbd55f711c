extern crate std;

use std::collections::HashSet;
use std::vec::Vec;

use proptest::prelude::*;
use xen_types::{Hpa, Mfn, PAGE_SIZE};

use super::*;
use crate::memory::frame::Left;

const OWNER: DomId = DomId::XEN;
const KIND: FrameType = FrameType::Hypervisor;

fn frames(first: u64, count: u64) -> HpaRange {
    HpaRange::new(Hpa::new(first * PAGE_SIZE), count * PAGE_SIZE).unwrap()
}

fn block(first: u64, order: u8) -> Block {
    Block::new(Mfn::new(first), order).unwrap()
}

/// Entries for banks of (first frame, frames).
struct Ram(Vec<(u64, Vec<FrameInfo>)>);

impl Ram {
    fn new(banks: &[(u64, u64)]) -> Self {
        let infos = |count: u64| (0..count).map(|_| FrameInfo::default()).collect();
        Self(
            banks
                .iter()
                .map(|(first, count)| (*first, infos(*count)))
                .collect(),
        )
    }

    fn table(&self) -> FrameTable<'_> {
        let mut table = FrameTable::new();
        for (first, infos) in &self.0 {
            table.add_bank(Mfn::new(*first), infos).unwrap();
        }
        table
    }
}

impl Buddy<'_> {
    /// The free blocks, and that the lists, the marks and the counter agree.
    fn free_blocks(&self) -> HashSet<Block> {
        let mut blocks = HashSet::new();
        for order in 0..=MAX_ORDER {
            for block in self.list(order) {
                assert!(self.is_free(block));
                assert!(blocks.insert(block), "{block:?} twice");
                assert!(self.joinable(block).is_none(), "{block:?} is not joined");
            }
        }
        let sum: u64 = blocks.iter().map(|block| block.frames()).sum();
        assert_eq!(sum, self.free_frames());
        blocks
    }

    fn free_set(&self) -> HashSet<u64> {
        let blocks = self.free_blocks();
        blocks.into_iter().flat_map(frame_numbers).collect()
    }
}

fn frame_numbers(block: Block) -> impl Iterator<Item = u64> {
    (block.first().get()..).take(block.frames() as usize)
}

#[test]
fn memory_is_split_on_the_way_out_and_joined_on_the_way_back() {
    let ram = Ram::new(&[(0x40000, 1 << 10)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0x40000, 1 << 10)).unwrap();
    let whole = buddy.free_blocks();
    assert_eq!(whole, HashSet::from([block(0x40000, 10)]));

    let one = buddy.allocate(0, OWNER, KIND).unwrap();
    assert_eq!(buddy.free_frames(), 1023);
    assert_eq!(buddy.free_blocks().len(), 10);
    let eight = buddy.allocate(3, OWNER, KIND).unwrap();
    buddy.free(one).unwrap();
    buddy.free(eight).unwrap();
    assert_eq!(buddy.free_blocks(), whole);
    assert_eq!(buddy.total_frames(), 1024);
}

#[test]
fn ram_goes_back_whole_or_in_parts_and_not_while_somebody_refers_to_it() {
    let ram = Ram::new(&[(0, 16)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 16)).unwrap();
    let alice = DomId::new(1);
    let within = frames(8, 8);
    let all = buddy.allocate_ram(3, Some(within), alice).unwrap();
    assert_eq!(*all.held(), within);
    let (first, rest) = all.split_at(2 * PAGE_SIZE);
    let rest = rest.unwrap();
    assert_eq!((*first.held(), *rest.held()), (frames(8, 2), frames(10, 6)));
    buddy.free_ram(first).unwrap();
    // Six pages are no block.
    let (rest, error) = buddy.free_ram(rest).unwrap_err();
    assert_eq!(error, FreeError::NotABlock(frames(10, 6)));
    let (two, four) = rest.split_at(2 * PAGE_SIZE);
    let referenced = table.lookup(Mfn::new(11)).unwrap();
    referenced.get(alice, FrameType::DomainRam).unwrap();
    let (two, error) = buddy.free_ram(two).unwrap_err();
    assert!(matches!(error, FreeError::Frame(..)));
    let _ = referenced.put().unwrap();
    buddy.free_ram(two).unwrap();
    buddy.free_ram(four.unwrap()).unwrap();
    assert_eq!(buddy.free_frames(), 16);
}

#[test]
fn frames_of_a_block_are_marked_and_those_around_it_are_not() {
    let ram = Ram::new(&[(0, 16)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 16)).unwrap();
    let taken = buddy
        .allocate(2, DomId::new(7), FrameType::DomainRam)
        .unwrap();
    for number in 0..16 {
        let state = table.lookup(Mfn::new(number)).unwrap().state();
        let inside = frame_numbers(taken).any(|frame| frame == number);
        assert_eq!(state.is_owned(), inside, "{number}");
        if inside {
            let found = (state.owner, state.kind, state.references);
            assert_eq!(found, (DomId::new(7), FrameType::DomainRam, 0));
        }
    }
}

#[test]
fn handing_over_a_gigabyte_touches_one_frame() {
    let ram = Ram::new(&[(1 << 18, 1 << 18)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(1 << 18, 1 << 18)).unwrap();
    let touched = ram.0[0].1.iter().filter(|info| {
        info.links() != Links::default() || info.state() != FrameInfo::default().state()
    });
    assert_eq!(touched.count(), 1);
    assert_eq!(buddy.allocate(18, OWNER, KIND).unwrap(), block(1 << 18, 18));
    assert_eq!(buddy.free_frames(), 0);
}

#[test]
fn memory_is_handed_over_once() {
    let ram = Ram::new(&[(0, 64)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 16)).unwrap();
    buddy.add(frames(32, 16)).unwrap();
    buddy.add(frames(16, 16)).unwrap();
    buddy.allocate_at(frames(20, 3), OWNER, KIND).unwrap();
    let before = buddy.free_blocks();
    for again in [
        frames(20, 3),
        frames(0, 1),
        frames(47, 2),
        frames(0, 1 << 30),
    ] {
        assert!(matches!(buddy.add(again), Err(AddError::Twice(..))));
    }
    assert_eq!(buddy.free_blocks(), before);
    assert_eq!(buddy.known.as_slice(), [frames(0, 48)]);
    buddy.add(frames(48, 1 << 40)).unwrap();
    assert_eq!(buddy.total_frames(), 64);
}

#[test]
fn more_ranges_than_are_kept_track_of_stay_unused() {
    let ram = Ram::new(&[(0, 2 * MAX_RANGES as u64 + 1)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    for number in 0..MAX_RANGES as u64 {
        buddy.add(frames(2 * number, 1)).unwrap();
    }
    let last = frames(2 * MAX_RANGES as u64, 1);
    assert_eq!(buddy.add(last), Err(AddError::TooManyRanges(last)));
    assert_eq!(buddy.free_frames(), MAX_RANGES as u64);
}

#[test]
fn blocks_do_not_span_banks_that_touch() {
    let ram = Ram::new(&[(0, 3), (3, 5), (8, 1)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 9)).unwrap();
    let expected = [(0, 1), (2, 0), (3, 0), (4, 2), (8, 0)];
    let expected = expected.map(|(first, order)| block(first, order));
    assert_eq!(buddy.free_blocks(), HashSet::from(expected));
}

#[test]
fn a_hole_of_16_tib_costs_nothing() {
    let far = (16 << 40) / PAGE_SIZE;
    let ram = Ram::new(&[(0x40000, 2), (far, 2)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 2 * far)).unwrap();
    assert_eq!(
        buddy.free_blocks(),
        HashSet::from([block(0x40000, 1), block(far, 1)])
    );
}

#[test]
fn allocation_within_limits() {
    let high = (8u64 << 30) / PAGE_SIZE;
    let ram = Ram::new(&[(0x40000, 64), (high, 64)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 2 * high)).unwrap();
    let low = frames(0, (4 << 30) / PAGE_SIZE);
    let taken = buddy.allocate_within(5, low, OWNER, KIND).unwrap();
    assert!(low.contains_range(taken.range()));
    let narrow = frames(high + 33, 7);
    let two = buddy.allocate_within(1, narrow, OWNER, KIND).unwrap();
    assert_eq!(two, block(high + 34, 1));
    let error = buddy.allocate_within(6, low, OWNER, KIND).unwrap_err();
    assert_eq!(error, OutOfMemory { order: 6, free: 94 });
    assert!(buddy.allocate_within(2, narrow, OWNER, KIND).is_ok());
    assert!(buddy.allocate_within(2, narrow, OWNER, KIND).is_err());
    let all = frames(0, 1 << 40);
    for order in 7..=u8::MAX {
        assert!(buddy.allocate_within(order, all, OWNER, KIND).is_err());
        assert!(buddy.allocate(order, OWNER, KIND).is_err());
    }
}

#[test]
fn allocation_by_address_is_all_or_nothing() {
    let ram = Ram::new(&[(0x100, 0x100), (0x200, 0x80)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 0x1000)).unwrap();
    let start = buddy.free_blocks();

    let taken: Vec<_> = buddy
        .allocate_at(frames(0x1f3, 0x1a), OWNER, KIND)
        .unwrap()
        .collect();
    let numbers: Vec<u64> = taken.iter().copied().flat_map(frame_numbers).collect();
    assert_eq!(numbers, (0x1f3..0x20d).collect::<Vec<u64>>());
    assert!(buddy.free_set().is_disjoint(&numbers.into_iter().collect()));

    let before = buddy.free_blocks();
    for (range, part) in [
        (frames(0x1f0, 4), frames(0x1f3, 1)),
        (frames(0xf0, 0x20), frames(0xf0, 0x10)),
        (frames(0x270, 0x20), frames(0x280, 0x10)),
        (frames(0x300, 1), frames(0x300, 1)),
    ] {
        let error = buddy.allocate_at(range, OWNER, KIND).unwrap_err();
        assert!(error.0.overlaps(part), "{error}");
        assert_eq!(buddy.free_blocks(), before);
    }
    for block in taken {
        buddy.free(block).unwrap();
    }
    assert_eq!(buddy.free_blocks(), start);
}

#[test]
fn what_is_no_allocated_block_is_not_freed() {
    let ram = Ram::new(&[(0, 64)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 32)).unwrap();
    let taken = buddy.allocate_within(3, frames(8, 8), OWNER, KIND).unwrap();
    let after = buddy.free_blocks();
    // Another order, the inside, free, reserved, partly or wholly outside.
    for (first, order) in [
        (8, 2),
        (8, 0),
        (0, 4),
        (9, 0),
        (12, 2),
        (16, 4),
        (16, 0),
        (40, 3),
        (0, 18),
        (64, 0),
        (1 << 40, 3),
    ] {
        let error = buddy.free(block(first, order)).unwrap_err();
        assert!(matches!(error, FreeError::NotABlock(_)), "{error}");
        assert_eq!(buddy.free_blocks(), after);
    }
    buddy.free(taken).unwrap();
    assert!(matches!(buddy.free(taken), Err(FreeError::NotABlock(_))));
    assert_eq!(buddy.free_blocks(), HashSet::from([block(0, 5)]));
}

#[test]
fn a_referenced_block_stays_as_it_was() {
    let ram = Ram::new(&[(0, 16)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 16)).unwrap();
    let taken = buddy.allocate(3, OWNER, KIND).unwrap();
    let last = table.lookup(Mfn::new(taken.first().get() + 7)).unwrap();
    last.get(OWNER, KIND).unwrap();
    let referenced = FreeError::Frame(taken.range(), FrameError::StillReferenced(1));
    assert_eq!(buddy.free(taken), Err(referenced));
    for frame in frame_numbers(taken) {
        let state = table.lookup(Mfn::new(frame)).unwrap().state();
        assert_eq!((state.owner, state.kind), (OWNER, KIND));
    }
    assert_eq!(buddy.free_frames(), 8);
    assert_eq!(last.put(), Ok(Left::Held));
    buddy.free(taken).unwrap();
    assert_eq!(buddy.free_frames(), 16);
}

#[test]
fn a_split_block_is_freed_in_parts() {
    let ram = Ram::new(&[(0, 16)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 16)).unwrap();
    let taken = buddy.allocate(3, OWNER, KIND).unwrap();
    let first = taken.first().get();
    table
        .lookup(taken.first())
        .unwrap()
        .get(OWNER, KIND)
        .unwrap();
    assert!(buddy.split(taken, 4).is_err());
    assert!(buddy.split(block(first, 2), 0).is_err());
    buddy.split(taken, 1).unwrap();
    assert!(matches!(buddy.free(taken), Err(FreeError::NotABlock(_))));
    assert!(matches!(
        buddy.free(block(first, 1)),
        Err(FreeError::Frame(..))
    ));
    for pair in 1..4 {
        buddy.free(block(first + 2 * pair, 1)).unwrap();
    }
    assert_eq!(buddy.free_frames(), 14);
    let left = table.lookup(taken.first()).unwrap().put();
    assert_eq!(left, Ok(Left::Held));
    buddy.free(block(first, 1)).unwrap();
    assert_eq!(buddy.free_blocks(), HashSet::from([block(0, 4)]));
}

#[test]
fn a_frame_in_the_middle_of_a_block_is_freed_alone() {
    let ram = Ram::new(&[(0, 64)]);
    let table = ram.table();
    let mut buddy = Buddy::new(&table);
    buddy.add(frames(0, 64)).unwrap();
    let taken = buddy.allocate(5, OWNER, KIND).unwrap();
    let middle = Mfn::new(taken.first().get() + 13);
    let free = |frame| buddy_entry(&table, frame).state().kind == FrameType::Free;
    assert!(!free(middle));
    let single = buddy.single_out(middle).unwrap();
    assert_eq!((single.first(), single.order()), (middle, 0));
    assert_eq!(buddy.single_out(middle), Ok(single));
    buddy.free(single).unwrap();
    assert!(free(middle));
    assert_eq!(buddy.free_frames(), 33);
    assert!(matches!(
        buddy.single_out(middle),
        Err(FreeError::NotABlock(_))
    ));
    for frame in frame_numbers(taken).filter(|frame| *frame != middle.get()) {
        let single = buddy.single_out(Mfn::new(frame)).unwrap();
        buddy.free(single).unwrap();
    }
    assert_eq!(buddy.free_blocks(), HashSet::from([block(0, 6)]));
}

fn buddy_entry<'a>(table: &FrameTable<'a>, frame: Mfn) -> &'a FrameInfo {
    table.lookup(frame).unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Allocate(u8),
    Within(u8, u64, u64),
    At(u64, u64),
    Free(prop::sample::Index),
    Split(prop::sample::Index, u8),
    FreeAnything(u64, u8),
}

/// Frame numbers of the model's machine are below this.
const END: u64 = 700;

fn any_step() -> impl Strategy<Value = Step> {
    let order = || 0..9u8;
    prop_oneof![
        4 => order().prop_map(Step::Allocate),
        2 => (order(), 0..END, 1..END).prop_map(|(order, first, count)| {
            Step::Within(order, first, count)
        }),
        2 => (0..END, 1..40u64).prop_map(|(first, count)| Step::At(first, count)),
        5 => any::<prop::sample::Index>().prop_map(Step::Free),
        1 => (any::<prop::sample::Index>(), order()).prop_map(|(which, order)| {
            Step::Split(which, order)
        }),
        2 => (0..END, order()).prop_map(|(first, order)| Step::FreeAnything(first, order)),
    ]
}

/// Banks below `END` with random borders, some of them touching, some of one frame.
fn any_banks() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..3u64, prop_oneof![Just(1), 1..300u64]), 1..6).prop_map(|parts| {
        let mut next = 1;
        let mut banks = Vec::new();
        for (gap, count) in parts {
            let first = next + gap * 13;
            let count = count.min(END - first.min(END));
            if count > 0 {
                banks.push((first, count));
            }
            next = first + count;
        }
        banks
    })
}

/// Disjoint ranges to hand over, which need not be RAM.
fn any_ranges() -> impl Strategy<Value = Vec<HpaRange>> {
    prop::collection::vec((0..30u64, 1..200u64), 1..8).prop_map(|parts| {
        let mut next = 0;
        let mut ranges = Vec::new();
        for (gap, count) in parts {
            ranges.push(frames(next + gap, count));
            next += gap + count;
        }
        ranges
    })
}

/// What the allocator should do, frame by frame.
struct Model {
    free: HashSet<u64>,
    banks: Vec<HpaRange>,
    allocated: Vec<Block>,
}

impl Model {
    /// Whether a block lies in a bank and all of it is free.
    fn is_free(&self, block: Block) -> bool {
        let in_a_bank = self
            .banks
            .iter()
            .any(|bank| bank.contains_range(block.range()));
        in_a_bank && frame_numbers(block).all(|frame| self.free.contains(&frame))
    }

    fn has_free(&self, order: u8, within: HpaRange) -> bool {
        (0..END)
            .step_by(1 << order)
            .map(|first| block(first, order))
            .any(|block| within.contains_range(block.range()) && self.is_free(block))
    }

    fn take(&mut self, block: Block) {
        for frame in frame_numbers(block) {
            assert!(self.free.remove(&frame), "{frame} was not free");
        }
        self.allocated.push(block);
    }

    fn give_back(&mut self, which: usize) {
        self.free
            .extend(frame_numbers(self.allocated.swap_remove(which)));
    }
}

fn carry_out(step: Step, buddy: &mut Buddy<'_>, model: &mut Model) {
    let everything = frames(0, END);
    match step {
        Step::Allocate(order) => match buddy.allocate(order, OWNER, KIND) {
            Ok(block) => {
                assert_eq!(block.order(), order);
                model.take(block);
            }
            Err(error) => {
                assert!(!model.has_free(order, everything));
                assert_eq!(error.free, model.free.len() as u64);
            }
        },
        Step::Within(order, first, count) => {
            let limits = frames(first, count);
            match buddy.allocate_within(order, limits, OWNER, KIND) {
                Ok(block) => {
                    assert!(limits.contains_range(block.range()));
                    model.take(block);
                }
                Err(_) => assert!(!model.has_free(order, limits)),
            }
        }
        Step::At(first, count) => {
            let possible = (first..first + count).all(|frame| model.free.contains(&frame));
            let result = buddy.allocate_at(frames(first, count), OWNER, KIND);
            assert_eq!(result.is_ok(), possible);
            for block in result.into_iter().flatten() {
                model.take(block);
            }
        }
        Step::Free(which) if !model.allocated.is_empty() => {
            let which = which.index(model.allocated.len());
            buddy.free(model.allocated[which]).unwrap();
            model.give_back(which);
        }
        Step::Split(which, order) if !model.allocated.is_empty() => {
            let which = which.index(model.allocated.len());
            let whole = model.allocated[which];
            assert_eq!(buddy.split(whole, order).is_ok(), order <= whole.order());
            if order <= whole.order() {
                model.allocated.swap_remove(which);
                let parts = frame_numbers(whole).step_by(1 << order);
                model
                    .allocated
                    .extend(parts.map(|first| block(first, order)));
            }
        }
        Step::Free(_) | Step::Split(..) => {}
        Step::FreeAnything(first, order) => {
            let guess = block(first & !((1 << order) - 1), order);
            let known = model.allocated.iter().position(|taken| *taken == guess);
            assert_eq!(buddy.free(guess).is_ok(), known.is_some());
            if let Some(which) = known {
                model.give_back(which);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// No block is handed out twice or from a frame that was not handed over, an allocation fails
    /// only if no block is free, and all that is freed joins to what was there at the start.
    #[test]
    fn the_allocator_does_what_a_set_of_frames_does(
        banks in any_banks(),
        ranges in any_ranges(),
        steps in prop::collection::vec(any_step(), 0..120),
    ) {
        let ram = Ram::new(&banks);
        let table = ram.table();
        let mut buddy = Buddy::new(&table);
        for range in &ranges {
            buddy.add(*range).unwrap();
        }
        let banks: Vec<_> = banks.iter().map(|(first, count)| frames(*first, *count)).collect();
        let given = |frame: &u64| {
            let page = frames(*frame, 1);
            banks.iter().any(|bank| bank.overlaps(page))
                && ranges.iter().any(|range| range.overlaps(page))
        };
        let mut model = Model {
            free: (0..END).filter(given).collect(),
            banks: banks.clone(),
            allocated: Vec::new(),
        };
        let start = buddy.free_blocks();
        prop_assert_eq!(buddy.total_frames(), model.free.len() as u64);

        for step in steps {
            carry_out(step, &mut buddy, &mut model);
            prop_assert_eq!(buddy.free_set(), model.free.clone());
        }
        for block in core::mem::take(&mut model.allocated) {
            buddy.free(block).unwrap();
        }
        prop_assert_eq!(buddy.free_blocks(), start);
    }
}
