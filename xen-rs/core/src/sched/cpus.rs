//! Sets of physical CPUs.

/// Most CPUs that a set can hold.
pub const MAX_CPUS: usize = 512;
const WORDS: usize = MAX_CPUS / 64;

/// Physical CPUs by number: where a vCPU may run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self([0; WORDS]);
    /// Every CPU that there can be.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// One CPU; none if there can be no such CPU.
    pub fn only(cpu: usize) -> Self {
        let mut set = Self::EMPTY;
        set.insert(cpu);
        set
    }

    /// Adds one. A number from [`MAX_CPUS`] on is no CPU and changes nothing.
    pub fn insert(&mut self, cpu: usize) {
        if let Some(word) = self.0.get_mut(cpu / 64) {
            *word |= 1 << (cpu % 64);
        }
    }

    /// Whether it is in the set.
    pub fn contains(&self, cpu: usize) -> bool {
        self.0
            .get(cpu / 64)
            .is_some_and(|word| word >> (cpu % 64) & 1 != 0)
    }

    /// The CPUs in it, by number.
    pub fn iter(&self) -> impl Iterator<Item = usize> + use<> {
        let set = *self;
        (0..MAX_CPUS).filter(move |cpu| set.contains(*cpu))
    }

    /// Whether both sets have a CPU in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }
}

impl FromIterator<usize> for CpuSet {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        let mut set = Self::EMPTY;
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in() {
        let set: CpuSet = [0, 63, 64, 511, 512, 100_000].into_iter().collect();
        let found = (0..1000).filter(|cpu| set.contains(*cpu));
        assert!(found.eq([0, 63, 64, 511]));
        assert!(set.meets(&CpuSet::only(63)));
        assert!(!set.meets(&CpuSet::only(62)));
        assert!(!CpuSet::EMPTY.meets(&CpuSet::ALL));
    }
}
