//! A machine that walks the tables as hardware does, at every moment, and remembers what it found:
//! a TLB and walk caches that keep everything until it is invalidated.

extern crate std;

use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use super::super::{ENTRIES, OutOfTables, Remembered, TableMemory, Unreachable};
use xen_types::Mfn;

/// Number of the first frame for tables.
const FIRST: u64 = 0x10_0000;
/// Bits in which translations of one address may differ while TLBs hold both: `XN`, `AP[2]`.
const PERMISSIONS: u64 = 1 << 54 | 1 << 7;
const OUTPUT: u64 = 0xffff_ffff_f000;

/// What was done to the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Write(Mfn, usize, u64),
    Invalidate(u64),
}

/// Where a walk ended: first output byte of the page, attribute bits, level.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Walk {
    output: u64,
    attributes: u64,
    level: u32,
}

type Sample = (u64, Option<(u64, u64)>);

pub struct Machine {
    /// Tables by frame; none once freed.
    frames: Vec<Option<[u64; ENTRIES]>>,
    limit: usize,
    /// Nothing is forgotten any more.
    remembers: bool,
    root: Option<Mfn>,
    log: Vec<Seen>,
    /// Pages to walk to, with where they may lead.
    allowed: BTreeMap<u64, [Option<(u64, u64)>; 2]>,
    /// Entries that the last walk to each page read: it ends elsewhere only if one changes.
    paths: BTreeMap<u64, Vec<(Mfn, usize)>>,
    /// What a TLB may hold for each page.
    tlb: BTreeMap<u64, BTreeSet<Walk>>,
    /// Tables, with their levels, that walks to each page came through and may still remember.
    walked: BTreeMap<u64, BTreeSet<(u32, Mfn)>>,
}

impl Machine {
    pub fn new() -> Self {
        Self {
            frames: Vec::new(),
            limit: usize::MAX,
            remembers: false,
            root: None,
            log: Vec::new(),
            allowed: BTreeMap::new(),
            paths: BTreeMap::new(),
            tlb: BTreeMap::new(),
            walked: BTreeMap::new(),
        }
    }

    pub fn watch_tree(&mut self, root: Mfn) {
        self.root = Some(root);
    }

    /// From now on each page leads where `before` or `after` says, or nowhere.
    pub fn watch(&mut self, before: Vec<Sample>, after: Vec<Sample>) {
        self.allowed = before
            .into_iter()
            .zip(after)
            .map(|((page, old), (_, new))| (page, [old, new]))
            .collect();
        self.speculate(|_, _| true);
    }

