//! Commands (IHI 0070, chapter 4): 16 bytes each.

use xen_types::{Gpa, GpaRange, PAGE_SHIFT, PAGE_SIZE};

use crate::{StreamId, Vmid};

const CFGI_STE: u64 = 0x03;
const CFGI_ALL: u64 = 0x04;
const TLBI_EL2_ALL: u64 = 0x20;
const TLBI_S12_VMALL: u64 = 0x28;
const TLBI_S2_IPA: u64 = 0x2a;
const TLBI_NSNH_ALL: u64 = 0x30;
const RESUME: u64 = 0x44;
const SYNC: u64 = 0x46;

/// `Range` of CMD_CFGI_STE_RANGE that makes it CMD_CFGI_ALL: all stream ids (4.3.2).
const ALL_STREAMS: u64 = 31;
/// `TG` for 4 KiB: `NUM`, `SCALE` and `TTL` count (4.4.1).
const GRANULE_4K: u64 = 0b01 << 10;
/// `Resp` of CMD_RESUME: the transaction is aborted (4.6.1).
const RESUME_ABORT: u64 = 0b10 << 12;

/// Pages up to which they are invalidated one by one where there are no ranges; more, and all of the
/// domain is. A quarter of the queue.
const ONE_BY_ONE: u64 = 64;

/// A command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// Forget what is remembered of a stream's entry, and of the descriptor that leads to it
    /// (4.3.1; `Leaf` is 0).
    ForgetStream(StreamId),
    /// Forget all configuration (4.3.2).
    ForgetStreams,
    /// Forget all translations of EL2; illegal where there are none (4.4.3).
    ForgetHypervisor,
    /// Forget all translations of guests (4.4.5).
    ForgetGuests,
    /// Forget all translations of a domain (4.4.2).
    ForgetDomain(Vmid),
    /// Forget those of a page, and what is remembered of the tables on the way (4.4.2; `Leaf` is 0).
    ForgetPage(Vmid, Gpa),
    /// The same for as many pages from there (4.4.1.1), which must be 2 or more.
    ForgetPages(Vmid, Gpa, Pages),
    /// End a stalled transaction of a stream, known by its tag (4.6.1).
    EndStalled(StreamId, u16),
    /// Wait for all commands before (4.6.3). `CS` is 0: the consumer index alone says so.
    Sync,
}

/// A number of pages that one command can say: 1 to 32 times a power of two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pages {
    /// `NUM`: one less than the factor.
    num: u64,
    /// `SCALE`: the exponent, up to 31.
    scale: u32,
}

impl Pages {
    /// The largest such number that makes the rest of `pages`, at least 1, rounder.
    fn largest_part(pages: u64) -> Self {
        let scale = pages.trailing_zeros().min(31);
        let factor = match pages >> scale & 0x1f {
            0 => 32,
            factor => factor,
        };
        Self {
            num: factor - 1,
            scale,
        }
    }

    const fn count(self) -> u64 {
        (self.num + 1) << self.scale
    }
}

impl Command {
    /// The command as the SMMU reads it.
    pub fn encode(self) -> [u64; 2] {
        let stream = |stream: StreamId| u64::from(stream.get()) << 32;
        let domain = |vmid: Vmid| u64::from(vmid.get()) << 32;
        match self {
            Self::ForgetStream(id) => [CFGI_STE | stream(id), 0],
            Self::ForgetStreams => [CFGI_ALL, ALL_STREAMS],
            Self::ForgetHypervisor => [TLBI_EL2_ALL, 0],
            Self::ForgetGuests => [TLBI_NSNH_ALL, 0],
            Self::ForgetDomain(vmid) => [TLBI_S12_VMALL | domain(vmid), 0],
            Self::ForgetPage(vmid, page) => [TLBI_S2_IPA | domain(vmid), page.get()],
            Self::ForgetPages(vmid, first, Pages { num, scale }) => [
                TLBI_S2_IPA | domain(vmid) | num << 12 | u64::from(scale) << 20,
                first.get() | GRANULE_4K,
            ],
            Self::EndStalled(id, tag) => [RESUME | RESUME_ABORT | stream(id), tag.into()],
            Self::Sync => [SYNC, 0],
        }
    }

