//! Memory that runs out on purpose, at each allocation in turn: so a test sees that nothing is lost
//! wherever the making of a domain ends.

/// Which allocation is refused: the first domain that is made gets all that it wants, the second is
/// refused its first allocation, the third its second, and so on. After one that wanted fewer than
/// were counted for it, which makes it one that got all, it begins anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shortage {
    /// Which allocation of the next domain is refused, from 1; 0 for none.
    next: u32,
    /// How many this one still gets before the one that is refused; `None` if that was, or none will be.
    left: Option<u32>,
}

impl Shortage {
    /// Before the first domain.
    pub const fn new() -> Self {
        Self {
            next: 0,
            left: None,
        }
    }

    /// The making of a domain begins.
    pub const fn begin(&mut self) {
        if self.left.is_some() {
            self.next = 1;
        }
        self.left = self.next.checked_sub(1);
        self.next = self.next.saturating_add(1);
    }

    /// Somebody allocates: whether that is refused.
    pub const fn refuses(&mut self) -> bool {
        match self.left {
            None => false,
            Some(left) => {
                self.left = left.checked_sub(1);
                left == 0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    /// Which allocation is refused while domains are made that want so many each.
    fn refused(shortage: &mut Shortage, wanted: &[u32]) -> Vec<Option<u32>> {
        let mut make = |wanted: &u32| {
            shortage.begin();
            // Who is refused one gives up, and what is allocated then is not its own.
            let refused = (1..=*wanted).find(|_| shortage.refuses());
            assert!(refused.is_none() || !shortage.refuses());
            refused
        };
        wanted.iter().map(&mut make).collect()
    }

    #[test]
    fn each_allocation_has_its_turn_then_all_begins_anew() {
        let mut shortage = Shortage::new();
        let turns = [None, Some(1), Some(2), Some(3), None, Some(1), Some(2)];
        assert_eq!(refused(&mut shortage, &[3; 7]), turns);
    }

    #[test]
    fn before_a_domain_is_made_nothing_is_refused() {
        let mut shortage = Shortage::new();
        assert!(!shortage.refuses());
        assert_eq!(refused(&mut shortage, &[0, 0, 1]), [None, None, Some(1)]);
    }
}
