//! What the hypervisor tells of itself and of domains.

use serde::Serialize;
use uuid::Uuid;
use xen_abi::DomId;
use xen_abi::domctl::{GetDomainInfo, gic_version, info_flags};
use xen_abi::sched::ShutdownReason;

use crate::config::GicChoice;

/// What hypervisor runs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Version {
    /// Major and minor number.
    pub number: (u16, u16),
    /// What follows them.
    pub extra: String,
    /// Kinds of guests that it runs.
    pub capabilities: String,
    /// Its command line.
    pub command_line: String,
    /// The revision of its source.
    pub changeset: String,
}

/// The machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Machine {
    /// CPUs that run.
    pub cpus: u32,
    /// The highest number that one may have.
    pub max_cpu: u32,
    /// kHz of the timer.
    pub timer_khz: u32,
    /// KiB of RAM.
    pub total_kib: u64,
    /// KiB that are free.
    pub free_kib: u64,
    /// Whether devices can be given to guests.
    pub passthrough: bool,
}

/// How vCPUs share CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// By weight, with caps.
    Credit,
    /// By weight.
    Credit2,
    /// Each vCPU has a CPU.
    Null,
    /// Another, by number.
    #[serde(untagged)]
    Other(u32),
}

/// What is asked for of a new domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDomain {
    /// Its identity.
    pub uuid: Uuid,
    /// How many vCPUs.
    pub vcpus: u32,
    /// Its highest event channel.
    pub event_channels: u32,
    /// Frames of its grant table.
    pub grant_frames: u32,
    /// Frames for what it maps of others.
    pub maptrack_frames: u32,
    /// Its interrupt controller; comes back as a version.
    pub gic: GicChoice,
    /// Its shared interrupts.
    pub spis: u32,
    /// Whether it may have devices.
    pub devices: bool,
    /// Comes back: Hz of the timer, if the register does not have it.
    pub clock_frequency: Option<u32>,
}

/// Why a domain has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EndReason {
    /// It has switched itself off.
    Poweroff,
    /// It wants to start again.
    Reboot,
    /// It wants to be saved.
    Suspend,
    /// It has failed.
    Crash,
    /// It has forgotten its watchdog.
    Watchdog,
    /// It wants to start again in the same memory.
    SoftReset,
    /// Another reason, by number.
    #[serde(untagged)]
    Other(u8),
}

impl EndReason {
    fn new(number: u8) -> Self {
        match ShutdownReason::from_number(number.into()) {
            Some(ShutdownReason::PowerOff) => Self::Poweroff,
            Some(ShutdownReason::Reboot) => Self::Reboot,
            Some(ShutdownReason::Suspend) => Self::Suspend,
            Some(ShutdownReason::Crash) => Self::Crash,
            Some(ShutdownReason::Watchdog) => Self::Watchdog,
            Some(ShutdownReason::SoftReset) => Self::SoftReset,
            None => Self::Other(number),
        }
    }

    /// What a person calls it.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Poweroff => "switched off",
            Self::Reboot => "wants to start again",
            Self::Suspend => "suspended",
            Self::Crash => "crashed",
            Self::Watchdog => "ended by its watchdog",
            Self::SoftReset => "wants a soft reset",
            Self::Other(_) => "ended",
        }
    }
}

/// A domain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DomainInfo {
    /// Its id.
    #[serde(serialize_with = "domain_number")]
    pub id: DomId,
    /// Its identity.
    pub uuid: Uuid,
    /// KiB that it has.
    pub memory_kib: u64,
    /// KiB that it may have.
    pub max_memory_kib: u64,
    /// vCPUs that are on.
    pub online_vcpus: u32,
    /// vCPUs that it has.
    pub vcpus: u32,
    /// Nanoseconds that its vCPUs have run.
    pub cpu_time: u64,
    /// Bits of its physical addresses.
    pub address_bits: u8,
    /// It runs at this moment.
    pub running: bool,
    /// All its vCPUs wait.
    pub blocked: bool,
    /// The toolstack has paused it.
    pub paused: bool,
    /// It is being destroyed.
    pub dying: bool,
    /// It has ended.
    pub ended: Option<EndReason>,
}

fn domain_number<S: serde::Serializer>(id: &DomId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u16(id.get())
}

impl DomainInfo {
    /// What the ABI's structure says.
    pub fn new(info: &GetDomainInfo) -> Self {
        let has = |flag| info.flags & flag != 0;
        let reason = || EndReason::new((info.flags >> info_flags::SHUTDOWN_SHIFT) as u8);
        Self {
            id: info.domain,
            uuid: Uuid::from_bytes(info.handle),
            memory_kib: info.tot_pages.saturating_mul(4),
            max_memory_kib: info.max_pages.saturating_mul(4),
            online_vcpus: info.nr_online_vcpus,
            vcpus: info.max_vcpu_id.saturating_add(1),
            cpu_time: info.cpu_time,
            address_bits: info.gpaddr_bits,
            running: has(info_flags::RUNNING),
            blocked: has(info_flags::BLOCKED),
            paused: has(info_flags::PAUSED),
            dying: has(info_flags::DYING),
            ended: has(info_flags::SHUTDOWN).then(reason),
        }
    }

    /// The six letters by which xl shows a domain's state.
    pub fn letters(&self) -> String {
        let crashed = self.ended == Some(EndReason::Crash);
        [
            (self.running, 'r'),
            (self.blocked, 'b'),
            (self.paused, 'p'),
            (self.ended.is_some(), 's'),
            (crashed, 'c'),
            (self.dying, 'd'),
        ]
        .map(|(set, letter)| if set { letter } else { '-' })
        .into_iter()
        .collect()
    }
}

/// A vCPU.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VcpuInfo {
    /// Its number.
    pub number: u32,
    /// It is on.
    pub online: bool,
    /// It waits for something.
    pub blocked: bool,
    /// It runs at this moment.
    pub running: bool,
    /// Nanoseconds that it has run.
    pub cpu_time: u64,
    /// The CPU on which it runs or has last run.
    pub cpu: u32,
    /// Where it may run.
    pub hard: Vec<u32>,
    /// Where it should.
    pub soft: Vec<u32>,
}

impl GicChoice {
    /// The ABI's number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Default => gic_version::NATIVE,
            Self::V2 => gic_version::V2,
            Self::V3 => gic_version::V3,
        }
    }

    /// What has this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            gic_version::NATIVE => Some(Self::Default),
            gic_version::V2 => Some(Self::V2),
            gic_version::V3 => Some(Self::V3),
            _ => None,
        }
    }
}
