//! From an LPI that arrived to the domain that it is for: an array, read without a lock.

use core::sync::atomic::{AtomicU64, Ordering};

use super::alloc::vec::Vec;

use xen_abi::DomId;
use xen_types::Lpi;

use super::ItsError;

/// Whose an LPI of the host is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The domain.
    pub domain: DomId,
    /// The LPI that the domain knows it by.
    pub lpi: Lpi,
}

/// An owner's word: the INTID below, which is never 0, and the domain above.
const DOMAIN_SHIFT: u32 = 32;

impl Owner {
    fn word(self) -> u64 {
        u64::from(self.domain.get()) << DOMAIN_SHIFT | u64::from(self.lpi.intid())
    }

    fn of_word(word: u64) -> Option<Self> {
        Some(Self {
            domain: DomId::new((word >> DOMAIN_SHIFT) as u16),
            lpi: Lpi::from_intid(word as u32)?,
        })
    }
}

/// The owner of each LPI of the host.
#[derive(Debug)]
pub struct Owners(Vec<AtomicU64>);

impl Owners {
    /// `lpis` LPIs ([`super::Lpis::count`]) that are nobody's.
    ///
    /// # Errors
    /// [`ItsError::NoMemory`].
    pub fn new(lpis: u32) -> Result<Self, ItsError> {
        let mut words = Vec::new();
        words
            .try_reserve_exact(lpis as usize)
            .map_err(|_| ItsError::NoMemory {
                what: "owners of LPIs",
                size: u64::from(lpis) * 8,
            })?;
        words.resize_with(lpis as usize, AtomicU64::default);
        Ok(Self(words))
    }

    /// Whose an LPI is; `None` if nobody's.
    pub fn of(&self, lpi: Lpi) -> Option<Owner> {
        let word = self.0.get(lpi.number() as usize)?.load(Ordering::Acquire);
        Owner::of_word(word)
    }

    /// Gives an LPI to an owner, before an event is mapped to it, or takes it away, after the
    /// mapping was discarded.
    pub fn set(&self, lpi: Lpi, owner: Option<Owner>) {
        if let Some(word) = self.0.get(lpi.number() as usize) {
            word.store(owner.map_or(0, Owner::word), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lpi(number: u32) -> Lpi {
        Lpi::new(number).unwrap()
    }

    #[test]
    fn an_lpi_is_its_owners_until_it_is_taken_away() {
        let owners = Owners::new(64).unwrap();
        let owner = Owner {
            domain: DomId::new(0x7fef),
            lpi: lpi(57_000),
        };
        assert_eq!(owners.of(lpi(63)), None);
        owners.set(lpi(63), Some(owner));
        assert_eq!(owners.of(lpi(63)), Some(owner));
        assert_eq!(owners.of(lpi(62)), None);
        owners.set(lpi(63), None);
        assert_eq!(owners.of(lpi(63)), None);
    }

    #[test]
    fn an_lpi_beyond_the_array_is_nobodys() {
        let owners = Owners::new(64).unwrap();
        let owner = Owner {
            domain: DomId::new(0),
            lpi: lpi(0),
        };
        owners.set(lpi(64), Some(owner));
        assert_eq!(owners.of(lpi(64)), None);
    }
}
