//! Shared pages (`grant_table.h`): version 1.

use crate::{DomId, GuestHandle};

/// The first references are set aside (`GNTTAB_NR_RESERVED_ENTRIES`).
pub const RESERVED_ENTRIES: u32 = 8;
/// The reference of the console's page (`GNTTAB_RESERVED_CONSOLE`).
pub const RESERVED_CONSOLE: u32 = 0;
/// The reference of the store's page (`GNTTAB_RESERVED_XENSTORE`).
pub const RESERVED_XENSTORE: u32 = 1;

numbers! {
    /// Sub-operations of `grant_table_op` (`GNTTABOP_…`); x1 is an array, x2 its length.
    pub enum GrantTableOp: u64 {
        /// [`MapGrantRef`].
        MapGrantRef = 0,
        /// [`UnmapGrantRef`].
        UnmapGrantRef = 1,
        /// [`SetupTable`].
        SetupTable = 2,
        /// Debug output.
        DumpTable = 3,
        /// Gives a frame away.
        Transfer = 4,
        /// [`GrantCopy`].
        Copy = 5,
        /// [`QuerySize`].
        QuerySize = 6,
        /// Moves a mapping; not on arm64.
        UnmapAndReplace = 7,
        /// [`SetVersion`].
        SetVersion = 8,
        /// Version 2 only.
        GetStatusFrames = 9,
        /// [`GetVersion`].
        GetVersion = 10,
        /// [`SwapGrantRef`].
        SwapGrantRef = 11,
        /// [`CacheFlush`].
        CacheFlush = 12,
    }

    /// What became of one operation: the negative of `GNTST_…`.
    pub enum GrantStatus: i16 {
        /// Done.
        Okay = 0,
        /// Failed.
        GeneralError = -1,
        /// No such domain.
        BadDomain = -2,
        /// The reference grants nothing, or not this.
        BadGrantRef = -3,
        /// No such mapping.
        BadHandle = -4,
        /// Nothing can be mapped there.
        BadVirtAddr = -5,
        /// The device address does not fit the mapping.
        BadDevAddr = -6,
        /// No room for another device mapping.
        NoDeviceSpace = -7,
        /// Not allowed.
        PermissionDenied = -8,
        /// The frame is not memory of the domain.
        BadPage = -9,
        /// A copy reaches out of its page.
        BadCopyArg = -10,
        /// The frame's number is too large.
        AddressTooBig = -11,
        /// Not now.
        Again = -12,
        /// No room for another mapping.
        NoSpace = -13,
    }
}

/// Flags of an entry (`GTF_…`).
pub mod entry_flags {
    /// What kind of entry it is, in the low bits.
    pub const TYPE_MASK: u16 = 3;
    /// Kind: grants nothing.
    pub const INVALID: u16 = 0;
    /// Kind: grants access to a frame.
    pub const PERMIT_ACCESS: u16 = 1;
    /// Kind: takes a frame.
    pub const ACCEPT_TRANSFER: u16 = 2;
    /// Kind: passes on another domain's grant.
    pub const TRANSITIVE: u16 = 3;
    /// For reading only.
    pub const READ_ONLY: u16 = 1 << 2;
    /// Set by the hypervisor: someone reads the frame.
    pub const READING: u16 = 1 << 3;
    /// Set by the hypervisor: someone writes the frame.
    pub const WRITING: u16 = 1 << 4;
    /// Part of a frame; version 2 only.
    pub const SUB_PAGE: u16 = 1 << 8;
}

/// Flags of a mapping (`GNTMAP_…`).
pub mod map_flags {
    /// For devices.
    pub const DEVICE_MAP: u32 = 1 << 0;
    /// For the CPU.
    pub const HOST_MAP: u32 = 1 << 1;
    /// For reading only.
    pub const READ_ONLY: u32 = 1 << 2;
    /// For user space; not on arm64.
    pub const APPLICATION_MAP: u32 = 1 << 3;
    /// The address is of a page table entry; not on arm64.
    pub const CONTAINS_PTE: u32 = 1 << 4;
    /// Bits that mean something to the guest only.
    pub const GUEST_AVAILABLE: u32 = 0xffff << 16;
}

/// Flags of a copy (`GNTCOPY_…`).
pub mod copy_flags {
    /// The source is a reference, not a frame.
    pub const SOURCE_GREF: u16 = 1;
    /// The destination is a reference, not a frame.
    pub const DEST_GREF: u16 = 2;
}

