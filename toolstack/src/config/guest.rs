//! What a guest is to be.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::devices::{self, HostDevice, IoMemory, PciFunction};
use super::fields::{Fields, Spanned};
use super::parse::{Value, ValueKind};
use super::types::{CpuSet, EndAction, EndActions, GicChoice, GuestName, Passthrough};

/// The most vCPUs that Xen's Arm layout has room for.
const MAX_VCPUS: u64 = 128;
/// The most memory that Xen's Arm layout has room for, in MiB: 3 GiB and 1016 GiB.
const MAX_MEMORY: u64 = (3 + 1016) << 10;
/// The least memory that a guest can start with, in MiB.
const MIN_MEMORY: u64 = 8;
/// Shared interrupts of a guest: what Xen's controllers have.
const MAX_SPIS: u64 = 960;
/// The first shared interrupt and the end of them.
const SPIS: std::ops::Range<u64> = 32..1020;
/// The interrupt of the virtual UART.
const VUART_INTERRUPT: u64 = 32;
/// Letters of a command line: what Linux for Arm takes.
const MAX_COMMAND_LINE: usize = 2047;

/// What a guest is to be.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GuestConfig {
    /// What it is called.
    pub name: GuestName,
    /// Its identity; one is made up if there is none.
    pub uuid: Option<Uuid>,
    /// The file of its kernel.
    pub kernel: PathBuf,
    /// The file of its ramdisk.
    pub ramdisk: Option<PathBuf>,
    /// Its kernel's command line.
    pub command_line: String,
    /// Memory in MiB.
    pub memory: u64,
    /// vCPUs.
    pub vcpus: u32,
    /// CPUs on which each runs; all for those that are not in the list.
    pub cpus: Vec<CpuSet>,
    /// CPUs on which each should run.
    pub cpus_soft: Vec<CpuSet>,
    /// Its share of the CPUs, 256 for others.
    pub weight: Option<u16>,
    /// The most of a CPU it may use, in per cent; 0 for no limit.
    pub cap: Option<u16>,
    /// Its interrupt controller.
    pub gic: GicChoice,
    /// Shared interrupts that it has at least.
    pub spis: u32,
    /// Whether it has a virtual UART.
    pub vuart: bool,
    /// Frames of its grant table.
    pub grant_frames: u32,
    /// Frames for grants of others that it maps.
    pub maptrack_frames: u32,
    /// Its highest event channel.
    pub event_channels: u32,
    /// What happens when it ends.
    pub on_end: EndActions,
    /// Devices of PCI buses.
    pub pci: Vec<PciFunction>,
    /// Devices of the device tree.
    pub devices: Vec<HostDevice>,
    /// Interrupts of the machine.
    pub interrupts: Vec<u32>,
    /// Device memory.
    pub io_memory: Vec<IoMemory>,
    /// A device tree with nodes for its devices.
    pub device_tree: Option<PathBuf>,
    /// Whether it may have devices.
    pub passthrough: Passthrough,
    /// Devices that reach memory are given without an IOMMU, too.
    pub force_assign_without_iommu: bool,
}

