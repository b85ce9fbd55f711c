//! What hypervisor this is (`version.h`).

/// The version that is reported: tools are chosen by it (`XENVER_version`).
pub const XEN_VERSION: u32 = version_number(4, 20);

/// A version as `XENVER_version` returns it.
pub const fn version_number(major: u16, minor: u16) -> u32 {
    (major as u32) << 16 | minor as u32
}

/// Bytes of the string of [`VersionOp::ExtraVersion`].
pub const EXTRA_VERSION_LEN: usize = 16;
/// Bytes of the string of [`VersionOp::Capabilities`].
pub const CAPABILITIES_LEN: usize = 1024;
/// Bytes of the string of [`VersionOp::Changeset`].
pub const CHANGESET_LEN: usize = 64;
/// Bytes of the string of [`VersionOp::CommandLine`].
pub const COMMAND_LINE_LEN: usize = 1024;
/// Bytes of the identity of [`VersionOp::GuestHandle`] (`xen_domain_handle_t`).
pub const GUEST_HANDLE_LEN: usize = 16;

numbers! {
    /// Sub-operations of `xen_version` (`XENVER_…`).
    pub enum VersionOp: u64 {
        /// Returns the version number.
        Version = 0,
        /// What follows major and minor, 16 bytes.
        ExtraVersion = 1,
        /// Who compiled it with what: [`CompileInfo`].
        CompileInfo = 2,
        /// Kinds of guests that run, 1024 bytes.
        Capabilities = 3,
        /// The source's revision, 64 bytes.
        Changeset = 4,
        /// [`PlatformParameters`].
        PlatformParameters = 5,
        /// [`FeatureInfo`].
        GetFeatures = 6,
        /// Returns the page size.
        PageSize = 7,
        /// The UUID of the domain, 16 bytes.
        GuestHandle = 8,
        /// The hypervisor's command line, 1024 bytes.
        CommandLine = 9,
        /// The build's identity, a [`VarBufHeader`] and bytes.
        BuildId = 10,
        /// As 1, of any length.
        ExtraVersion2 = 11,
        /// As 3, of any length.
        Capabilities2 = 12,
        /// As 4, of any length.
        Changeset2 = 13,
        /// As 9, of any length.
        CommandLine2 = 14,
    }
}

layout! {
    /// `xen_compile_info`: strings that end with a zero.
    pub struct CompileInfo: 144 {
        /// Name and version of the compiler.
        0 compiler: [u8; 64],
        /// The user.
        64 compile_by: [u8; 16],
        /// The host's domain.
        80 compile_domain: [u8; 32],
        /// When.
        112 compile_date: [u8; 32],
    }

    /// `xen_platform_parameters`.
    pub struct PlatformParameters: 8 {
        /// First address of the hypervisor in the guest's virtual space; means nothing on arm64.
        0 virt_start: u64,
    }

    /// `xen_feature_info`.
    pub struct FeatureInfo: 8 {
        /// Which word of bits.
        0 submap_idx: u32,
        /// Out: the bits, see [`crate::features`].
        4 submap: u32,
    }

    /// The start of `xen_build_id` and `xen_varbuf`; bytes follow.
    pub struct VarBufHeader: 4 {
        /// Room for that many bytes; out: how many there are.
        0 len: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_4_20() {
        assert_eq!(XEN_VERSION, 0x0004_0014);
        assert_eq!(version_number(4, 17), 0x0004_0011);
    }
}
