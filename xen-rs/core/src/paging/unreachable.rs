//! The rule of what is free as a type: only what no descriptor leads to, and no TLB remembers, of a CPU or
//! of an IOMMU, can become something else.

/// Something that nothing can reach any more. What frees frames takes one, and only the walker makes
/// them, after [`super::TableMemory::invalidate`]; dropped, it is lost, which is safe.
///
/// What is merely known is not unreachable, and what was freed cannot be freed again:
///
/// ```compile_fail
/// # use xen_core::paging::Unreachable;
/// let frame = Unreachable(1);
/// ```
///
/// ```compile_fail
/// # use xen_core::paging::Unreachable;
/// fn free_twice(frame: Unreachable<u64>) -> (u64, u64) {
///     (frame.release(), frame.release())
/// }
/// ```
#[must_use = "what is not freed is lost"]
#[derive(PartialEq, Eq, Debug)]
pub struct Unreachable<T>(T);

impl<T> Unreachable<T> {
    /// The caller has seen to it.
    pub(crate) const fn new(held: T) -> Self {
        Self(held)
    }

    /// What may now be used for something else.
    pub fn release(self) -> T {
        self.0
    }
}

/// Something may still remember what was unmapped: an IOMMU did not do what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered;