impl GuestConfig {
    /// Makes it of settings; `None` if something that it needs is not there or wrong, which is told.
    /// Paths are relative to `folder`.
    pub fn read(fields: &mut Fields<'_>, folder: &Path) -> Option<Self> {
        check_type(fields);
        let name = name(fields);
        let uuid = uuid(fields);
        if !fields.has("kernel") {
            fields.missing("`kernel` is missing: the guest's kernel, an arm64 Image");
        }
        let kernel = path(fields, "kernel", folder);
        let ramdisk = path(fields, "ramdisk", folder);
        let command_line = command_line(fields);
        let memory = memory(fields);
        let vcpus = vcpus(fields);
        let mut small = |key: &str, least: u64, most: u64| {
            fields
                .number(key, least, most)
                .map(|number| number.value as u32)
        };
        let weight = small("cpu_weight", 1, 65535).map(|weight| weight as u16);
        let cap = small("cap", 0, 65535).map(|cap| cap as u16);
        let spis = small("nr_spis", 0, MAX_SPIS).unwrap_or(0);
        let grant_frames = small("max_grant_frames", 1, 64).unwrap_or(64);
        let maptrack_frames = small("max_maptrack_frames", 0, 1024).unwrap_or(1024);
        let event_channels = small("max_event_channels", 1, 4095).unwrap_or(1023);
        let gic = fields.word("gic_version", &GIC_WORDS);
        let vuart = fields.word("vuart", &[("sbsa_uart", true)]).is_some();
        let passthrough = passthrough(fields);
        let config = Self {
            cpus: cpu_sets(fields, "cpus", vcpus),
            cpus_soft: cpu_sets(fields, "cpus_soft", vcpus),
            on_end: on_end(fields),
            pci: pci(fields, passthrough),
            devices: parsed(fields, "dtdev", HostDevice::parse),
            interrupts: interrupts(fields, vuart),
            io_memory: io_memory(fields),
            device_tree: path(fields, "device_tree", folder),
            passthrough,
            force_assign_without_iommu: fields
                .flag("force_assign_without_iommu")
                .is_some_and(|flag| flag.value),
            name: name?,
            uuid,
            kernel: kernel?,
            ramdisk,
            command_line,
            memory: memory?,
            vcpus,
            weight,
            cap,
            gic: gic.map_or(GicChoice::Default, |choice| choice.value),
            spis,
            vuart,
            grant_frames,
            maptrack_frames,
            event_channels,
        };
        Some(config)
    }

    /// Whether it may have devices.
    pub fn has_devices(&self) -> bool {
        !self.pci.is_empty() || self.passthrough == Passthrough::Enabled
    }

    /// What it asks for that guests do not have yet, one line each.
    pub fn not_available(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut refuse = |asked: bool, key: &str, what: &str| {
            if asked {
                lines.push(format!("`{key}` is not available yet: {what}"));
            }
        };
        let devices = "devices of the device tree are not given to guests";
        refuse(!self.devices.is_empty(), "dtdev", devices);
        refuse(self.device_tree.is_some(), "device_tree", devices);
        refuse(
            !self.interrupts.is_empty(),
            "irqs",
            "interrupts are not given to guests",
        );
        refuse(
            !self.io_memory.is_empty(),
            "iomem",
            "device memory is not given to guests",
        );
        let ends = [
            ("on_poweroff", self.on_end.poweroff),
            ("on_reboot", self.on_end.reboot),
            ("on_crash", self.on_end.crash),
            ("on_watchdog", self.on_end.watchdog),
        ];
        for (key, action) in ends {
            let what = "there are destroy, restart and preserve";
            let known = matches!(
                action,
                EndAction::Destroy | EndAction::Restart | EndAction::Preserve
            );
            let word = EndAction::WORDS.iter().find(|(_, of)| *of == action);
            let word = word.map_or("", |(word, _)| word);
            refuse(!known, &format!("{key} = \"{word}\""), what);
        }
        lines
    }
}

const GIC_WORDS: [(&str, GicChoice); 3] = [
    ("default", GicChoice::Default),
    ("v2", GicChoice::V2),
    ("v3", GicChoice::V3),
];

/// On Arm there is one kind of guest, which xl calls pvh.
fn check_type(fields: &mut Fields<'_>) {
    let words = [("pvh", true), ("pv", true), ("hvm", false)];
    if let Some(Spanned { value: false, span }) = fields.word("type", &words) {
        fields.error(
            span,
            "there are no \"hvm\" guests on Arm: leave `type` out or write \"pvh\"",
        );
    }
}

fn name(fields: &mut Fields<'_>) -> Option<GuestName> {
    if !fields.has("name") {
        fields.missing("`name` is missing: what the guest is called");
    }
    let Spanned { value, span } = fields.text("name")?;
    let name = GuestName::new(&value);
    name.map_err(|reason| fields.error(span, reason)).ok()
}

fn uuid(fields: &mut Fields<'_>) -> Option<Uuid> {
    let Spanned { value, span } = fields.text("uuid")?;
    match Uuid::parse_str(&value) {
        Ok(uuid) if !uuid.is_nil() => Some(uuid),
        _ => {
            let form =
                "a UUID is written as 01234567-89ab-cdef-0123-456789abcdef, and not all zero";
            fields.error(span, form);
            None
        }
    }
}

