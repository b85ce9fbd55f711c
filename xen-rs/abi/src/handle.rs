//! Pointers in structures (`arch-arm.h`, `XEN_GUEST_HANDLE`).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A virtual address of the guest that made the call, where something of the guest's is said to
/// be. A claim, not a pointer: it is followed by a checked copy only.
#[derive(Clone, Copy, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct GuestHandle(u64);

impl GuestHandle {
    /// The handle that refers to nothing.
    pub const NULL: Self = Self(0);

    /// The handle with this address.
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    /// The guest virtual address.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether it refers to nothing.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for GuestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestHandle({:#x})", self.0)
    }
}
