//! The rule of what is free as a type: only what no descriptor leads to, and no TLB remembers, of a CPU or
//! of an IOMMU, can become something else.
//!
//! A frame is unreachable when the allocator has just given it out, and then again when the walker has
//! unmapped it and had it forgotten ([`super::TableMemory::invalidate`], or
//! [`super::TableMemory::retire`] once for a whole tree). Nobody else makes a token, so that this is a
//! frame's way round:
//!
//! | | takes | gives |
//! |---|---|---|
//! | `Buddy::allocate_ram` | | the token |
//! | `P2m::add_ram` | the token | |
//! | `P2m::take_ram`, `remove`, `put`, `take_next` | | the token |
//! | `Buddy::free_ram`, and what gives RAM, tables and references back | the token | |

use xen_types::HpaRange;

/// Something that nothing can reach any more. What frees frames takes one; dropped, it is lost, which
/// is safe.
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
///
/// A frame that a guest frame leads to cannot be freed, and one that does not any more can:
///
/// ```compile_fail
/// # use xen_core::{memory::buddy::Buddy, p2m::P2m, paging::TableMemory};
/// # use xen_types::Gfn;
/// fn free(p2m: &P2m, memory: &impl TableMemory, gfn: Gfn, buddy: &mut Buddy<'_>) {
///     let found = p2m.lookup(memory, gfn).unwrap();
///     buddy.free_ram(found.output.frame());
/// }
/// ```
///
/// ```
/// # use xen_core::{memory::buddy::Buddy, p2m::P2m, paging::TableMemory};
/// # use xen_types::Gfn;
/// fn free(p2m: &mut P2m, memory: &mut impl TableMemory, gfn: Gfn, buddy: &mut Buddy<'_>) {
///     let taken = p2m.take_ram(memory, gfn).unwrap();
///     buddy.free_ram(taken).unwrap();
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

    /// What it is.
    pub const fn held(&self) -> &T {
        &self.0
    }

    /// What may now be used for something else.
    pub fn release(self) -> T {
        self.0
    }
}

impl Unreachable<HpaRange> {
    /// The first `size` bytes, and the rest if there is more.
    pub fn split_at(self, size: u64) -> (Self, Option<Self>) {
        let whole = self.0;
        let parts = HpaRange::new(whole.start(), size)
            .and_then(|first| Some((first, HpaRange::between(first.end(), whole.end())?)));
        match parts {
            Some((first, rest)) => (Self(first), Some(Self(rest))),
            None => (self, None),
        }
    }
}

/// Something may still remember what was unmapped: an IOMMU did not do what it was told, and could not
/// be kept from memory either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remembered;