fn path(fields: &mut Fields<'_>, key: &str, folder: &Path) -> Option<PathBuf> {
    let Spanned { value, span } = fields.text(key)?;
    if value.is_empty() {
        fields.error(span, format!("`{key}` is empty: it is the path of a file"));
        return None;
    }
    if value.contains('\0') {
        fields.error(span, "a path has no zero byte");
        return None;
    }
    Some(folder.join(value))
}

/// `cmdline`, or what `root` and `extra` make, as xl does.
fn command_line(fields: &mut Fields<'_>) -> String {
    let root = fields.text("root");
    let extra = fields.text("extra");
    let (line, span) = match fields.text("cmdline") {
        Some(Spanned { value, span }) => {
            for other in [&root, &extra].into_iter().flatten() {
                let message = "`cmdline` is the whole command line: `root` and `extra` are ignored";
                fields.warning(other.span.clone(), message);
            }
            (value, span)
        }
        None => {
            let mut line = String::new();
            let mut place = 0..0;
            if let Some(Spanned { value, span }) = root {
                line = format!("root={value}");
                place = span;
            }
            if let Some(Spanned { value, span }) = extra {
                if !line.is_empty() {
                    line.push(' ');
                }
                line += &value;
                place = span;
            }
            (line, place)
        }
    };
    if line.len() > MAX_COMMAND_LINE {
        let message = format!(
            "the command line has {} letters; Linux takes {MAX_COMMAND_LINE}",
            line.len()
        );
        fields.error(span.clone(), message);
    }
    if line.contains('\0') {
        fields.error(span, "a command line has no zero byte");
    }
    line
}

fn memory(fields: &mut Fields<'_>) -> Option<u64> {
    let most = fields.number("maxmem", MIN_MEMORY, MAX_MEMORY);
    let Some(memory) = fields.take("memory") else {
        match most {
            Some(most) => return Some(most.value),
            None => fields.missing("`memory` is missing: how many MiB the guest has"),
        }
        return None;
    };
    let memory = fields.as_number(memory, "`memory`, in MiB,", MIN_MEMORY, MAX_MEMORY)?;
    let Some(most) = most else {
        return Some(memory.value);
    };
    if most.value < memory.value {
        let message = format!("`maxmem` is less than `memory`, which is {}", memory.value);
        fields.error(most.span, message);
    } else if most.value > memory.value {
        let message = "guests have all of their memory from the start: `maxmem` is taken";
        fields.warning(most.span, message);
    }
    Some(most.value)
}

fn vcpus(fields: &mut Fields<'_>) -> u32 {
    let vcpus = fields.number("vcpus", 1, MAX_VCPUS);
    let most = fields.number("maxvcpus", 1, MAX_VCPUS);
    match (vcpus, most) {
        (Some(vcpus), Some(most)) => {
            if most.value < vcpus.value {
                let message = format!("`maxvcpus` is less than `vcpus`, which is {}", vcpus.value);
                fields.error(most.span, message);
            } else if most.value > vcpus.value {
                let message = "guests have all of their vCPUs from the start: `maxvcpus` is taken";
                fields.warning(most.span, message);
            }
            most.value as u32
        }
        (vcpus, most) => vcpus.or(most).map_or(1, |number| number.value as u32),
    }
}

/// One set for all vCPUs, or a list with one for each.
fn cpu_sets(fields: &mut Fields<'_>, key: &str, vcpus: u32) -> Vec<CpuSet> {
    let Some(value) = fields.take(key) else {
        return Vec::new();
    };
    let span = value.span.clone();
    let values: Vec<Value> = match value.kind {
        ValueKind::List(values) => values,
        _ => vec![value; vcpus as usize],
    };
    if values.len() > vcpus as usize {
        let message = format!("`{key}` has {} entries for {vcpus} vCPUs", values.len());
        fields.error(span, message);
    }
    let mut sets = Vec::new();
    for value in values {
        let Some(Spanned { value, span }) = fields.as_text(value, &format!("an entry of `{key}`"))
        else {
            continue;
        };
        match CpuSet::parse(&value) {
            Ok(set) => sets.push(set),
            Err(reason) => {
                fields.error(span, reason);
                break;
            }
        }
    }
    sets
}