/// What [`CacheFlush::op`] asks for (`GNTTAB_CACHE_…`).
pub mod cache_op {
    /// Writes dirty lines back.
    pub const CLEAN: u32 = 1 << 0;
    /// Drops lines.
    pub const INVALIDATE: u32 = 1 << 1;
    /// The address is a reference.
    pub const SOURCE_GREF: u32 = 1 << 31;
}

layout! {
    /// `grant_entry_v1`: in a page shared with the granting domain, reached by atomic accesses.
    pub struct EntryV1: 8 {
        /// See [`entry_flags`].
        0 flags: u16,
        /// Who may use it.
        2 domid: DomId,
        /// The guest frame.
        4 frame: u32,
    }

    /// `gnttab_map_grant_ref`.
    pub struct MapGrantRef: 32 {
        /// Guest physical address where it shall be.
        0 host_addr: u64,
        /// See [`map_flags`].
        8 flags: u32,
        /// The reference.
        12 reference: u32,
        /// Who grants it.
        16 dom: DomId,
        /// Out: a [`GrantStatus`].
        18 status: i16,
        /// Out: names the mapping.
        20 handle: u32,
        /// Out: machine address.
        24 dev_bus_addr: u64,
    }

    /// `gnttab_unmap_grant_ref`.
    pub struct UnmapGrantRef: 24 {
        /// Where it is mapped.
        0 host_addr: u64,
        /// Its machine address, or 0.
        8 dev_bus_addr: u64,
        /// Names the mapping.
        16 handle: u32,
        /// Out: a [`GrantStatus`].
        20 status: i16,
        /// Padding.
        22 pad: u16,
    }

    /// `gnttab_setup_table`.
    pub struct SetupTable: 24 {
        /// Whose table.
        0 dom: DomId,
        /// Padding.
        2 pad0: u16,
        /// At least that many frames.
        4 nr_frames: u32,
        /// Out: a [`GrantStatus`].
        8 status: i16,
        /// Padding.
        10 pad1: [u16; 3],
        /// Out: their guest frames, `u64` each.
        16 frame_list: GuestHandle,
    }

    /// One end of a copy (`gnttab_copy_ptr`).
    pub struct CopyEnd: 16 {
        /// Guest frame, or reference in the low 32 bits.
        0 reference_or_frame: u64,
        /// Whose.
        8 domid: DomId,
        /// First byte in the frame.
        10 offset: u16,
        /// Padding.
        12 pad: u32,
    }

    /// `gnttab_copy`.
    pub struct GrantCopy: 40 {
        /// From where.
        0 source: CopyEnd,
        /// To where.
        16 dest: CopyEnd,
        /// Bytes.
        32 len: u16,
        /// See [`copy_flags`].
        34 flags: u16,
        /// Out: a [`GrantStatus`].
        36 status: i16,
        /// Padding.
        38 pad: u16,
    }

    /// `gnttab_query_size`.
    pub struct QuerySize: 16 {
        /// Whose table.
        0 dom: DomId,
        /// Padding.
        2 pad0: u16,
        /// Out: frames it has.
        4 nr_frames: u32,
        /// Out: frames it may have.
        8 max_nr_frames: u32,
        /// Out: a [`GrantStatus`].
        12 status: i16,
        /// Padding.
        14 pad1: u16,
    }

    /// `gnttab_set_version`.
    pub struct SetVersion: 4 {
        /// Asked for; out: in use.
        0 version: u32,
    }

    /// `gnttab_get_version`.
    pub struct GetVersion: 8 {
        /// Whose table.
        0 dom: DomId,
        /// Padding.
        2 pad: u16,
        /// Out: in use.
        4 version: u32,
    }

    /// `gnttab_swap_grant_ref`.
    pub struct SwapGrantRef: 12 {
        /// One.
        0 ref_a: u32,
        /// The other.
        4 ref_b: u32,
        /// Out: a [`GrantStatus`].
        8 status: i16,
        /// Padding.
        10 pad: u16,
    }

    /// `gnttab_cache_flush`.
    pub struct CacheFlush: 16 {
        /// Machine address, or reference in the low 32 bits.
        0 address_or_reference: u64,
        /// First byte in the page.
        8 offset: u16,
        /// Bytes.
        10 length: u16,
        /// See [`cache_op`].
        12 op: u32,
    }
}
