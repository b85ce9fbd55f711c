//! Time and firmware of the machine (`platform.h`).

/// What [`PlatformOpHeader::interface_version`] must be (`XENPF_INTERFACE_VERSION`).
pub const INTERFACE_VERSION: u32 = 0x0300_0001;
/// Bytes of `xen_platform_op`, of which the operation's part starts at 8.
pub const PLATFORM_OP_SIZE: usize = 136;

numbers! {
    /// Commands of `platform_op` that Linux on arm64 uses (`XENPF_…`).
    pub enum PlatformOp: u32 {
        /// EFI's runtime services.
        EfiRuntimeCall = 49,
        /// Tables of the firmware.
        FirmwareInfo = 50,
        /// [`SetTime64`].
        SetTime64 = 62,
    }
}

layout! {
    /// The start of `xen_platform_op`.
    pub struct PlatformOpHeader: 8 {
        /// A [`PlatformOp`].
        0 cmd: u32,
        /// [`INTERFACE_VERSION`].
        4 interface_version: u32,
    }

    /// `xenpf_settime64`: the wall clock.
    pub struct SetTime64: 24 {
        /// Seconds since 1970.
        0 secs: u64,
        /// And nanoseconds.
        8 nsecs: u32,
        /// Must be zero.
        12 mbz: u32,
        /// At this system time, in nanoseconds.
        16 system_time: u64,
    }
}
