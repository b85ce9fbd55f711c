//! Memory of domains (`memory.h`).

use crate::{DomId, GuestHandle};

numbers! {
    /// Sub-operations of `memory_op` (`XENMEM_…`).
    pub enum MemoryOp: u64 {
        /// [`Reservation`].
        IncreaseReservation = 0,
        /// [`Reservation`]: gives frames back.
        DecreaseReservation = 1,
        /// Returns the machine's highest frame.
        MaximumRamPage = 2,
        /// [`MemoryDomain`]. Returns how many pages it has.
        CurrentReservation = 3,
        /// [`MemoryDomain`]. Returns how many pages it may have.
        MaximumReservation = 4,
        /// [`Reservation`]: puts memory at guest frames.
        PopulatePhysmap = 6,
        /// [`AddToPhysmap`].
        AddToPhysmap = 7,
        /// The machine's memory map, not on arm64.
        MemoryMap = 9,
        /// Trades frames for others; not on arm64.
        Exchange = 11,
        /// [`MemoryDomain`]. Returns its highest guest frame.
        MaximumGpfn = 14,
        /// [`RemoveFromPhysmap`].
        RemoveFromPhysmap = 15,
        /// Returns frames saved by sharing: 0.
        GetSharingFreedPages = 18,
        /// Returns frames shared: 0.
        GetSharingSharedPages = 19,
        /// Guest paging.
        PagingOp = 20,
        /// Memory access rights.
        AccessOp = 21,
        /// Memory sharing.
        SharingOp = 22,
        /// [`AddToPhysmapBatch`].
        AddToPhysmapBatch = 23,
        /// [`Reservation`]: sets memory aside.
        ClaimPages = 24,
        /// Virtual NUMA.
        GetVnumaInfo = 26,
        /// [`ReservedDeviceMemoryMap`].
        ReservedDeviceMemoryMap = 27,
        /// [`AcquireResource`].
        AcquireResource = 28,
    }

    /// What is put at a guest frame (`XENMAPSPACE_…`).
    pub enum MapSpace: u32 {
        /// The shared page; its index is 0.
        SharedInfo = 0,
        /// A frame of the grant table, see [`GRANT_STATUS_INDEX`].
        GrantTable = 1,
        /// Another frame of the domain.
        Gmfn = 2,
        /// Several frames of the domain.
        GmfnRange = 3,
        /// A frame of another domain.
        GmfnForeign = 4,
        /// A page of device memory.
        DevMmio = 5,
    }

    /// What can be acquired (`XENMEM_resource_…`).
    pub enum Resource: u16 {
        /// Pages of a device model.
        IoreqServer = 0,
        /// Frames of a grant table.
        GrantTable = 1,
        /// Processor traces.
        VmtraceBuf = 2,
    }
}

/// Set in the index of [`MapSpace::GrantTable`] for status frames, which version 1 has not
/// (`XENMAPIDX_grant_table_status`).
pub const GRANT_STATUS_INDEX: u64 = 0x8000_0000;

/// Flags of [`Reservation::mem_flags`] (`XENMEMF_…`).
pub mod flags {
    /// How many bits the machine address may have; 0 any.
    pub const ADDRESS_BITS: u32 = 0xff;
    /// NUMA node plus one, in bits 15:8.
    pub const NODE: u32 = 0xff00;
    /// Only when it is touched; not on arm64.
    pub const POPULATE_ON_DEMAND: u32 = 1 << 16;
    /// That node or nothing.
    pub const EXACT_NODE: u32 = 1 << 17;
    /// The node is a virtual one.
    pub const VNODE: u32 = 1 << 18;
}

layout! {
    /// `xen_memory_reservation`: a list of extents of 2^order frames each.
    pub struct Reservation: 32 {
        /// First guest frame of each extent, `u64` each.
        0 extent_start: GuestHandle,
        /// How many.
        8 nr_extents: u64,
        /// log2 of the frames of each.
        16 extent_order: u32,
        /// See [`flags`].
        20 mem_flags: u32,
        /// Whose.
        24 domid: DomId,
        /// Padding.
        26 pad: [u16; 3],
    }

    /// `xen_memory_domain`.
    pub struct MemoryDomain: 2 {
        /// Whose memory.
        0 domid: DomId,
    }

    /// `xen_add_to_physmap`.
    pub struct AddToPhysmap: 24 {
        /// Whose guest frame.
        0 domid: DomId,
        /// Frames, for [`MapSpace::GmfnRange`].
        2 size: u16,
        /// A [`MapSpace`].
        4 space: u32,
        /// Which of the space.
        8 idx: u64,
        /// The guest frame where it shall be.
        16 gpfn: u64,
    }

    /// `xen_add_to_physmap_batch`.
    pub struct AddToPhysmapBatch: 32 {
        /// Whose guest frames.
        0 domid: DomId,
        /// A [`MapSpace`].
        2 space: u16,
        /// How many.
        4 size: u16,
        /// Whose memory, for [`MapSpace::GmfnForeign`]; else 0.
        6 foreign_domid: DomId,
        /// Which of the space, `u64` each.
        8 idxs: GuestHandle,
        /// The guest frames where they shall be, `u64` each.
        16 gpfns: GuestHandle,
        /// Out: an error number or 0 for each, `i32` each.
        24 errs: GuestHandle,
    }

    /// `xen_remove_from_physmap`.
    pub struct RemoveFromPhysmap: 16 {
        /// Whose.
        0 domid: DomId,
        /// Padding.
        2 pad: [u16; 3],
        /// The guest frame.
        8 gpfn: u64,
    }

    /// `xen_reserved_device_memory_map`.
    pub struct ReservedDeviceMemoryMap: 24 {
        /// Bit 0: of all devices.
        0 flags: u32,
        /// Room; out: how many there are.
        4 nr_entries: u32,
        /// Where they go.
        8 buffer: GuestHandle,
        /// Of which device.
        16 dev: crate::physdev::PciDevice,
        /// Padding.
        20 pad: u32,
    }

    /// `xen_mem_acquire_resource`: maps something that belongs to a domain, not to its memory.
    pub struct AcquireResource: 32 {
        /// Whose.
        0 domid: DomId,
        /// A [`Resource`].
        2 kind: u16,
        /// Which of that kind; of a grant table 0 the entries, 1 the status frames.
        4 id: u32,
        /// How many frames; 0 with no list asks for the number.
        8 nr_frames: u32,
        /// Must be zero.
        12 pad: u32,
        /// The first frame.
        16 frame: u64,
        /// Guest frames of the caller where they shall be, `u64` each.
        24 frame_list: GuestHandle,
    }
}
