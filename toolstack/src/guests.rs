//! Guests as people name them: what the hypervisor tells of domains, with the names that are kept
//! beside.

use std::thread;
use std::time::{Duration, Instant};

use xen_abi::Errno;

use crate::config::PciFunction;
use crate::failure::Failure;
use crate::hypervisor::{DomainInfo, Functions, Hypervisor, HypervisorError};
use crate::monitor;
use crate::pci::{self, AssignError, Remembered, Seized, Seizer, Sysfs};
use crate::state::{Care, Record, Remedy, State, StateError};

/// The control domain's name.
const CONTROL_DOMAIN: &str = "Domain-0";

/// A domain with its name.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What the hypervisor tells.
    pub info: DomainInfo,
    /// What is kept of it, if `xrs` made it.
    pub record: Option<Record>,
}

impl Guest {
    /// What it is called; its identity in brackets if nobody has named it.
    pub fn name(&self) -> String {
        match &self.record {
            Some(record) => record.config.name.to_string(),
            None if self.info.id.get() == 0 => CONTROL_DOMAIN.to_string(),
            None => format!("({})", self.info.uuid),
        }
    }

    /// Whether it is the control domain.
    pub fn is_control_domain(&self) -> bool {
        self.info.id.get() == 0
    }
}

/// All domains, by id.
///
/// # Errors
/// The hypervisor's.
pub fn all(hypervisor: &impl Hypervisor, state: &State) -> Result<Vec<Guest>, HypervisorError> {
    let records = state.records();
    let guest = |info: DomainInfo| {
        let record = records.iter().find(|record| record.uuid == info.uuid);
        Guest {
            record: record.cloned(),
            info,
        }
    };
    Ok(hypervisor.domains()?.into_iter().map(guest).collect())
}

/// The guest with a name, a domain id or an identity.
///
/// # Errors
/// That there is none; then those with names like it are told.
pub fn find(hypervisor: &impl Hypervisor, state: &State, name: &str) -> Result<Guest, Failure> {
    let guests = all(hypervisor, state)?;
    let matches = |guest: &&Guest| {
        guest.name() == name
            || guest.info.id.get().to_string() == name
            || guest.info.uuid.to_string() == name
    };
    if let Some(guest) = guests.iter().find(matches) {
        return Ok(guest.clone());
    }
    let near = guests.iter().filter_map(|guest| {
        let other = guest.name();
        Some((platform_dt::distance(name, &other)?, other))
    });
    let near = near
        .min()
        .filter(|(distance, _)| *distance <= name.len().div_ceil(3));
    Err(match near {
        Some((_, near)) => Failure::no_guest(format!("{name}; did you mean {near}?")),
        None => Failure::no_guest(name),
    })
}

/// How long the rest of a domain may take to go: others may have mapped some of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often to look.
const LOOK: Duration = Duration::from_millis(5);

/// Takes back all that a domain has, and waits a while for the last of it to be free. That there is no
/// such domain any more is as good.
///
/// # Errors
/// The hypervisor's.
pub fn destroy(hypervisor: &impl Hypervisor, info: &DomainInfo) -> Result<(), HypervisorError> {
    match hypervisor.destroy(info.id) {
        Err(error) if error.errno() != Some(Errno::NoDomain) => return Err(error),
        _ => {}
    }
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let there = hypervisor.domain(info.id)?;
        if there.is_none_or(|other| other.uuid != info.uuid) {
            break;
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Takes the functions from the control domain that a configuration wants taken.
///
/// # Errors
/// [`AssignError`]; then nothing is taken.
pub fn seize(
    hypervisor: &impl Functions,
    state: &State,
    seized: &Seized,
    list: &[PciFunction],
) -> Result<(), AssignError> {
    if !list.iter().any(|wanted| wanted.seize) {
        return Ok(());
    }
    let all = hypervisor.functions()?;
    let wanted = pci::choose(&all, list)?;
    let seizer = Seizer {
        drivers: &Sysfs::default(),
        remembered: &Remembered::open(state.functions())?,
        seized,
    };
    seizer.seize(hypervisor, &all, &wanted).map(drop)
}

/// Gives what was taken for a guest that is no more back to the control domain's drivers.
///
/// # Errors
/// [`AssignError`]; what is not told of has gone back.
pub fn release(
    hypervisor: &impl Functions,
    state: &State,
    seized: &Seized,
) -> Result<(), AssignError> {
    if seized.all()?.is_empty() {
        return Ok(());
    }
    // Whoever else is about to do the same waits here, and then finds nothing to do.
    let seizer = Seizer {
        drivers: &Sysfs::default(),
        remembered: &Remembered::open(state.functions())?,
        seized,
    };
    seizer.release_all(hypervisor)
}

/// Takes back what a dead `xrs` left, and gives guests without a monitor a new one. Returns what was
/// done, one line each.
///
/// # Errors
/// The hypervisor's, or the folder's.
pub fn heal(hypervisor: &impl Hypervisor, state: &State) -> Result<Vec<String>, Failure> {
    let domains = hypervisor.domains()?;
    let mut done = Vec::new();
    for remedy in state.heal(&domains)? {
        match remedy {
            Remedy::Forgotten(care, name) => {
                done.push(format!("{name} is gone: forgotten"));
                done.extend(forget(hypervisor, state, care)?);
            }
            Remedy::Destroy(care, domain) => {
                destroy(hypervisor, &domain)?;
                let id = domain.id.get();
                done.push(format!("domain {id} was never finished: destroyed"));
                done.extend(forget(hypervisor, state, care)?);
            }
            Remedy::Watch(care, record) => {
                let name = &record.config.name;
                monitor::start(&care, name, true)?;
                done.push(format!("{name} had lost its monitor: it has a new one"));
            }
        }
    }
    Ok(done)
}

/// Removes the folder of a guest that is no more, and gives back what was taken for it. Returns what went
/// wrong with that, which is no reason to keep the guest's name.
///
/// # Errors
/// The folder's.
pub fn forget(
    hypervisor: &impl Functions,
    state: &State,
    care: Care,
) -> Result<Option<String>, StateError> {
    let released = release(hypervisor, state, &care.seized());
    care.remove()?;
    Ok(released.err().map(|error| error.to_string()))
}
