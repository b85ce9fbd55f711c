//! The entries that the granting domain shares, and how their flags change.

use xen_abi::DomId;
use xen_abi::grant_table::entry_flags as flag;

use super::GrantError;

/// How often a change of an entry is tried that its domain changes at the same time.
pub(super) const MAX_TRIES: usize = 5;

/// The first word of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// See [`xen_abi::grant_table::entry_flags`].
    pub flags: u16,
    /// Who may use the entry.
    pub grantee: DomId,
}

/// The entries of one table, in frames that the granting domain writes at any time.
///
/// References are below the table's number of entries.
pub trait SharedEntries {
    /// Reads flags and grantee with one atomic load.
    fn header(&self, reference: u32) -> Header;

    /// Replaces `expected` by `new` with one atomic compare-and-swap.
    ///
    /// # Errors
    /// What is there instead.
    fn swap_header(&self, reference: u32, expected: Header, new: Header) -> Result<(), Header>;

    /// Clears flags atomically, in bounded time.
    fn clear_flags(&self, reference: u32, flags: u16);

    /// Reads the number of the guest frame with one atomic load.
    fn frame(&self, reference: u32) -> u32;
}

/// Sets the flags that say that `grantee` reads, or reads and writes, what the entry grants.
///
/// Whoever uses the entry already has been checked: then (`in_use`) kind and grantee do not count,
/// as the granting domain can take back an entry in use for new users only.
///
/// # Errors
/// [`GrantError::NotGranted`], [`GrantError::ReadOnly`]; [`GrantError::Unstable`] after
/// [`MAX_TRIES`], so that a domain which keeps writing the entry holds up nobody.
pub(super) fn mark_in_use<E: SharedEntries>(
    entries: &E,
    reference: u32,
    grantee: DomId,
    writable: bool,
    in_use: bool,
) -> Result<(), GrantError> {
    let mut header = entries.header(reference);
    for _ in 0..MAX_TRIES {
        let kind = header.flags & (flag::TYPE_MASK | flag::SUB_PAGE);
        if !in_use && (kind != flag::PERMIT_ACCESS || header.grantee != grantee) {
            return Err(GrantError::NotGranted { reference, grantee });
        }
        if writable && header.flags & flag::READ_ONLY != 0 {
            return Err(GrantError::ReadOnly(reference));
        }
        let writing = if writable { flag::WRITING } else { 0 };
        let new = Header {
            flags: header.flags | flag::READING | writing,
            ..header
        };
        match entries.swap_header(reference, header, new) {
            Ok(()) => return Ok(()),
            Err(now) => header = now,
        }
    }
    Err(GrantError::Unstable(reference))
}
