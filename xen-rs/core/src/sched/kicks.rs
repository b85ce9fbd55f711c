//! CPUs that must look at what they run.

use arrayvec::ArrayVec;

/// Most that one operation has: a CPU that got work, one that may take other work from it, and the
/// same for a vCPU that this made room for.
const MOST: usize = 4;

/// The CPUs to kick after an operation: the one that got work, and an idle one that may take other
/// work from it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
#[must_use = "a CPU that is not kicked sleeps on"]
pub struct Kicks(ArrayVec<u16, MOST>);

impl Kicks {
    /// None.
    pub const NONE: Self = Self(ArrayVec::new_const());

    pub(super) fn one(cpu: usize) -> Self {
        let mut kicks = Self::NONE;
        kicks.add(cpu);
        kicks
    }

    pub(super) fn add(&mut self, cpu: usize) {
        let cpu = cpu as u16;
        if !self.0.contains(&cpu) {
            // Within the bound it always fits.
            let _ = self.0.try_push(cpu);
        }
    }

    pub(super) fn merge(&mut self, others: &Self) {
        others.iter().for_each(|cpu| self.add(cpu));
    }

    /// The CPUs by number.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().map(|cpu| usize::from(*cpu))
    }
}
