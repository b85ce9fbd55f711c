//! Which LPIs are free. They are given out in chunks, so that a device's lie side by side.

use super::alloc::vec::Vec;

use xen_types::Lpi;

use super::ItsError;

/// LPIs of a chunk.
const CHUNK: u32 = 32;
/// The most bits of an INTID that are used: 57,344 LPIs, and a configuration table of 56 KiB.
pub const MOST_BITS: u8 = 16;

/// LPIs side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LpiRange {
    first: Lpi,
    count: u32,
}

impl LpiRange {
    /// How many; never 0.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The LPI at a place, counted from 0.
    pub const fn get(self, index: u32) -> Option<Lpi> {
        if index < self.count {
            Lpi::new(self.first.number() + index)
        } else {
            None
        }
    }
}

/// The LPIs that the host's redistributors have.
#[derive(Debug)]
pub struct LpiAllocator {
    /// Whether each chunk is given out.
    used: Vec<bool>,
}

impl LpiAllocator {
    /// All free, of a GIC whose INTIDs have `id_bits` bits: `GICD_TYPER.IDbits` and one, at least
    /// 14 where there are LPIs.
    ///
    /// # Errors
    /// [`ItsError::NoLpis`], [`ItsError::NoMemory`].
    pub fn new(id_bits: u8) -> Result<Self, ItsError> {
        let bits = id_bits.min(MOST_BITS);
        let lpis = (1_u32 << bits).saturating_sub(Lpi::FIRST);
        let chunks = (lpis / CHUNK) as usize;
        if chunks == 0 {
            return Err(ItsError::NoLpis);
        }
        let mut used = Vec::new();
        used.try_reserve_exact(chunks)
            .map_err(|_| ItsError::NoMemory {
                what: "LPIs",
                size: chunks as u64,
            })?;
        used.resize(chunks, false);
        Ok(Self { used })
    }

    /// How many LPIs there are, free or not.
    pub fn count(&self) -> u32 {
        self.used.len() as u32 * CHUNK
    }

    /// How many are free, in whole chunks.
    pub fn free_count(&self) -> u32 {
        self.used.iter().filter(|used| !**used).count() as u32 * CHUNK
    }

    /// Gives out `count` LPIs; `None` where there are not as many side by side, or for 0.
    pub fn allocate(&mut self, count: u32) -> Option<LpiRange> {
        let chunks = count.div_ceil(CHUNK) as usize;
        if chunks == 0 {
            return None;
        }
        let mut windows = self.used.windows(chunks);
        let start = windows.position(|window| !window.contains(&true))?;
        self.used.get_mut(start..start + chunks)?.fill(true);
        Some(LpiRange {
            first: Lpi::new(start as u32 * CHUNK)?,
            count,
        })
    }

    /// Takes back what [`LpiAllocator::allocate`] gave.
    pub fn free(&mut self, range: LpiRange) {
        let start = (range.first.number() / CHUNK) as usize;
        let chunks = range.count.div_ceil(CHUNK) as usize;
        if let Some(used) = self.used.get_mut(start..start + chunks) {
            used.fill(false);
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_are_lpis_from_14_bits_on() {
        assert_eq!(LpiAllocator::new(13).unwrap_err(), ItsError::NoLpis);
        assert_eq!(LpiAllocator::new(14).unwrap().count(), 8192);
        assert_eq!(LpiAllocator::new(24).unwrap().count(), 57_344);
    }

    proptest! {
        #[test]
        fn no_lpi_is_given_out_twice_and_none_is_lost(
            steps in prop::collection::vec((any::<bool>(), 0..300_u32), 0..80)
        ) {
            let mut allocator = LpiAllocator::new(14).unwrap();
            let mut held: Vec<LpiRange> = Vec::new();
            for (give, number) in steps {
                if give {
                    let Some(new) = allocator.allocate(number) else { continue };
                    prop_assert_eq!(new.count(), number);
                    for old in &held {
                        let apart = new.get(0) > old.get(old.count() - 1)
                            || new.get(number - 1) < old.get(0);
                        prop_assert!(apart);
                    }
                    held.push(new);
                } else if !held.is_empty() {
                    allocator.free(held.swap_remove(number as usize % held.len()));
                }
            }
            for range in held {
                allocator.free(range);
            }
            prop_assert_eq!(allocator.free_count(), allocator.count());
        }
    }
}
