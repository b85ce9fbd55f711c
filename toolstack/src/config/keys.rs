//! The keys that configurations have, to tell those that mean nothing here from mistakes.

use platform_dt::distance;

use super::diagnostic::{Diagnostic, Span};

/// Keys that are read.
const KNOWN: [&str; 37] = [
    "cap",
    "cmdline",
    "cpu_weight",
    "cpus",
    "cpus_soft",
    "device_tree",
    "dtdev",
    "extra",
    "force_assign_without_iommu",
    "gic_version",
    "iomem",
    "irqs",
    "kernel",
    "max_event_channels",
    "max_grant_frames",
    "max_maptrack_frames",
    "maxmem",
    "maxvcpus",
    "memory",
    "name",
    "nr_spis",
    "on_crash",
    "on_poweroff",
    "on_reboot",
    "on_watchdog",
    "passthrough",
    "pci",
    "pci_msitranslate",
    "pci_permissive",
    "pci_power_mgmt",
    "pci_seize",
    "ramdisk",
    "root",
    "type",
    "uuid",
    "vcpus",
    "vuart",
];

/// Keys of xl that ask for something which a guest here does not have yet.
const NOT_YET: [(&str, &str); 12] = [
    (
        "disk",
        "a virtual disk needs a backend in the control domain",
    ),
    (
        "vif",
        "a virtual network card needs a backend in the control domain",
    ),
    (
        "p9",
        "a shared folder needs a backend in the control domain",
    ),
    (
        "vfb",
        "a virtual screen needs a backend in the control domain",
    ),
    (
        "vtpm",
        "a virtual TPM needs a backend in the control domain",
    ),
    ("virtio", "virtio devices need a device model"),
    ("channel", "a channel needs a backend in the control domain"),
    ("tee", "there is no mediator for a trusted environment"),
    ("sve", "guests have no SVE"),
    ("altp2m", "there is one view of a guest's memory"),
    ("llc_colors", "memory is not coloured"),
    ("pool", "there is one pool of CPUs"),
];

/// Keys of xl that mean nothing for a guest on Arm, or nothing that a guest would notice.
const IGNORED: [&str; 43] = [
    "acpi",
    "acpi_firmware",
    "altp2mhvm",
    "apic",
    "bios",
    "boot",
    "bootloader",
    "bootloader_args",
    "builder",
    "claim_mode",
    "cpuid",
    "device_model_version",
    "driver_domain",
    "firmware",
    "hap",
    "hpet",
    "init_seclabel",
    "keymap",
    "localtime",
    "mca_caps",
    "nestedhvm",
    "nomigrate",
    "nx",
    "on_soft_reset",
    "on_xend_start",
    "on_xend_stop",
    "pae",
    "pvh",
    "rdm",
    "rtc_timeoffset",
    "sdl",
    "seclabel",
    "serial",
    "shadow_memory",
    "stdvga",
    "tsc_mode",
    "usb",
    "usbdevice",
    "vga",
    "viridian",
    "vnc",
    "vpt_align",
    "xen_platform_pci",
];

/// What to say of a key that nobody has read.
pub fn judge(key: &str, span: Span) -> Diagnostic {
    if let Some((_, reason)) = NOT_YET.iter().find(|(name, _)| *name == key) {
        return Diagnostic::error(span, format!("`{key}` is not available yet: {reason}"));
    }
    if IGNORED.contains(&key) {
        let message = format!("`{key}` means nothing for guests on Arm and is ignored");
        return Diagnostic::warning(span, message);
    }
    let mut message = format!("unknown key `{key}` is ignored");
    if let Some(near) = nearest(key) {
        message += &format!("; did you mean `{near}`?");
    }
    Diagnostic::warning(span, message)
}

/// The known key that is most like `key`, if one is.
fn nearest(key: &str) -> Option<&'static str> {
    let known = KNOWN.into_iter().chain(NOT_YET.map(|(name, _)| name));
    let near = known.filter_map(|name| Some((distance(key, name)?, name)));
    let (distance, name) = near.min_by_key(|(distance, _)| *distance)?;
    (distance <= key.len().div_ceil(3)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_named() {
        assert_eq!(nearest("memroy"), Some("memory"));
        assert_eq!(nearest("vcpu"), Some("vcpus"));
        assert_eq!(nearest("on-crash"), Some("on_crash"));
        assert_eq!(nearest("something_else_entirely"), None);
        assert_eq!(nearest("Memory"), Some("memory"));
    }
}
