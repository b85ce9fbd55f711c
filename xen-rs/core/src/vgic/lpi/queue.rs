//! The LPIs that each CPU must take: a list for each priority, linked through the LPIs themselves,
//! so that all that is done to them takes constant time.

use super::super::irq::PRIORITY_MASK;

/// Priorities that guests see.
const PRIORITIES: usize = 32;
/// How far a priority is from its number.
const PRIORITY_SHIFT: u32 = PRIORITY_MASK.trailing_zeros();
/// No LPI.
const NONE: u16 = u16::MAX;

/// An LPI's place in a list.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    next: u16,
    previous: u16,
}

impl Links {
    pub const NONE: Self = Self {
        next: NONE,
        previous: NONE,
    };
}

/// Where the links of LPIs are.
pub trait Linked {
    fn links(&self, lpi: u16) -> Option<Links>;
    fn links_mut(&mut self, lpi: u16) -> Option<&mut Links>;
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u16,
    last: u16,
}

/// What one CPU must take.
#[derive(Clone, Debug)]
pub struct Queue {
    /// A bit for each list that is not empty.
    occupied: u32,
    lists: [List; PRIORITIES],
}

impl Queue {
    pub const EMPTY: Self = Self {
        occupied: 0,
        lists: [List {
            first: NONE,
            last: NONE,
        }; PRIORITIES],
    };

    fn list_mut(&mut self, priority: u8) -> Option<&mut List> {
        self.lists.get_mut(usize::from(priority >> PRIORITY_SHIFT))
    }

    /// Puts an LPI that is in no queue behind those of the same priority.
    pub fn push(&mut self, entries: &mut impl Linked, lpi: u16, priority: u8) {
        self.occupied |= 1 << (priority >> PRIORITY_SHIFT);
        let Some(list) = self.list_mut(priority) else {
            return;
        };
        let previous = core::mem::replace(&mut list.last, lpi);
        match entries.links_mut(previous) {
            Some(links) => links.next = lpi,
            None => list.first = lpi,
        }
        if let Some(links) = entries.links_mut(lpi) {
            *links = Links {
                next: NONE,
                previous,
            };
        }
    }

    /// Puts an LPI that is in no queue before those of the same priority.
    pub fn push_front(&mut self, entries: &mut impl Linked, lpi: u16, priority: u8) {
        self.occupied |= 1 << (priority >> PRIORITY_SHIFT);
        let Some(list) = self.list_mut(priority) else {
            return;
        };
        let next = core::mem::replace(&mut list.first, lpi);
        match entries.links_mut(next) {
            Some(links) => links.previous = lpi,
            None => list.last = lpi,
        }
        if let Some(links) = entries.links_mut(lpi) {
            *links = Links {
                next,
                previous: NONE,
            };
        }
    }

    /// Takes an LPI out, which is in this queue with this priority.
    pub fn remove(&mut self, entries: &mut impl Linked, lpi: u16, priority: u8) {
        let (Some(Links { next, previous }), Some(list)) =
            (entries.links(lpi), self.list_mut(priority))
        else {
            return;
        };
        match entries.links_mut(previous) {
            Some(links) => links.next = next,
            None => list.first = next,
        }
        match entries.links_mut(next) {
            Some(links) => links.previous = previous,
            None => list.last = previous,
        }
        if list.first == NONE {
            self.occupied &= !(1 << (priority >> PRIORITY_SHIFT));
        }
        if let Some(links) = entries.links_mut(lpi) {
            *links = Links::NONE;
        }
    }

    /// Whether there is nothing to take.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.occupied == 0
    }

    /// Takes the most urgent LPI out.
    #[inline]
    pub fn pop(&mut self, entries: &mut impl Linked) -> Option<u16> {
        let list = self
            .lists
            .get_mut(self.occupied.trailing_zeros() as usize)?;
        let first = list.first;
        let links = entries.links_mut(first)?;
        let next = core::mem::replace(links, Links::NONE).next;
        list.first = next;
        match entries.links_mut(next) {
            Some(links) => links.previous = NONE,
            None => {
                list.last = NONE;
                self.occupied &= self.occupied - 1;
            }
        }
        Some(first)
    }

    /// The LPIs with their priorities, most urgent first, and those that came first before others.
    pub fn iter<'a>(&'a self, entries: &'a impl Linked) -> impl Iterator<Item = (u16, u8)> + 'a {
        let lists = super::super::ready::Bits(self.occupied);
        lists.flat_map(move |number| {
            let list = self.lists.get(usize::from(number));
            let first = list.map_or(NONE, |list| list.first);
            let priority = (number << PRIORITY_SHIFT) as u8;
            let link = |lpi: &u16| entries.links(*lpi).map(|links| links.next);
            let present = |lpi: u16| (lpi != NONE).then_some(lpi);
            core::iter::successors(present(first), move |lpi| link(lpi).and_then(present))
                .map(move |lpi| (lpi, priority))
        })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    impl Linked for Vec<Links> {
        fn links(&self, lpi: u16) -> Option<Links> {
            self.get(usize::from(lpi)).copied()
        }
        fn links_mut(&mut self, lpi: u16) -> Option<&mut Links> {
            self.get_mut(usize::from(lpi))
        }
    }

    proptest! {
        #[test]
        fn is_a_queue_for_each_priority(
            changes in prop::collection::vec((0..20_u16, any::<u8>(), any::<bool>()), 0..200)
        ) {
            let mut links = std::vec![Links::NONE; 20];
            let mut queue = Queue::EMPTY;
            let mut model: Vec<(u16, u8)> = Vec::new();
            for (lpi, priority, front) in changes {
                if let Some(place) = model.iter().position(|(other, _)| *other == lpi) {
                    let (_, priority) = model.remove(place);
                    queue.remove(&mut links, lpi, priority);
                } else if front {
                    queue.push_front(&mut links, lpi, priority);
                    model.insert(0, (lpi, priority & PRIORITY_MASK));
                } else {
                    queue.push(&mut links, lpi, priority);
                    model.push((lpi, priority & PRIORITY_MASK));
                }
                let mut expected = model.clone();
                expected.sort_by_key(|(_, priority)| *priority);
                prop_assert_eq!(queue.is_empty(), expected.is_empty());
                prop_assert_eq!(queue.iter(&links).collect::<Vec<_>>(), expected);
            }
            model.sort_by_key(|(_, priority)| *priority);
            for (lpi, _) in model {
                prop_assert_eq!(queue.pop(&mut links), Some(lpi));
            }
            prop_assert_eq!(queue.pop(&mut links), None);
            prop_assert!(queue.is_empty());
        }
    }
}
