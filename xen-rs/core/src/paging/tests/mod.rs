extern crate std;

mod machine;

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;
use xen_types::PAGE_SIZE;

use self::machine::{Machine, Seen};
use super::stage1::{Attributes, Stage1};
use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const XN: u64 = 1 << 54;

type Tree = PageTable<Stage1>;
type Operation = fn(&mut Machine, &mut Tree) -> Result<(), MapError>;

fn new_tree() -> (Machine, Tree) {
    let mut machine = Machine::new();
    let tree = Tree::new(&mut machine).unwrap();
    machine.watch_tree(tree.root());
    (machine, tree)
}

fn identity(tree: &mut Tree, machine: &mut Machine, start: u64, size: u64, a: Attributes) {
    tree.map(machine, start, Hpa::new(start), size, a).unwrap();
}

#[test]
fn descriptors_have_the_bytes_that_the_architecture_says() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0x4000_0000, GIB, Attributes::Data);
    identity(
        &mut tree,
        &mut machine,
        0x8020_0000,
        2 * MIB,
        Attributes::Code,
    );
    identity(
        &mut tree,
        &mut machine,
        0x0900_0000,
        PAGE_SIZE,
        Attributes::Device,
    );

    let root = tree.root();
    let level1 = Mfn::new(root.get() + 1);
    assert_eq!(machine.read(root, 0), 0x1_0000_1003);
    assert_eq!(machine.read(level1, 1), 0x0040_0000_4000_074d);
    let level2 = Mfn::new(root.get() + 2);
    assert_eq!(machine.read(level1, 2), 0x1_0000_2003);
    assert_eq!(machine.read(level2, 1), 0x8020_07cd);
    let (low2, low3) = (Mfn::new(root.get() + 3), Mfn::new(root.get() + 4));
    assert_eq!(machine.read(level1, 0), 0x1_0000_3003);
    assert_eq!(machine.read(low2, 0x48), 0x1_0000_4003);
    assert_eq!(machine.read(low3, 0), 0x0040_0000_0900_0747);
    assert_eq!(machine.tables(), 5);
}

#[test]
fn blocks_are_as_large_as_both_addresses_allow() {
    for (input, output, size, levels) in [
        (GIB, GIB, GIB, &[1][..]),
        (GIB, 2 * MIB, GIB, &[2; 512]),
        (0, 0, 2 * GIB + 2 * MIB + PAGE_SIZE, &[1, 1, 2, 3]),
        (2 * MIB, 4 * MIB, 2 * MIB, &[2]),
        (2 * MIB, PAGE_SIZE, 2 * MIB, &[3; 512]),
        (
            2 * MIB - PAGE_SIZE,
            2 * MIB - PAGE_SIZE,
            2 * MIB + 2 * PAGE_SIZE,
            &[3, 2, 3],
        ),
        (512 * GIB, 0, GIB, &[1]),
    ] {
        let (mut machine, mut tree) = new_tree();
        tree.map(
            &mut machine,
            input,
            Hpa::new(output),
            size,
            Attributes::Data,
        )
        .unwrap();
        let mut found = Vec::new();
        let mut next = input;
        while next < input + size {
            let translation = tree.lookup(&machine, next).unwrap();
            assert_eq!(translation.output.get(), output + (next - input));
            assert_eq!(translation.attributes, Attributes::Data);
            found.push(translation.level);
            next += geometry::span(translation.level);
        }
        assert_eq!(found, levels, "{input:#x} to {output:#x}, {size:#x}");
        assert_eq!(tree.lookup(&machine, input + size), None);
        assert_eq!(tree.lookup(&machine, input.wrapping_sub(1)), None);
    }
}

#[test]
fn the_whole_space_is_mapped_by_513_tables() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, LIMIT, Attributes::Data);
    assert_eq!(machine.tables(), 513);
    let last = tree.lookup(&machine, LIMIT - 1).unwrap();
    assert_eq!((last.output.get(), last.level), (LIMIT - 1, 1));
    assert_eq!(tree.lookup(&machine, LIMIT), None);
    assert_eq!(tree.lookup(&machine, u64::MAX), None);
}

