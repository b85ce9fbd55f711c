//! The files that tests boot, named by the environment.

use std::env;
use std::path::PathBuf;

/// The files that tests boot.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The image: `XEN_RS_IMAGE`.
    pub image: PathBuf,
    /// Debian's Linux 6.1 for arm64: `XEN_RS_KERNEL`.
    pub kernel: Option<PathBuf>,
    /// Debian's Linux 6.12 for arm64: `XEN_RS_KERNEL_6_12`.
    pub newer_kernel: Option<PathBuf>,
    /// A static shell for arm64: `XEN_RS_BUSYBOX`.
    pub busybox: Option<PathBuf>,
    /// The device trees of that kernel's package: `XEN_RS_DTB_DIR`.
    pub device_trees: Option<PathBuf>,
    /// U-Boot for QEMU's virt board: `XEN_RS_UBOOT`.
    pub u_boot: Option<PathBuf>,
    /// Debian's Xen 4.20 for arm64: `XEN_RS_XEN`.
    pub xen: Option<PathBuf>,
    /// The guest that makes calls and accesses that no sane guest makes: `XEN_RS_FUZZ_GUEST`.
    pub fuzz_guest: Option<PathBuf>,
    /// The folder of programs for Dom0, `xrs` among them: `XEN_RS_PROGRAMS`.
    pub programs: Option<PathBuf>,
    /// Where logs go: `XEN_RS_LOG_DIR`.
    pub logs: PathBuf,
}

impl Artifacts {
    /// What the environment names; none if there is no image.
    #[must_use]
    pub fn from_env() -> Option<Self> {
        let file = |name| env::var_os(name).map(PathBuf::from);
        Some(Self {
            image: file("XEN_RS_IMAGE")?,
            kernel: file("XEN_RS_KERNEL"),
            newer_kernel: file("XEN_RS_KERNEL_6_12"),
            busybox: file("XEN_RS_BUSYBOX"),
            device_trees: file("XEN_RS_DTB_DIR"),
            u_boot: file("XEN_RS_UBOOT"),
            xen: file("XEN_RS_XEN"),
            fuzz_guest: file("XEN_RS_FUZZ_GUEST"),
            programs: file("XEN_RS_PROGRAMS"),
            logs: file("XEN_RS_LOG_DIR").unwrap_or_else(|| env::temp_dir().join("xen-rs-logs")),
        })
    }
}
