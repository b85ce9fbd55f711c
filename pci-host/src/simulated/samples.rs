//! Functions like real ones: ids, classes, BARs and capabilities as `lspci -vv` shows them.

use super::{PortType, SimFunction};
use crate::bar::BarKind;
use crate::config::Width;

const MEMORY32: BarKind = BarKind::Memory32 {
    prefetchable: false,
};
const MEMORY64: BarKind = BarKind::Memory64 {
    prefetchable: false,
};
const PREFETCHABLE: BarKind = BarKind::Memory64 { prefetchable: true };
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a root or downstream port of a server can do: all of ACS but egress control and translated
/// requests.
const FULL_ACS: u16 = 0x1f;

/// Intel 82574L Ethernet: five vectors in a BAR of their own, a ROM, no function level reset.
pub fn e1000e() -> SimFunction {
    SimFunction::endpoint(0x8086, 0x10d3, 0x02_00_00)
        .with_bar(0, MEMORY32, 128 * KIB)
        .with_bar(1, MEMORY32, 128 * KIB)
        .with_bar(2, BarKind::Io, 32)
        .with_bar(3, MEMORY32, 16 * KIB)
        .with_rom(256 * 1024)
        .with_pin(1)
        .with_power_management(false)
        .with_msi(0)
        .with_express(PortType::Endpoint, false)
        .with_msi_x(5, (3, 0), (3, 0x2000))
        .with_advanced_errors()
}

/// Intel 82576 Ethernet with one port: function level reset and seven virtual functions.
pub fn igb() -> SimFunction {
    igb_port(0)
}

/// Intel 82576 Ethernet with both ports.
pub fn igb_pair() -> [SimFunction; 2] {
    [igb_port(1).multifunction(), igb_port(0).multifunction()]
}

/// One port; `next` is the next one's function number, 0 for none.
fn igb_port(next: u8) -> SimFunction {
    SimFunction::endpoint(0x8086, 0x10c9, 0x02_00_00)
        .with_bar(0, MEMORY32, 128 * KIB)
        .with_bar(1, MEMORY32, 4 * MIB)
        .with_bar(2, BarKind::Io, 32)
        .with_bar(3, MEMORY32, 16 * KIB)
        .with_pin(1)
        .with_power_management(false)
        .with_msi(0)
        .with_msi_x(10, (3, 0), (3, 0x2000))
        .with_express(PortType::Endpoint, true)
        .with_reset_time(50_000)
        .with_advanced_errors()
        .with_ari(next)
        .with_sr_iov(
            7,
            (0x180, 2),
            0x10ca,
            &[(0, MEMORY64, 16 * KIB), (3, MEMORY64, 16 * KIB)],
        )
}

/// A graphics processor with 16 GiB of memory in a BAR.
pub fn gpu() -> SimFunction {
    SimFunction::endpoint(0x10de, 0x1eb8, 0x03_02_00)
        .with_bar(0, MEMORY32, 16 * MIB)
        .with_bar(1, PREFETCHABLE, 16 * GIB)
        .with_bar(3, PREFETCHABLE, 32 * MIB)
        .with_pin(1)
        .with_power_management(true)
        .with_msi(0)
        .with_express(PortType::Endpoint, true)
        .with_msi_x(6, (0, 0xb9_0000), (0, 0xba_0000))
        .with_advanced_errors()
}

/// An NVMe disk whose MSI-X table shares a page with registers.
pub fn nvme() -> SimFunction {
    SimFunction::endpoint(0x144d, 0xa808, 0x01_08_02)
        .with_bar(0, MEMORY64, 16 * KIB)
        .with_pin(1)
        .with_power_management(true)
        .with_msi(5)
        .with_express(PortType::Endpoint, true)
        .with_msi_x(33, (0, 0x3000), (0, 0x3800))
        .with_advanced_errors()
}

/// A USB host controller with I/O ports and a ROM; power management is its one way to be reset.
pub fn xhci() -> SimFunction {
    SimFunction::endpoint(0x1106, 0x3483, 0x0c_03_30)
        .with_bar(0, MEMORY64, 4 * KIB)
        .with_bar(2, BarKind::Io, 256)
        .with_rom(64 * 1024)
        .with_pin(1)
        .with_power_management(false)
        .with_msi(2)
        .with_express(PortType::Endpoint, false)
        .with_advanced_errors()
}

/// A device with registers of less than a page and nothing to reset it by.
pub fn serial_card() -> SimFunction {
    SimFunction::endpoint(0x9710, 0x9835, 0x07_00_02)
        .with_bar(0, BarKind::Io, 8)
        .with_bar(1, MEMORY32, 256)
        .with_pin(1)
}

/// A root port with ACS and hot plug.
pub fn root_port() -> SimFunction {
    port(PortType::RootPort).with_acs(FULL_ACS)
}

/// A root port that leaves ACS out.
pub fn root_port_without_acs() -> SimFunction {
    port(PortType::RootPort)
}

/// A switch's upstream port.
pub fn upstream_port() -> SimFunction {
    port(PortType::SwitchUpstream)
}

/// A switch's downstream port with ACS.
pub fn downstream_port() -> SimFunction {
    port(PortType::SwitchDownstream).with_acs(FULL_ACS)
}

/// A switch's downstream port that leaves ACS out.
pub fn switch_port_without_acs() -> SimFunction {
    port(PortType::SwitchDownstream)
}

/// A bridge from PCI Express to conventional PCI, without a 64-bit window.
pub fn legacy_bridge() -> SimFunction {
    SimFunction::bridge(0x10b5, 0x8112)
        .with(0x24, Width::Dword, 0)
        .with_writable(0x24, Width::Dword, 0)
        .with_writable(0x28, Width::Dword, 0)
        .with_writable(0x2c, Width::Dword, 0)
        .with_express(PortType::ToPciBridge, false)
}

/// The host bridge's own function, as QEMU's machines have it.
pub fn host_bridge() -> SimFunction {
    SimFunction::endpoint(0x1b36, 0x0008, 0x06_00_00)
}

fn port(kind: PortType) -> SimFunction {
    SimFunction::bridge(0x1b36, 0x000c)
        .with_pin(1)
        .with_power_management(true)
        .with_msi(0)
        .with_express(kind, false)
        .with_advanced_errors()
}
