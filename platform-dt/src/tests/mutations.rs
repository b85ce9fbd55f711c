//! Spoiled device trees: whatever the bytes are, reading them ends in a value or in one line.

use std::string::ToString;
use std::vec::Vec;
use std::{env, eprintln, thread};

use dtoolkit::error::FdtErrorKind;
use xen_types::{Hpa, HpaRange};

use super::fixtures;
use crate::{BootInfo, ConsoleChoice, Dtb, Host, HostTree, TreeError};

/// How many mutants are made, unless the environment says otherwise.
const DEFAULT_COUNT: u64 = 12_000;
const COUNT: &str = "XEN_RS_DTB_MUTANTS";
/// The stack on which everything must be read that is read without a heap. A build that is not
/// optimised keeps each value that is moved in both places, and gets twice as much.
const SMALL_STACK: usize = if cfg!(debug_assertions) { 128 } else { 64 } << 10;

fn count() -> u64 {
    match env::var(COUNT) {
        Ok(count) => count.parse().unwrap(),
        Err(_) => DEFAULT_COUNT,
    }
}

#[test]
fn validation_needs_little_stack() {
    let corpus = Mutator::new();
    let mutants: Vec<_> = (0..1000).map(|seed| corpus.mutant(seed)).collect();
    let validate = move || {
        mutants
            .iter()
            .filter(|blob| Dtb::parse(blob).is_ok())
            .count()
    };
    let thread = thread::Builder::new().stack_size(SMALL_STACK / 4);
    assert!(thread.spawn(validate).unwrap().join().unwrap() > 0);
}

#[test]
fn mutants_end_in_one_line_without_a_heap() {
    let corpus = Mutator::new();
    let stage_1 = move || {
        let accepted = (0..count())
            .filter(|&seed| read_without_heap(&corpus.mutant(seed)))
            .count();
        eprintln!("{accepted} of {} mutants passed validation", count());
        assert!(accepted > 0);
    };
    let thread = thread::Builder::new().stack_size(SMALL_STACK);
    thread.spawn(stage_1).unwrap().join().unwrap();
}

#[test]
fn mutants_end_in_one_line_with_a_heap() {
    let corpus = Mutator::new();
    let outcomes = (0..count()).filter_map(|seed| read_with_heap(&corpus.mutant(seed)));
    let (inventoried, refused): (Vec<bool>, Vec<bool>) = outcomes.partition(|&read| read);
    eprintln!(
        "{} mutants inventoried, {} refused after validation",
        inventoried.len(),
        refused.len()
    );
    assert!(!inventoried.is_empty() && !refused.is_empty());
}

/// Whether the blob is a valid tree; its contents are read in every case where it is.
fn read_without_heap(blob: &[u8]) -> bool {
    let _ = on_one_line(Dtb::total_size(blob));
    let Some(dtb) = on_one_line(Dtb::parse(blob)) else {
        return false;
    };
    let _ = on_one_line(dtb.console(ConsoleChoice::StdoutPath));
    let _ = on_one_line(dtb.console(ConsoleChoice::Named("serial0:115200")));
    let own = HpaRange::new(Hpa::new(0x4020_0000), 0x10_0000).unwrap();
    let boot_info = BootInfo::read(&dtb, &[("the hypervisor image", own)]);
    is_one_line(boot_info.as_ref().err());
    for node in dtb.nodes() {
        let _ = on_one_line(node.registers(0));
        let _ = node.interrupt(1);
    }
    true
}

/// Whether the host could be inventoried; `None` where the blob is no valid tree.
fn read_with_heap(blob: &[u8]) -> Option<bool> {
    let dtb = Dtb::parse(blob).ok()?;
    let tree = on_one_line(HostTree::reencode(&dtb))?;
    assert_eq!(HostTree::reencode(&tree.dtb()).unwrap().blob(), tree.blob());
    is_accepted_by_dtoolkit(tree.blob());
    walk_with_fdt(&tree.fdt());
    Some(on_one_line(Host::read(&tree)).is_some())
}

/// The value, if there is one. An error must be one line.
fn on_one_line<T>(result: Result<T, TreeError>) -> Option<T> {
    is_one_line(result.as_ref().err());
    result.ok()
}