#[test]
fn a_conflict_changes_nothing_and_names_the_address() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, GIB, GIB, Attributes::Data);
    identity(
        &mut tree,
        &mut machine,
        0x5000,
        PAGE_SIZE,
        Attributes::Constant,
    );
    let before = machine.contents();
    let mut map = |input, output, size, attributes| {
        tree.map(&mut machine, input, Hpa::new(output), size, attributes)
    };
    let conflict = |at| Err(MapError::Conflict(at));
    assert_eq!(map(0, 0, 2 * GIB, Attributes::Data), conflict(0x5000));
    assert_eq!(
        map(0x6000, 0x6000, GIB, Attributes::Constant),
        conflict(GIB)
    );
    assert_eq!(
        map(0x5000, 0x6000, PAGE_SIZE, Attributes::Constant),
        conflict(0x5000)
    );
    let inside = GIB + 3 * PAGE_SIZE;
    assert_eq!(
        map(inside, inside, PAGE_SIZE, Attributes::Code),
        conflict(inside)
    );
    // The same once more is none.
    assert_eq!(map(inside, inside, PAGE_SIZE, Attributes::Data), Ok(()));
    assert_eq!(map(0x5000, 0x5000, PAGE_SIZE, Attributes::Constant), Ok(()));
    assert_eq!(machine.contents(), before);
}

#[test]
fn what_is_no_range_of_pages_is_refused() {
    let (mut machine, mut tree) = new_tree();
    for (input, output, size) in [
        (1, 0, PAGE_SIZE),
        (0, 1, PAGE_SIZE),
        (0, 0, 0),
        (0, 0, 1),
        (LIMIT, 0, PAGE_SIZE),
        (0, LIMIT, PAGE_SIZE),
        (0, PAGE_SIZE, LIMIT),
        (!0xfff, 0, PAGE_SIZE),
        (0, !0xfff, PAGE_SIZE),
    ] {
        let result = tree.map(
            &mut machine,
            input,
            Hpa::new(output),
            size,
            Attributes::Data,
        );
        assert!(matches!(result, Err(MapError::BadRange(..))), "{result:?}");
    }
    assert!(tree.unmap(&mut machine, 0, 1).is_err());
    assert!(tree.protect(&mut machine, 0, 1, Attributes::Data).is_err());
    assert_eq!(machine.tables(), 1);
}

#[test]
fn a_block_is_broken_before_its_parts_are_made() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, 2 * MIB, Attributes::Data);
    let level2 = Mfn::new(tree.root().get() + 2);
    let parts = Mfn::new(tree.root().get() + 3);
    machine.forget_log();
    tree.unmap(&mut machine, 0x3000, PAGE_SIZE).unwrap();

    let log = machine.log();
    let (making, linking) = log.split_at(512);
    for (index, seen) in making.iter().enumerate() {
        let page = XN | (index as u64 * PAGE_SIZE) | 0x74f;
        assert_eq!(*seen, Seen::Write(parts, index, page));
    }
    assert_eq!(
        linking,
        [
            Seen::Write(level2, 0, 0),
            Seen::Invalidate(0x3000),
            Seen::Write(level2, 0, 0x1_0000_3003),
            Seen::Write(parts, 3, 0),
            Seen::Invalidate(0x3000),
        ]
    );
}

#[test]
fn permissions_change_in_place_and_memory_types_do_not() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, 2 * MIB, Attributes::Data);
    let level2 = Mfn::new(tree.root().get() + 2);
    machine.forget_log();
    tree.protect(&mut machine, 0, 2 * MIB, Attributes::Code)
        .unwrap();
    tree.protect(&mut machine, 0, 2 * MIB, Attributes::Code)
        .unwrap();
    assert_eq!(
        machine.log(),
        [Seen::Write(level2, 0, 0x7cd), Seen::Invalidate(0)]
    );
    machine.forget_log();
    tree.protect(&mut machine, 0, 2 * MIB, Attributes::Uncached)
        .unwrap();
    assert_eq!(
        machine.log(),
        [
            Seen::Write(level2, 0, 0),
            Seen::Invalidate(0),
            Seen::Write(level2, 0, XN | 0x749),
        ]
    );
}

#[test]
fn protection_of_what_is_not_mapped_changes_nothing() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, 2 * MIB, Attributes::Data);
    let before = machine.contents();
    let result = tree.protect(&mut machine, 0x1000, 2 * MIB, Attributes::Code);
    assert_eq!(result, Err(MapError::NotMapped(2 * MIB)));
    assert_eq!(machine.contents(), before);
}

#[test]
fn tables_go_when_they_are_empty() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0x1000, GIB, Attributes::Data);
    assert!(machine.tables() > 4);
    tree.unmap(&mut machine, 0x1000, GIB - 0x1000).unwrap();
    assert_eq!(machine.tables(), 4);
    tree.unmap(&mut machine, 0, LIMIT).unwrap();
    assert_eq!(machine.tables(), 1);
    // And a block fits where pages were.
    identity(&mut tree, &mut machine, 0, GIB, Attributes::Data);
    assert_eq!(tree.lookup(&machine, 0).unwrap().level, 1);
}

