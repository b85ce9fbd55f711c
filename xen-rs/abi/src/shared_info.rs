//! The page that a guest shares with the hypervisor (`xen.h`, `arch-arm.h`).
//!
//! Both sides change these structures at the same time, so they are reached by atomic accesses at
//! the offsets given here and never copied as a whole.

use core::mem::offset_of;

/// vCPUs whose [`VcpuInfo`] lies in the shared page (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: usize = 1;

layout! {
    /// `vcpu_info`: what a vCPU is told.
    pub struct VcpuInfo: 48 {
        /// Nonzero while the vCPU has events to look at.
        0 evtchn_upcall_pending: u8,
        /// Not used on arm64.
        1 pad0: [u8; 7],
        /// A bit for each word of [`SharedInfo::evtchn_pending`] that holds news.
        8 evtchn_pending_sel: u64,
        /// Not used on arm64.
        16 time: VcpuTimeInfo,
    }

    /// `vcpu_time_info`: the paravirtual clock; not used on arm64, where guests read the timer.
    pub struct VcpuTimeInfo: 32 {
        /// Odd while it changes.
        0 version: u32,
        /// Padding.
        4 pad0: u32,
        /// Cycles at the last update.
        8 tsc_timestamp: u64,
        /// Nanoseconds since boot at the last update.
        16 system_time: u64,
        /// Factor from cycles to nanoseconds.
        24 tsc_to_system_mul: u32,
        /// Shift from cycles to nanoseconds.
        28 tsc_shift: i8,
        /// Flags.
        29 flags: u8,
        /// Padding.
        30 pad1: [u8; 2],
    }

    /// `shared_info`.
    pub struct SharedInfo: 1088 {
        /// Of vCPU 0, until it registers one elsewhere.
        0 vcpu_info: [VcpuInfo; LEGACY_MAX_VCPUS],
        /// A bit for each port: it has news.
        48 evtchn_pending: [u64; 64],
        /// A bit for each port: the guest does not want to be told.
        560 evtchn_mask: [u64; 64],
        /// Odd while the wall clock changes.
        1072 wc_version: u32,
        /// Wall clock at system time 0: seconds since 1970, low half.
        1076 wc_sec: u32,
        /// Wall clock at system time 0: nanoseconds.
        1080 wc_nsec: u32,
        /// Wall clock at system time 0: seconds since 1970, high half.
        1084 wc_sec_hi: u32,
    }
}

/// Offset of the upcall flag in a `vcpu_info`.
pub const UPCALL_PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
/// Offset of the selector word in a `vcpu_info`.
pub const PENDING_SELECTOR: usize = offset_of!(VcpuInfo, evtchn_pending_sel);
/// Offset of the pending bits in the shared page.
pub const PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
/// Offset of the mask bits in the shared page.
pub const MASK: usize = offset_of!(SharedInfo, evtchn_mask);
/// Offset of the wall clock's version in the shared page.
pub const WALL_CLOCK: usize = offset_of!(SharedInfo, wc_version);

const _: () = {
    assert!(UPCALL_PENDING == 0 && PENDING_SELECTOR == 8);
    assert!(PENDING == 48 && MASK == 560 && WALL_CLOCK == 1072);
};
