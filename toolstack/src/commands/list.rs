//! `xrs list` and `xrs vcpu-list`.

use serde::Serialize;

use super::print_json;
use super::table::{print_table, table};
use crate::config::CpuSet;
use crate::failure::Failure;
use crate::guests::{self, Guest};
use crate::hypervisor::{DomainInfo, Hypervisor, VcpuInfo};
use crate::state::State;

#[derive(Serialize)]
struct ShownDomain<'a> {
    name: String,
    #[serde(flatten)]
    info: &'a DomainInfo,
    state: String,
}

#[derive(Serialize)]
struct ShownVcpu {
    name: String,
    domain: u16,
    #[serde(flatten)]
    info: VcpuInfo,
}

fn chosen(
    hypervisor: &impl Hypervisor,
    state: &State,
    guest: Option<&str>,
) -> Result<Vec<Guest>, Failure> {
    match guest {
        Some(name) => Ok(vec![guests::find(hypervisor, state, name)?]),
        None => Ok(guests::all(hypervisor, state)?),
    }
}

fn seconds(nanoseconds: u64) -> String {
    let tenths = nanoseconds / 100_000_000;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Lists domains.
pub fn domains(
    hypervisor: &impl Hypervisor,
    state: &State,
    guest: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let guests = chosen(hypervisor, state, guest)?;
    if json {
        let shown: Vec<_> = guests
            .iter()
            .map(|guest| ShownDomain {
                name: guest.name(),
                info: &guest.info,
                state: guest.info.letters(),
            })
            .collect();
        return print_json(&shown);
    }
    let mut table = table(
        &["Name", "ID", "Mem", "VCPUs", "State", "Time(s)"],
        &[1, 2, 3, 5],
    );
    for guest in &guests {
        let info = &guest.info;
        table.add_row([
            guest.name(),
            info.id.get().to_string(),
            (info.memory_kib / 1024).to_string(),
            info.online_vcpus.to_string(),
            info.letters(),
            seconds(info.cpu_time),
        ]);
    }
    print_table(&table)
}

/// Lists vCPUs.
pub fn vcpus(
    hypervisor: &impl Hypervisor,
    state: &State,
    guest: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let cpus = hypervisor.machine()?.max_cpu;
    let mut shown = Vec::new();
    for guest in chosen(hypervisor, state, guest)? {
        for number in 0..guest.info.vcpus {
            if let Some(info) = hypervisor.vcpu(guest.info.id, number)? {
                shown.push(ShownVcpu {
                    name: guest.name(),
                    domain: guest.info.id.get(),
                    info,
                });
            }
        }
    }
    if json {
        return print_json(&shown);
    }
    let header = [
        "Name",
        "ID",
        "VCPU",
        "CPU",
        "State",
        "Time(s)",
        "Affinity (Hard / Soft)",
    ];
    let mut table = table(&header, &[1, 2, 3, 5]);
    for vcpu in shown {
        let info = &vcpu.info;
        let (cpu, state) = match (info.online, info.running, info.blocked) {
            (false, _, _) => ("-".to_string(), "--p"),
            (true, true, _) => (info.cpu.to_string(), "r--"),
            (true, false, true) => (info.cpu.to_string(), "-b-"),
            (true, false, false) => (info.cpu.to_string(), "---"),
        };
        let set = |set: &[u32]| match (0..=cpus).all(|cpu| set.contains(&cpu)) {
            true => "all".to_string(),
            false => CpuSet::These(set.iter().copied().collect()).to_string(),
        };
        table.add_row([
            vcpu.name,
            vcpu.domain.to_string(),
            info.number.to_string(),
            cpu,
            state.to_string(),
            seconds(info.cpu_time),
            format!("{} / {}", set(&info.hard), set(&info.soft)),
        ]);
    }
    print_table(&table)
}