    /// The code of a command in a queue.
    pub const fn opcode(first: u64) -> u8 {
        first as u8
    }
}

/// The commands that make an SMMU, with ranges or without, forget a range of a domain.
pub fn forget(vmid: Vmid, range: GpaRange, ranges: bool) -> impl Iterator<Item = Command> {
    let start = range.start().get() & !(PAGE_SIZE - 1);
    let mut left = (range.end().get() - start).div_ceil(PAGE_SIZE);
    let mut next = Some(start);
    let all = !ranges && left > ONE_BY_ONE;
    core::iter::from_fn(move || {
        let at = Gpa::new(next.filter(|_| left != 0)?);
        if all {
            left = 0;
            return Some(Command::ForgetDomain(vmid));
        }
        let part = if ranges {
            Pages::largest_part(left)
        } else {
            Pages::largest_part(1)
        };
        left -= part.count();
        next = at.get().checked_add(part.count() << PAGE_SHIFT);
        // Of one page, with this granule, a range would be reserved (4.4.1.1).
        Some(match part.count() {
            1 => Command::ForgetPage(vmid, at),
            _ => Command::ForgetPages(vmid, at, part),
        })
    })
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const VMID: Vmid = Vmid::new(0x5a);

    fn range(page: u64, pages: u64) -> GpaRange {
        GpaRange::new(Gpa::new(page << 12), pages << 12).unwrap()
    }

    #[test]
    fn commands_are_spelled_as_the_book_says() {
        let page = Gpa::new(0x12_3456_7000);
        let pages = Pages { num: 4, scale: 9 };
        for (command, words) in [
            (
                Command::ForgetStream(StreamId::new(0x1234)),
                [0x1234_0000_0003, 0],
            ),
            (Command::ForgetStreams, [0x04, 31]),
            (Command::ForgetHypervisor, [0x20, 0]),
            (Command::ForgetGuests, [0x30, 0]),
            (Command::ForgetDomain(VMID), [0x5a_0000_0028, 0]),
            (
                Command::ForgetPage(VMID, page),
                [0x5a_0000_002a, 0x12_3456_7000],
            ),
            (
                Command::ForgetPages(VMID, page, pages),
                [0x5a_0090_402a, 0x12_3456_7400],
            ),
            (
                Command::EndStalled(StreamId::new(7), 0xabcd),
                [0x7_0000_2044, 0xabcd],
            ),
            (Command::Sync, [0x46, 0]),
        ] {
            assert_eq!(command.encode(), words, "{command:?}");
        }
    }

    #[test]
    fn without_ranges_many_pages_are_all_pages() {
        let count = |pages| forget(VMID, range(3, pages), false).count();
        assert_eq!([1, 2, 64, 65].map(count), [1, 2, 64, 1]);
        assert_eq!(
            forget(VMID, range(3, 65), false).collect::<Vec<_>>(),
            vec![Command::ForgetDomain(VMID)]
        );
    }

    #[test]
    fn a_gibibyte_is_one_command() {
        let all: Vec<_> = forget(VMID, range(0, 1 << 18), true).collect();
        assert_eq!(all.len(), 1);
        // And the whole of 48 bits few.
        assert!(forget(VMID, range(0, 1 << 36), true).count() <= 2);
    }

    proptest! {
        #[test]
        fn parts_cover_the_range_exactly(start in 0_u64..1 << 36, pages in 1_u64..1 << 36, ranges: bool) {
            let pages = if ranges { pages } else { pages % 64 + 1 };
            let mut next = start;
            let mut commands = 0;
            for command in forget(VMID, range(start, pages), ranges) {
                let (at, count) = match command {
                    Command::ForgetPage(_, at) => (at, 1),
                    Command::ForgetPages(_, at, pages) => (at, pages.count()),
                    other => panic!("{other:?}"),
                };
                prop_assert_eq!(at.frame().get(), next);
                next += count;
                commands += 1;
            }
            prop_assert_eq!(next, start + pages);
            prop_assert!(!ranges || commands <= 8);
        }
    }
}