fn is_one_line(error: Option<&TreeError>) {
    if let Some(error) = error {
        let line = error.to_string();
        assert!(
            !line.is_empty() && !line.contains(char::is_control),
            "{line:?}"
        );
    }
}

/// What was written anew is valid for dtoolkit as well, but for names that only the letter of the
/// specification forbids.
fn is_accepted_by_dtoolkit(blob: &[u8]) {
    if let Err(error) = dtoolkit::fdt::Fdt::new(blob) {
        let names = [
            FdtErrorKind::InvalidNodeName,
            FdtErrorKind::InvalidPropertyName,
        ];
        assert!(names.contains(&error.kind), "{error}");
    }
}

/// Uses what the documentation of [`HostTree`] says is safe to use.
fn walk_with_fdt(tree: &fdt::Fdt<'_>) {
    for node in tree.all_nodes() {
        for property in node.properties() {
            let _ = (property.as_str(), property.as_usize());
        }
        let _ = node.children().count();
        let _ = node.compatible().map(|list| list.all().count());
        let _ = node.reg().map(Iterator::count);
        let _ = node.interrupts().map(Iterator::count);
        let _ = node.interrupt_parent();
    }
    let _ = tree.find_compatible(&["arm,armv8-timer"]);
    let _ = tree.find_node("/cpus");
    let _ = tree.find_phandle(1);
    let _ = tree.memory_reservations().count();
}

/// Spoils the fixtures, each seed in its own way.
struct Mutator {
    blobs: Vec<Vec<u8>>,
}

impl Mutator {
    fn new() -> Self {
        let blobs = fixtures::all()
            .iter()
            .map(|(_, tree)| tree.blob())
            .collect();
        Self { blobs }
    }

    fn mutant(&self, seed: u64) -> Vec<u8> {
        let mut random = Random(seed);
        let mut blob = self.blobs[random.below(self.blobs.len())].clone();
        for _ in 0..=random.below(4) {
            spoil(&mut blob, &mut random);
        }
        blob
    }
}

/// Bytes of a word, the unit of a token or a cell.
const WORD: usize = 4;
/// Bytes of the header.
const HEADER: usize = 40;
/// Words that mean something: tokens, counts of cells, ends of ranges.
const WORDS: &[u32] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    9,
    16,
    17,
    32,
    0x1000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffc,
    0xffff_ffff,
    0xd00d_feed,
];

fn spoil(blob: &mut Vec<u8>, random: &mut Random) {
    if blob.len() <= HEADER {
        return;
    }
    let words = blob.len() / WORD;
    let (byte, index) = (random.below(blob.len()), random.below(words));
    match random.below(16) {
        0..=3 => blob[byte] ^= 1 << random.below(8),
        4..=6 => blob[byte] = random.next() as u8,
        7..=9 => set_word(blob, index, random.word()),
        10 => set_word(blob, random.below(HEADER / WORD), random.word()),
        11 => {
            // A header's word that is nearly right.
            let index = random.below(HEADER / WORD);
            let near = word(blob, index)
                .wrapping_add(random.below(65) as u32)
                .wrapping_sub(32);
            set_word(blob, index, near);
        }
        12 => blob.truncate(HEADER + random.below(blob.len() - HEADER)),
        13 | 14 => {
            let other = random.below(words);
            let (first, second) = (word(blob, index), word(blob, other));
            set_word(blob, index, second);
            set_word(blob, other, first);
        }
        _ => {
            // A run of words again in another place: nodes in nodes, properties twice.
            let length = 1 + random.below(16);
            let (from, to) = (index, random.below(words));
            for offset in 0..length.min(words - from.max(to)) {
                let value = word(blob, from + offset);
                set_word(blob, to + offset, value);
            }
        }
    }
}

fn word(blob: &[u8], index: usize) -> u32 {
    u32::from_be_bytes(*blob[index * WORD..].first_chunk().unwrap())
}

fn set_word(blob: &mut [u8], index: usize, value: u32) {
    blob[index * WORD..][..WORD].copy_from_slice(&value.to_be_bytes());
}

/// The generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A word that means something, or any.
    fn word(&mut self) -> u32 {
        match self.below(WORDS.len() + 4) {
            index if index < WORDS.len() => WORDS[index],
            _ => self.next() as u32,
        }
    }
}
