//! What a copy may ask for.

use xen_abi::DomId;
use xen_abi::grant_table::{self as abi, copy_flags as flag};
use xen_types::{Gfn, PAGE_SIZE};

use super::GrantError;

/// One end of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CopyEnd {
    /// What another domain grants.
    Granted {
        /// Who grants it.
        granter: DomId,
        /// Which.
        reference: u32,
    },
    /// A frame of the caller.
    Own(Gfn),
}

/// A copy of bytes from one page to another. Offset and length are inside a page on both ends.
///
/// The caller takes both frames, a granted one by [`GrantTable::acquire`](super::GrantTable), the
/// destination for writing; copies; and gives both back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyRequest {
    /// From where.
    pub source: CopyEnd,
    /// First byte in the source's page.
    pub source_offset: u16,
    /// To where.
    pub dest: CopyEnd,
    /// First byte in the destination's page.
    pub dest_offset: u16,
    /// Bytes, from 0 to 4096.
    pub len: u16,
}

impl CopyRequest {
    /// Checks what a guest asks for.
    ///
    /// # Errors
    /// [`GrantError::OutOfPage`], [`GrantError::FrameOfOther`].
    pub fn parse(request: &abi::GrantCopy) -> Result<Self, GrantError> {
        let abi::GrantCopy {
            source, dest, len, ..
        } = *request;
        Ok(Self {
            source: end(source, request.flags & flag::SOURCE_GREF != 0)?,
            source_offset: offset(source, len)?,
            dest: end(dest, request.flags & flag::DEST_GREF != 0)?,
            dest_offset: offset(dest, len)?,
            len,
        })
    }
}

fn offset(end: abi::CopyEnd, len: u16) -> Result<u16, GrantError> {
    let offset = end.offset;
    if u64::from(offset) + u64::from(len) <= PAGE_SIZE {
        Ok(offset)
    } else {
        Err(GrantError::OutOfPage { offset, len })
    }
}

fn end(end: abi::CopyEnd, is_reference: bool) -> Result<CopyEnd, GrantError> {
    if is_reference {
        // A reference is the low half of a union whose other half a guest need not clear.
        return Ok(CopyEnd::Granted {
            granter: end.domid,
            reference: end.reference_or_frame as u32,
        });
    }
    if end.domid != DomId::SELF {
        return Err(GrantError::FrameOfOther(end.domid));
    }
    Ok(CopyEnd::Own(Gfn::new(end.reference_or_frame)))
}
