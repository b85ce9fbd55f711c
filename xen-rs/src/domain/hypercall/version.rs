//! `xen_version`: what hypervisor this is.

use spin::Once;
use xen_abi::Errno;
use xen_abi::features::{Feature, SUBMAPS};
use xen_abi::version::{
    CAPABILITIES_LEN, CHANGESET_LEN, COMMAND_LINE_LEN, CompileInfo, EXTRA_VERSION_LEN, FeatureInfo,
    GUEST_HANDLE_LEN, PlatformParameters, VarBufHeader, VersionOp, XEN_VERSION,
};

use super::Outcome;
use crate::domain::Domain;
use crate::domain::memory::{copy_to, read, write};
use crate::domain::run::Running;

/// What follows "4.20": whose version it is.
const EXTRA_VERSION: &str = concat!("-xen-rs-", env!("CARGO_PKG_VERSION"));
/// Guests that run: AArch64 with Xen 3's hypercalls, as Xen calls them all.
const CAPABILITIES: &str = "xen-3.0-aarch64 ";
/// The image does not know its revision, so that equal sources make equal images; this is what Xen
/// says then.
const CHANGESET: &str = "unavailable";
/// What others are told of what only the control domain may know.
const DENIED: &str = "<denied>";

static COMMAND_LINE: Once<&'static str> = Once::new();

/// Remembers the hypervisor's command line.
pub fn set_command_line(line: &'static str) {
    COMMAND_LINE.call_once(|| line);
}

/// `xen_version`.
pub fn xen_version(running: &mut Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let domain = running.domain;
    match VersionOp::from_number(operation).ok_or(Errno::NoCall)? {
        VersionOp::Version => return Ok(XEN_VERSION.into()),
        VersionOp::PageSize => return Ok(xen_types::PAGE_SIZE),
        VersionOp::ExtraVersion => {
            write(domain, buffer, &text::<EXTRA_VERSION_LEN>(EXTRA_VERSION))?;
        }
        VersionOp::CompileInfo => write(domain, buffer, &compile_info())?,
        VersionOp::Capabilities => {
            write(domain, buffer, &text::<CAPABILITIES_LEN>(CAPABILITIES))?;
        }
        VersionOp::Changeset => write(domain, buffer, &text::<CHANGESET_LEN>(CHANGESET))?,
        VersionOp::PlatformParameters => {
            // The hypervisor has no part of a guest's virtual space.
            write(domain, buffer, &PlatformParameters { virt_start: 0 })?;
        }
        VersionOp::GetFeatures => {
            let mut info: FeatureInfo = read(domain, buffer)?;
            if info.submap_idx >= SUBMAPS {
                return Err(Errno::Invalid.into());
            }
            info.submap = features(domain);
            write(domain, buffer, &info)?;
        }
        VersionOp::GuestHandle => {
            // Dom0 has the identity of nobody, as under Xen.
            let handle: [u8; GUEST_HANDLE_LEN] = *domain.handle.lock();
            write(domain, buffer, &handle)?;
        }
        VersionOp::CommandLine => {
            write(
                domain,
                buffer,
                &text::<COMMAND_LINE_LEN>(command_line(domain)),
            )?;
        }
        // The image has no build id.
        VersionOp::BuildId => return Err(Errno::NoData.into()),
        VersionOp::ExtraVersion2 => return long_text(domain, buffer, EXTRA_VERSION),
        VersionOp::Capabilities2 => return long_text(domain, buffer, CAPABILITIES),
        VersionOp::Changeset2 => return long_text(domain, buffer, CHANGESET),
        VersionOp::CommandLine2 => return long_text(domain, buffer, command_line(domain)),
    }
    Ok(0)
}

/// What the domain can rely on.
fn features(domain: &Domain) -> u32 {
    let control = domain.is_control().then_some(Feature::Dom0);
    let mapped = if domain.is_direct_mapped {
        Feature::DirectMapped
    } else {
        Feature::NotDirectMapped
    };
    [
        Feature::WritablePageTables,
        Feature::AutoTranslatedPhysmap,
        Feature::MemoryOpVnodeSupported,
        Feature::ArmSmcccSupported,
        mapped,
    ]
    .iter()
    .chain(&control)
    .fold(0, |word, feature| word | feature.bit())
}

fn compile_info() -> CompileInfo {
    CompileInfo {
        compiler: text(concat!("rustc, at least ", env!("CARGO_PKG_RUST_VERSION"))),
        compile_by: text("xen-rs"),
        compile_domain: text(""),
        compile_date: text(""),
    }
}

fn command_line(domain: &Domain) -> &'static str {
    if domain.is_control() {
        COMMAND_LINE.get().copied().unwrap_or_default()
    } else {
        DENIED
    }
}

/// A string that ends with a zero, cut to its room.
fn text<const LENGTH: usize>(text: &str) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    let room = LENGTH.saturating_sub(1);
    for (place, byte) in bytes.iter_mut().take(room).zip(text.bytes()) {
        *place = byte;
    }
    bytes
}

/// Returns the length of a string, and copies it behind the header of the buffer if there is one.
fn long_text(domain: &Domain, buffer: u64, text: &str) -> Outcome {
    let length = text.len() as u64;
    if length == 0 {
        return Err(Errno::NoData.into());
    }
    if buffer != 0 {
        let header: VarBufHeader = read(domain, buffer)?;
        if u64::from(header.len) < length {
            return Err(Errno::NoBuffers.into());
        }
        let bytes = buffer.wrapping_add(size_of::<VarBufHeader>() as u64);
        copy_to(domain, bytes, text.as_bytes())?;
    }
    Ok(length)
}