    pub fn limit_tables(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// From now on TLBs, or one of them, do not do what they are told.
    pub fn stop_forgetting(&mut self) {
        self.remembers = true;
    }

    /// Tables in use.
    pub fn tables(&self) -> usize {
        self.frames.iter().flatten().count()
    }

    pub fn contents(&self) -> Vec<Option<[u64; ENTRIES]>> {
        self.frames.clone()
    }

    pub fn log(&self) -> &[Seen] {
        &self.log
    }

    pub fn forget_log(&mut self) {
        self.log.clear();
    }

    fn table(&self, table: Mfn) -> &[u64; ENTRIES] {
        let slot = (table.get() - FIRST) as usize;
        self.frames[slot].as_ref().expect("a table that was freed")
    }

    /// A walk by the book: levels 0 to 3, 9 bits each (Arm ARM D8.2).
    fn walk(&self, page: u64) -> (Option<Walk>, Vec<(Mfn, usize)>) {
        let mut table = self.root.unwrap();
        let mut path = Vec::new();
        for level in 0..4 {
            let shift = 39 - 9 * level;
            let index = (page >> shift) as usize & 511;
            path.push((table, index));
            let descriptor = self.table(table)[index];
            match (descriptor & 3, level) {
                (3, 0..3) => table = Mfn::new((descriptor & OUTPUT) >> 12),
                (3, 3) | (1, 1..3) => {
                    let offset = page & ((1 << shift) - 1);
                    let base = descriptor & OUTPUT;
                    assert_eq!(base & ((1 << shift) - 1), 0, "misaligned block");
                    let walk = Walk {
                        output: base + offset,
                        attributes: descriptor & !OUTPUT & !3,
                        level,
                    };
                    return (Some(walk), path);
                }
                (bits, _) => {
                    assert_eq!(bits & 1, 0, "{descriptor:#x} at level {level}");
                    return (None, path);
                }
            }
        }
        unreachable!("level 3 ends a walk");
    }

    /// Walks to the pages that `changed` picks by number and path, as speculation may at any time.
    fn speculate(&mut self, changed: impl Fn(u64, &[(Mfn, usize)]) -> bool) {
        let is_picked = |page: &u64| self.paths.get(page).is_none_or(|path| changed(*page, path));
        let picked: Vec<u64> = self.allowed.keys().copied().filter(is_picked).collect();
        for page in picked {
            let (found, path) = self.walk(page);
            let tables = (0..).zip(path.iter().map(|(table, _)| *table));
            self.walked.entry(page).or_default().extend(tables);
            self.paths.insert(page, path);
            if let Some(found) = found {
                self.remember(page, found);
            }
        }
    }

    fn remember(&mut self, page: u64, found: Walk) {
        let leads = Some((found.output, found.attributes));
        let allowed = self.allowed[&page].contains(&leads);
        assert!(allowed, "{page:#x} leads to {found:x?}");
        let held = self.tlb.entry(page).or_default();
        held.insert(found);
        let what = |walk: &Walk| (walk.output, walk.attributes & !PERMISSIONS, walk.level);
        let agree = held.iter().all(|walk| what(walk) == what(&found));
        assert!(agree, "{page:#x}: a TLB may hold {held:x?}");
    }
}

impl TableMemory for Machine {
    fn allocate(&mut self) -> Result<Mfn, OutOfTables> {
        if self.tables() >= self.limit {
            return Err(OutOfTables);
        }
        self.frames.push(Some([0; ENTRIES]));
        Ok(Mfn::new(FIRST + self.frames.len() as u64 - 1))
    }

    fn free(&mut self, table: Unreachable<Mfn>) {
        let table = table.release();
        for (page, tables) in &self.walked {
            let used = tables.iter().any(|(_, walked)| *walked == table);
            assert!(!used, "walks to {page:#x} may still use {table}");
        }
        let slot = (table.get() - FIRST) as usize;
        assert!(self.frames[slot].take().is_some(), "{table} freed twice");
    }

    fn read(&self, table: Mfn, index: usize) -> u64 {
        self.table(table)[index]
    }

    fn write(&mut self, table: Mfn, index: usize, descriptor: u64) {
        self.log.push(Seen::Write(table, index, descriptor));
        let slot = (table.get() - FIRST) as usize;
        self.frames[slot].as_mut().expect("a table that was freed")[index] = descriptor;
        self.speculate(|_, path| path.contains(&(table, index)));
    }

    /// Forgets what was used to translate `address`: the page or block that holds it as it was when
    /// it was walked to, and the tables on the way to it. Speculation fetches it anew at once.
    fn invalidate(&mut self, address: u64) -> Result<(), Remembered> {
        self.log.push(Seen::Invalidate(address));
        if self.remembers {
            return Err(Remembered);
        }
        let mut forgotten = BTreeSet::new();
        for (page, held) in &mut self.tlb {
            let before = held.len();
            held.retain(|walk| {
                let shift = 39 - 9 * walk.level;
                page >> shift != address >> shift
            });
            if held.len() < before {
                forgotten.insert(*page);
            }
        }
        for (page, tables) in &mut self.walked {
            let before = tables.len();
            // What leads to a table of a level is an entry of the level above.
            tables.retain(|(level, _)| {
                let shift = 48 - 9 * level;
                page >> shift != address >> shift
            });
            if tables.len() < before {
                forgotten.insert(*page);
            }
        }
        self.speculate(|page, _| forgotten.contains(&page));
        Ok(())
    }

    /// Nothing is walked any more, so that nothing is fetched anew.
    fn retire(&mut self) -> Result<(), Remembered> {
        if self.remembers {
            return Err(Remembered);
        }
        self.root = None;
        self.allowed.clear();
        self.tlb.clear();
        self.walked.clear();
        Ok(())
    }
}
