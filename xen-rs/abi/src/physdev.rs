//! Physical devices (`physdev.h`).

numbers! {
    /// Sub-operations of `physdev_op` (`PHYSDEVOP_…`).
    pub enum PhysdevOp: u64 {
        /// Needs no answer on arm64.
        Eoi = 12,
        /// Not on arm64.
        MapPirq = 13,
        /// Not on arm64.
        UnmapPirq = 14,
        /// [`ManagePci`]: old form of 25.
        ManagePciAdd = 15,
        /// [`ManagePci`]: old form of 26.
        ManagePciRemove = 16,
        /// [`ManagePciExt`]: old form of 25.
        ManagePciAddExt = 20,
        /// Not on arm64.
        SetupGsi = 21,
        /// [`PciDeviceAdd`].
        PciDeviceAdd = 25,
        /// [`PciDevice`].
        PciDeviceRemove = 26,
        /// [`PciDevice`].
        RestoreMsiExt = 27,
        /// [`PciDevice`].
        PrepareMsix = 30,
        /// [`PciDevice`].
        ReleaseMsix = 31,
        /// [`PciDeviceReset`].
        PciDeviceReset = 32,
    }
}

/// [`PciDeviceAdd::flags`]: an extended function of a device with ARI (`XEN_PCI_DEV_EXTFN`).
pub const PCI_DEV_EXTFN: u32 = 1;
/// [`PciDeviceAdd::flags`]: a virtual function (`XEN_PCI_DEV_VIRTFN`).
pub const PCI_DEV_VIRTFN: u32 = 2;
/// [`PciDeviceAdd::flags`]: a proximity domain follows the structure (`XEN_PCI_DEV_PXM`).
pub const PCI_DEV_PXM: u32 = 4;
/// The kind of reset in [`PciDeviceReset::flags`] (`PCI_DEVICE_RESET_MASK`).
pub const PCI_DEVICE_RESET_MASK: u32 = 3;

numbers! {
    /// The kind of reset in [`PciDeviceReset::flags`] (`PCI_DEVICE_RESET_…`).
    pub enum PciResetKind: u32 {
        /// Power off and on.
        Cold = 0,
        /// Reset with power on.
        Warm = 1,
        /// The link's.
        Hot = 2,
        /// The function's own.
        FunctionLevel = 3,
    }
}

layout! {
    /// `physdev_manage_pci`: a device of segment 0.
    pub struct ManagePci: 2 {
        /// Bus.
        0 bus: u8,
        /// Device, 5 bits, and function, 3 bits.
        1 devfn: u8,
    }

    /// `physdev_manage_pci_ext`: a device of segment 0.
    pub struct ManagePciExt: 16 {
        /// Bus.
        0 bus: u8,
        /// Device, 5 bits, and function, 3 bits.
        1 devfn: u8,
        /// Padding.
        2 pad0: u16,
        /// Nonzero for an extended function.
        4 is_extfn: u32,
        /// Nonzero for a virtual function.
        8 is_virtfn: u32,
        /// Bus of the physical function.
        12 physfn_bus: u8,
        /// Device and function of the physical function.
        13 physfn_devfn: u8,
        /// Padding.
        14 pad1: u16,
    }

    /// `physdev_pci_device`.
    pub struct PciDevice: 4 {
        /// Segment.
        0 seg: u16,
        /// Bus.
        2 bus: u8,
        /// Device, 5 bits, and function, 3 bits.
        3 devfn: u8,
    }

    /// The fixed part of `physdev_pci_device_add`; a word follows where [`PCI_DEV_PXM`] is set.
    pub struct PciDeviceAdd: 12 {
        /// Segment.
        0 seg: u16,
        /// Bus.
        2 bus: u8,
        /// Device, 5 bits, and function, 3 bits.
        3 devfn: u8,
        /// `PCI_DEV_…`.
        4 flags: u32,
        /// Bus of the physical function.
        8 physfn_bus: u8,
        /// Device and function of the physical function.
        9 physfn_devfn: u8,
        /// Padding.
        10 pad: u16,
    }

    /// `pci_device_reset`.
    pub struct PciDeviceReset: 8 {
        /// Which.
        0 dev: PciDevice,
        /// Low bits: a [`PciResetKind`].
        4 flags: u32,
    }
}