/// Nothing that may still be reached is called unreachable: tables are not freed, and a page is not
/// replaced.
#[test]
fn what_is_remembered_is_not_freed() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, 2 * MIB, Attributes::Data);
    identity(&mut tree, &mut machine, GIB, PAGE_SIZE, Attributes::Data);
    let tables = machine.tables();
    machine.stop_forgetting();
    let remembered = |input| Err(MapError::Remembered(input));
    let unmapped = tree.unmap(&mut machine, GIB, PAGE_SIZE);
    assert_eq!(unmapped, remembered(GIB));
    assert_eq!(tree.lookup(&machine, GIB), None);
    assert_eq!(machine.tables(), tables);
    let protected = tree.protect(&mut machine, 0, 2 * MIB, Attributes::Constant);
    assert_eq!(protected, remembered(0));
    let replaced = tree.replace(&mut machine, 0x1000, Hpa::new(0x5000), Attributes::Data);
    assert_eq!(replaced, remembered(0x1000));
    assert_eq!(tree.lookup(&machine, 0x1000), None);
    assert!(tree.lookup(&machine, 0x2000).is_some());
    let tables = machine.tables();
    assert_eq!(tree.dismantle(&mut machine), Err(Remembered));
    assert_eq!(machine.tables(), tables);
}

/// What nothing walks any more is forgotten at once, whatever it maps.
#[test]
fn a_tree_is_dismantled_with_one_removal() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, 0, GIB + 2 * MIB, Attributes::Data);
    identity(
        &mut tree,
        &mut machine,
        5 * GIB,
        3 * PAGE_SIZE,
        Attributes::Data,
    );
    machine.forget_log();
    assert_eq!(tree.dismantle(&mut machine), Ok(()));
    assert_eq!(machine.tables(), 0);
    assert_eq!(machine.log(), []);
}

/// With no table left at any point of an operation, nothing is mapped in another way than before.
#[test]
fn running_out_of_tables_leaves_everything_as_it_was() {
    let start = |machine: &mut Machine, tree: &mut Tree| {
        identity(tree, machine, GIB, GIB, Attributes::Data);
        identity(tree, machine, 0x1000, PAGE_SIZE, Attributes::Data);
    };
    let operations: [Operation; 3] = [
        |machine, tree| tree.map(machine, 0x1000, Hpa::new(0x1000), 6 * GIB, Attributes::Data),
        |machine, tree| tree.unmap(machine, GIB + 0x1000, GIB - 0x4000_0000 / 4),
        |machine, tree| tree.protect(machine, GIB + 0x5000, 4 * MIB, Attributes::Constant),
    ];
    for operation in operations {
        let mut refusals = 0;
        for budget in 0.. {
            let (mut machine, mut tree) = new_tree();
            start(&mut machine, &mut tree);
            let addresses = [
                0,
                0x1000,
                0x2000,
                GIB,
                GIB + 0x5000,
                2 * GIB - 1,
                2 * GIB,
                6 * GIB,
            ];
            let look = |machine: &Machine, tree: &Tree| {
                addresses.map(|address| {
                    let found = tree.lookup(machine, address)?;
                    Some((found.output, found.attributes))
                })
            };
            let before = look(&machine, &tree);
            machine.limit_tables(machine.tables() + budget);
            match operation(&mut machine, &mut tree) {
                Ok(()) => break,
                Err(error) => assert_eq!(error, MapError::OutOfTables(OutOfTables)),
            }
            assert_eq!(look(&machine, &tree), before);
            refusals += 1;
        }
        assert!(refusals > 0);
    }
}

#[test]
fn a_mapping_that_fails_gives_its_tables_back() {
    let (mut machine, mut tree) = new_tree();
    identity(&mut tree, &mut machine, GIB, GIB, Attributes::Data);
    let before = machine.tables();
    machine.limit_tables(before + 2);
    // Each end takes a table of large blocks and one of pages.
    let mut map = |machine: &mut Machine| {
        tree.map(
            machine,
            PAGE_SIZE,
            Hpa::new(PAGE_SIZE),
            3 * GIB,
            Attributes::Data,
        )
    };
    let result = map(&mut machine);
    assert_eq!(result, Err(MapError::OutOfTables(OutOfTables)));
    assert_eq!(machine.tables(), before);
    machine.limit_tables(before + 4);
    assert_eq!(map(&mut machine), Ok(()));
}

