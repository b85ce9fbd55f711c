//! Ranges of bus addresses to give away.

use alloc::vec::Vec;

use crate::bridge::Space;

/// Addresses from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Span {
    pub first: u64,
    pub last: u64,
}

/// Something that needs addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// What kind.
    pub space: Space,
    /// The highest address that it can have.
    pub limit: u64,
    /// Bytes, at least one.
    pub size: u64,
    /// A power of two.
    pub align: u64,
}

/// Addresses that a bridge forwards to a bus, and which of them nobody has.
#[derive(Clone, Debug)]
pub(super) struct Area {
    pub space: Space,
    /// It can be beyond 32 bits: what cannot is not put here.
    pub wide: bool,
    whole: Span,
    /// In order, and apart from each other.
    free: Vec<Span>,
}

/// The highest address of 32 bits.
pub(super) const LIMIT_32: u64 = u32::MAX as u64;

impl Span {
    /// `size` addresses from `first` on; `None` for none or more than 64 bits have.
    pub fn new(first: u64, size: u64) -> Option<Self> {
        let last = first.checked_add(size.checked_sub(1)?)?;
        Some(Self { first, last })
    }

    /// From `first` to `last`; `None` for none.
    pub fn between(first: u64, last: u64) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    pub fn contains(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }
}

impl Area {
    pub fn new(space: Space, wide: bool, span: Span) -> Self {
        Self {
            space,
            wide,
            whole: span,
            free: alloc::vec![span],
        }
    }

    /// Takes these addresses; false if somebody has some of them, or they are not here.
    pub fn take(&mut self, span: Span) -> bool {
        let Some(place) = self.free.iter().position(|free| free.contains(span)) else {
            return false;
        };
        let free = self.free.remove(place);
        let above = span
            .last
            .checked_add(1)
            .and_then(|first| Span::between(first, free.last));
        let below = span
            .first
            .checked_sub(1)
            .and_then(|last| Span::between(free.first, last));
        for rest in [above, below].into_iter().flatten() {
            self.free.insert(place, rest);
        }
        true
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, span: Span) {
        let place = self.free.partition_point(|free| free.last < span.first);
        self.free.insert(place, span);
        self.join(place);
        if let Some(before) = place.checked_sub(1) {
            self.join(before);
        }
    }

    /// Makes one of the free addresses at `place` and those after them, if nothing is between.
    fn join(&mut self, place: usize) {
        if let Some(&[low, high]) = self.free.get(place..place.saturating_add(2))
            && low.last.checked_add(1) == Some(high.first)
        {
            self.free.remove(place + 1);
            if let Some(free) = self.free.get_mut(place) {
                free.last = high.last;
            }
        }
    }

    /// Whether all of these addresses are the area's, taken or not.
    pub fn covers(&self, span: Span) -> bool {
        self.whole.contains(span)
    }

    /// Whether nothing was taken of an area of these addresses.
    pub fn is_whole(&self, span: Span) -> bool {
        self.free == [span]
    }

    /// Whether what can be put here is of the request's kind.
    pub fn suits(&self, space: Space) -> bool {
        match (self.space, space) {
            (Space::Io, Space::Io) => true,
            (
                Space::Memory { prefetchable },
                Space::Memory {
                    prefetchable: wanted,
                },
            ) => wanted || !prefetchable,
            _ => false,
        }
    }

    fn accepts(&self, request: Request) -> bool {
        self.suits(request.space) && (!self.wide || request.limit > LIMIT_32)
    }

    /// The lowest addresses for the request.
    fn allocate(&mut self, request: Request) -> Option<Span> {
        let span = self.free.iter().find_map(|free| request.fit(*free))?;
        self.take(span).then_some(span)
    }
}

impl Request {
    /// The lowest place in `free`.
    fn fit(self, free: Span) -> Option<Span> {
        let first = free.first.checked_next_multiple_of(self.align)?;
        let span = Span::new(first, self.size)?;
        (free.contains(span) && span.last <= self.limit).then_some(span)
    }
}

/// Addresses for the request from the area that suits it best and has some.
pub(super) fn allocate(areas: &mut [Area], request: Request) -> Option<Span> {
    let mut best: Vec<&mut Area> = areas
        .iter_mut()
        .filter(|area| area.accepts(request))
        .collect();
    let wide = request.limit > LIMIT_32;
    best.sort_by_key(|area| (area.space != request.space, area.wide != wide));
    best.into_iter().find_map(|area| area.allocate(request))
}

/// Size and alignment of a window that holds all requests, if they are made in this order.
pub(super) fn measure(
    requests: impl Iterator<Item = Request>,
    granularity: u64,
) -> Option<(u64, u64)> {
    let mut end = 0_u64;
    let mut align = granularity;
    for request in requests {
        // First fit places each as low as this, or lower.
        let start = end.checked_next_multiple_of(request.align)?;
        end = start.checked_add(request.size)?;
        align = align.max(request.align);
    }
    let size = end.checked_next_multiple_of(granularity)?;
    (size != 0).then_some((size, align))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEMORY: Space = Space::Memory {
        prefetchable: false,
    };

    fn request() -> impl Strategy<Value = Request> {
        (0..8_u32, 1..300_u64).prop_map(|(align, size)| Request {
            space: MEMORY,
            limit: u64::MAX,
            size,
            align: 1 << align,
        })
    }

    proptest! {
        #[test]
        fn what_is_given_away_is_apart_and_aligned(
            requests in proptest::collection::vec(request(), 0..20),
            taken in proptest::collection::vec((0..4096_u64, 1..200_u64), 0..6),
        ) {
            let whole = Span { first: 0x100, last: 0xfff };
            let mut area = Area::new(MEMORY, false, whole);
            let mut given: Vec<Span> = Vec::new();
            for (first, size) in taken {
                let span = Span::new(first, size).unwrap();
                let apart = given.iter().all(|other| other.last < span.first || span.last < other.first);
                prop_assert_eq!(area.take(span), whole.contains(span) && apart);
                if whole.contains(span) && apart {
                    given.push(span);
                }
            }
            for request in requests {
                let Some(span) = area.allocate(request) else { continue };
                prop_assert!(whole.contains(span) && span.first % request.align == 0);
                prop_assert!(given.iter().all(|other| other.last < span.first || span.last < other.first));
                given.push(span);
            }
        }

        #[test]
        fn what_is_given_back_is_as_before(
            taken in proptest::collection::vec((0..4096_u64, 1..200_u64), 0..12),
        ) {
            let whole = Span { first: 0, last: 0xfff };
            let mut area = Area::new(MEMORY, false, whole);
            let spans = taken.into_iter().filter_map(|(first, size)| Span::new(first, size));
            let taken: Vec<_> = spans.filter(|span| area.take(*span)).collect();
            prop_assert_eq!(area.is_whole(whole), taken.is_empty());
            taken.iter().for_each(|span| area.give_back(*span));
            prop_assert!(area.is_whole(whole));
        }

        #[test]
        fn what_was_measured_fits(requests in proptest::collection::vec(request(), 1..20), base in 1..64_u64) {
            let (size, align) = measure(requests.iter().copied(), 16).unwrap();
            let span = Span::new(base * align, size).unwrap();
            let mut areas = [Area::new(MEMORY, false, span)];
            for request in requests {
                prop_assert!(allocate(&mut areas, request).is_some());
            }
        }
    }
}
