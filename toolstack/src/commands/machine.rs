//! `xrs info` and `xrs dmesg`.

use serde::Serialize;

use super::{print, print_json};
use crate::failure::Failure;
use crate::hypervisor::{Hypervisor, Machine, Scheduler, Version};

#[derive(Serialize)]
struct Info {
    version: Version,
    machine: Machine,
    scheduler: Scheduler,
    domains: usize,
}

/// Shows the hypervisor and the machine.
pub fn info(hypervisor: &impl Hypervisor, json: bool) -> Result<(), Failure> {
    let info = Info {
        version: hypervisor.version()?,
        machine: hypervisor.machine()?,
        scheduler: hypervisor.scheduler()?,
        domains: hypervisor.domains()?.len(),
    };
    if json {
        return print_json(&info);
    }
    let Info {
        version,
        machine,
        scheduler,
        domains,
    } = info;
    let scheduler = match scheduler {
        Scheduler::Credit => "credit".to_string(),
        Scheduler::Credit2 => "credit2".to_string(),
        Scheduler::Null => "null".to_string(),
        Scheduler::Other(number) => format!("number {number}"),
    };
    let (major, minor) = version.number;
    let rows = [
        ("xen_version", format!("{major}.{minor}{}", version.extra)),
        ("xen_caps", version.capabilities),
        ("xen_commandline", version.command_line),
        ("xen_changeset", version.changeset),
        ("xen_scheduler", scheduler),
        ("nr_cpus", machine.cpus.to_string()),
        ("timer_khz", machine.timer_khz.to_string()),
        ("total_memory", format!("{} MiB", machine.total_kib / 1024)),
        ("free_memory", format!("{} MiB", machine.free_kib / 1024)),
        ("device_assignment", yes_or_no(machine.passthrough)),
        ("domains", domains.to_string()),
    ];
    let lines = rows.map(|(name, value)| format!("{name:18}: {value}\n"));
    print(&lines.concat())
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_string()
}

/// Shows the hypervisor's log.
pub fn log(hypervisor: &impl Hypervisor, clear: bool, json: bool) -> Result<(), Failure> {
    let log = hypervisor.log(clear)?;
    let log = String::from_utf8_lossy(&log).replace('\0', "");
    if json {
        return print_json(&log.lines().collect::<Vec<_>>());
    }
    print(&log)
}
