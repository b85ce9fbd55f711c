//! Asks the hypervisor what it is: every sub-operation of `xen_version`, through privcmd.

use anyhow::Result;
use dom0_programs::privcmd::Privcmd;
use xen_abi::hypercall::Hypercall::XenVersion;
use xen_abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, COMMAND_LINE_LEN, CompileInfo, EXTRA_VERSION_LEN, FeatureInfo,
    GUEST_HANDLE_LEN, PlatformParameters, VersionOp,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

fn main() -> Result<()> {
    let xen = Privcmd::open()?;
    let version = xen.call(XenVersion.number(), [0; 5])?;
    println!("VERSION: {}.{}", version >> 16, version & 0xffff);
    let extra: [u8; EXTRA_VERSION_LEN] = ask(&xen, VersionOp::ExtraVersion)?;
    println!("VERSION: extra {}", text(&extra));
    let info: CompileInfo = ask(&xen, VersionOp::CompileInfo)?;
    println!(
        "VERSION: compiler {}, by {}, domain {}, date {}",
        text(&info.compiler),
        text(&info.compile_by),
        text(&info.compile_domain),
        text(&info.compile_date)
    );
    let capabilities: [u8; CAPABILITIES_LEN] = ask(&xen, VersionOp::Capabilities)?;
    println!("VERSION: capabilities {}", text(&capabilities));
    let changeset: [u8; CHANGESET_LEN] = ask(&xen, VersionOp::Changeset)?;
    println!("VERSION: changeset {}", text(&changeset));
    let platform: PlatformParameters = ask(&xen, VersionOp::PlatformParameters)?;
    println!("VERSION: virtual start {:#x}", platform.virt_start);
    let features: FeatureInfo = ask(&xen, VersionOp::GetFeatures)?;
    println!("VERSION: features {:#x}", features.submap);
    let size = xen.call(
        XenVersion.number(),
        [VersionOp::PageSize.number(), 0, 0, 0, 0],
    )?;
    println!("VERSION: pages of {size}");
    let handle: [u8; GUEST_HANDLE_LEN] = ask(&xen, VersionOp::GuestHandle)?;
    println!("VERSION: handle {handle:02x?}");
    let line: [u8; COMMAND_LINE_LEN] = ask(&xen, VersionOp::CommandLine)?;
    println!("VERSION: command line {}", text(&line));
    for operation in [
        VersionOp::ExtraVersion2,
        VersionOp::Capabilities2,
        VersionOp::Changeset2,
        VersionOp::CommandLine2,
    ] {
        println!("VERSION: {operation:?} {}", long_text(&xen, operation)?);
    }
    match xen.call(
        XenVersion.number(),
        [VersionOp::BuildId.number(), 0, 0, 0, 0],
    ) {
        Ok(length) => println!("VERSION: build id of {length} bytes"),
        Err(error) => println!("VERSION: build id: {error}"),
    }
    let unknown = xen.call(XenVersion.number(), [99, 0, 0, 0, 0]);
    println!("VERSION: unknown operation: {:?}", unknown.map_err(errno));
    let nowhere = [VersionOp::Capabilities.number(), 8, 0, 0, 0];
    let refused = xen.call(XenVersion.number(), nowhere);
    println!(
        "VERSION: a pointer to nowhere: {:?}",
        refused.map_err(errno)
    );
    let unknown = xen.call(1000, [0; 5]);
    println!("VERSION: unknown hypercall: {:?}", unknown.map_err(errno));
    Ok(())
}

fn errno(error: std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

fn ask<T: FromBytes + IntoBytes + Immutable>(xen: &Privcmd, operation: VersionOp) -> Result<T> {
    let mut answer = T::new_zeroed();
    xen.operate(XenVersion, operation.number(), &mut answer)?;
    Ok(answer)
}

/// A string of any length: asked for with a room of 512 bytes.
fn long_text(xen: &Privcmd, operation: VersionOp) -> Result<String> {
    let mut buffer = [0_u8; 512 + 4];
    let room = (buffer.len() - 4) as u32;
    buffer[..4].copy_from_slice(&room.to_le_bytes());
    let length = xen.operate(XenVersion, operation.number(), &mut buffer)?;
    Ok(format!("{length} bytes: {}", text(&buffer[4..])))
}

/// A string up to its zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}
