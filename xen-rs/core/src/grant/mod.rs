//! Grant tables, version 1 (Xen's `grant_table.h`).
//!
//! A domain shares pages by entries in frames that it shares with the hypervisor. Another domain
//! maps what such an entry grants, or has it copied.
//!
//! | module | holds |
//! |---|---|
//! | `entry` | the shared entries and how their flags change |
//! | `table` | the granting side: which entries are in use, how often, of which frame |
//! | `maptrack` | the mapping side: a handle for each mapping |
//! | `copy` | what a copy may ask for |
//!
//! An entry in use is pinned: the frame is referenced and cannot change hands, and the shared flags
//! say so to the granting domain. A map or unmap is a transaction: it begins, the caller changes
//! its translation tables as [`MapForeign`] or [`Unmap`] says, and then commits or cancels.
//!
//! Lock order: the mapping domain's [`Maptrack`] before the granting domain's [`GrantTable`]; never
//! two of a kind. Transitive grants, transfers and version 2 do not exist here.

extern crate alloc;

mod copy;
mod entry;
mod error;
mod maptrack;
mod table;

pub use copy::{CopyEnd, CopyRequest};
pub use entry::{Header, SharedEntries};
pub use error::GrantError;
pub use maptrack::{HANDLES_PER_FRAME, Handle, MapForeign, MapRequest, Maptrack, Unmap};
pub use table::{ENTRIES_PER_FRAME, FrameRefused, Frames, GrantTable, Pin, set_version};

#[cfg(test)]
mod tests;