/// Addresses between which the property test works: pages next to all kinds of borders.
const BORDERS: [u64; 18] = [
    0,
    PAGE_SIZE,
    3 * PAGE_SIZE,
    2 * MIB - PAGE_SIZE,
    2 * MIB,
    2 * MIB + PAGE_SIZE,
    4 * MIB,
    6 * MIB,
    GIB - 2 * MIB,
    GIB - PAGE_SIZE,
    GIB,
    GIB + PAGE_SIZE,
    GIB + 2 * MIB,
    2 * GIB,
    512 * GIB - GIB,
    512 * GIB - PAGE_SIZE,
    512 * GIB,
    513 * GIB,
];

#[derive(Clone, Copy, Debug)]
enum Step {
    Map(u64, Attributes),
    Unmap,
    Protect(Attributes),
}

fn any_step() -> impl Strategy<Value = (usize, usize, Step)> {
    let attributes = || {
        prop::sample::select(std::vec![
            Attributes::Code,
            Attributes::Constant,
            Attributes::Data,
            Attributes::Device,
        ])
    };
    let shift = prop::sample::select(std::vec![0, 0, 0, GIB, 2 * MIB, PAGE_SIZE]);
    let step = prop_oneof![
        3 => (shift, attributes()).prop_map(|(shift, attributes)| Step::Map(shift, attributes)),
        2 => Just(Step::Unmap),
        2 => attributes().prop_map(Step::Protect),
    ];
    (0..BORDERS.len() - 1, 1..5usize, step).prop_map(|(first, count, step)| {
        let end = (first + count).min(BORDERS.len() - 1);
        (first, end, step)
    })
}

/// What is mapped between a border and the next: (output minus input, attributes).
type Model = BTreeMap<usize, (u64, Attributes)>;

/// The model after a step, and whether the step succeeds.
fn expected(model: &Model, first: usize, end: usize, step: Step) -> (Model, bool) {
    let mut after = model.clone();
    for segment in first..end {
        let present = model.get(&segment).copied();
        let value = match (step, present) {
            (Step::Map(shift, attributes), None) => Some((shift, attributes)),
            (Step::Map(shift, attributes), Some(same)) if same == (shift, attributes) => Some(same),
            (Step::Map(..), Some(_)) | (Step::Protect(_), None) => return (model.clone(), false),
            (Step::Unmap, _) => None,
            (Step::Protect(attributes), Some((shift, _))) => Some((shift, attributes)),
        };
        match value {
            Some(value) => after.insert(segment, value),
            None => after.remove(&segment),
        };
    }
    (after, true)
}

/// The page descriptors' worth that the model gives the first and last page of each segment.
fn samples(model: &Model) -> Vec<(u64, Option<(u64, u64)>)> {
    let segments = BORDERS.windows(2).enumerate();
    segments
        .flat_map(|(segment, ends)| {
            let value = model.get(&segment).copied();
            [ends[0], ends[1] - PAGE_SIZE].map(|page| {
                let leads = value.map(|(shift, attributes)| (page + shift, attributes.bits()));
                (page, leads)
            })
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// After each single write each address leads where it did before the operation, where it does
    /// after it, or nowhere; no TLB could hold two translations; no table is freed that is in use.
    #[test]
    fn the_tree_does_what_a_map_of_pages_does(
        steps in prop::collection::vec(any_step(), 1..14)
    ) {
        let (mut machine, mut tree) = new_tree();
        let mut model = Model::new();
        for (first, end, step) in steps {
            let (input, size) = (BORDERS[first], BORDERS[end] - BORDERS[first]);
            // Small blocks for large ranges take too long.
            let step = match step {
                Step::Map(shift, attributes) if size > 1024 * shift => Step::Map(0, attributes),
                other => other,
            };
            let (after, succeeds) = expected(&model, first, end, step);
            machine.watch(samples(&model), samples(&after));
            let result = match step {
                Step::Map(shift, attributes) => {
                    tree.map(&mut machine, input, Hpa::new(input + shift), size, attributes)
                }
                Step::Unmap => tree.unmap(&mut machine, input, size),
                Step::Protect(attributes) => tree.protect(&mut machine, input, size, attributes),
            };
            prop_assert_eq!(result.is_ok(), succeeds, "{:?}", result);
            model = after;
            for (page, leads) in samples(&model) {
                let found = tree.lookup(&machine, page + 0x123).map(|found| {
                    (found.output.get() - 0x123, found.attributes.bits())
                });
                prop_assert_eq!(found, leads, "{:#x}", page);
            }
        }
        tree.unmap(&mut machine, 0, LIMIT).unwrap();
        prop_assert_eq!(machine.tables(), 1);
    }
}