fn on_end(fields: &mut Fields<'_>) -> EndActions {
    let usual = EndActions::default();
    let mut action = |key: &str, usual| {
        let chosen = fields.word(key, &EndAction::WORDS);
        chosen.map_or(usual, |action| action.value)
    };
    EndActions {
        poweroff: action("on_poweroff", usual.poweroff),
        reboot: action("on_reboot", usual.reboot),
        crash: action("on_crash", usual.crash),
        watchdog: action("on_watchdog", usual.watchdog),
    }
}

/// The entries of a list, each read by `parse`.
fn parsed<T>(fields: &mut Fields<'_>, key: &str, parse: fn(&str) -> Result<T, String>) -> Vec<T> {
    spanned(fields, key, parse)
        .into_iter()
        .map(|one| one.value)
        .collect()
}

fn spanned<T>(
    fields: &mut Fields<'_>,
    key: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Vec<Spanned<T>> {
    let mut all = Vec::new();
    for Spanned { value, span } in fields.texts(key) {
        match parse(&value) {
            Ok(value) => all.push(Spanned { value, span }),
            Err(reason) => fields.error(span, reason),
        }
    }
    all
}

/// Options of xl for all entries of `pci`, and which option of one they stand for.
const PCI_OPTIONS: [(&str, &str); 3] = [
    ("pci_permissive", "permissive"),
    ("pci_msitranslate", "msitranslate"),
    ("pci_power_mgmt", "power_mgmt"),
];

fn pci(fields: &mut Fields<'_>, passthrough: Passthrough) -> Vec<PciFunction> {
    for (key, option) in PCI_OPTIONS {
        if let (Some(flag), Some(why)) = (fields.flag(key), devices::why_ignored(option)) {
            fields.warning(flag.span, devices::ignored(key, why));
        }
    }
    let seize = fields.flag("pci_seize").is_some_and(|flag| flag.value);
    let parse = |text: &str| PciFunction::parse_with(text, seize);
    let mut functions: Vec<PciFunction> = Vec::new();
    for Spanned { value, span } in spanned(fields, "pci", parse) {
        let same =
            |other: &PciFunction| other.device == value.device && other.function == value.function;
        if functions.iter().any(same) {
            fields.error(span, format!("{value} is in the list already"));
            continue;
        }
        if passthrough == Passthrough::Disabled {
            let message = "`passthrough` is \"disabled\": the guest can have no devices";
            fields.error(span.clone(), message);
        }
        for remark in value.remarks() {
            fields.warning(span.clone(), remark);
        }
        functions.push(value);
    }
    functions
}

fn interrupts(fields: &mut Fields<'_>, vuart: bool) -> Vec<u32> {
    let mut interrupts: Vec<u32> = Vec::new();
    for value in fields.list("irqs") {
        let what = "an entry of `irqs`, a shared interrupt,";
        let Some(Spanned { value, span }) = fields.as_number(value, what, SPIS.start, SPIS.end - 1)
        else {
            continue;
        };
        if vuart && value == VUART_INTERRUPT {
            fields.error(span, "interrupt 32 is the virtual UART's");
        } else if interrupts.contains(&(value as u32)) {
            fields.error(span, format!("interrupt {value} is in the list already"));
        } else {
            interrupts.push(value as u32);
        }
    }
    interrupts
}

fn io_memory(fields: &mut Fields<'_>) -> Vec<IoMemory> {
    let mut all: Vec<IoMemory> = Vec::new();
    for Spanned { value, span } in spanned(fields, "iomem", IoMemory::parse) {
        if all.iter().any(|other| other.overlaps_in_guest(&value)) {
            fields.error(
                span,
                "the guest sees other device memory at one of these pages",
            );
        } else {
            all.push(value);
        }
    }
    all
}

fn passthrough(fields: &mut Fields<'_>) -> Passthrough {
    let words = [
        ("default", Passthrough::Default),
        ("disabled", Passthrough::Disabled),
        ("enabled", Passthrough::Enabled),
        ("share_pt", Passthrough::Enabled),
    ];
    let chosen = fields.word("passthrough", &words);
    chosen.map_or(Passthrough::Default, |choice| choice.value)
}
