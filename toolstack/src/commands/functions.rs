//! `xrs pci-list`, `pci-attach` and `pci-detach`: functions of guests.

use serde::Serialize;

use super::table::{print_table, table};
use super::{print, print_json};
use crate::cli::{PciAttach, PciDetach};
use crate::failure::{Failure, FailureKind};
use crate::guests::{self, Guest};
use crate::hypervisor::{FunctionInfo, FunctionState, GuestBdf, Hypervisor};
use crate::pci::{self, Given, Remembered, Sbdf, Seized, Seizer, Sysfs};
use crate::state::State;

/// A function of a guest, as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    guest: String,
    #[serde(flatten)]
    info: &'a FunctionInfo,
}

/// Lists functions that guests have: of one, or of all.
pub fn list(
    hypervisor: &impl Hypervisor,
    state: &State,
    guest: Option<&str>,
    verbose: bool,
    json: bool,
) -> Result<(), Failure> {
    let guests = match guest {
        Some(name) => vec![guests::find(hypervisor, state, name)?],
        None => guests::all(hypervisor, state)?,
    };
    let mut functions = hypervisor.functions()?;
    functions.sort_by_key(|info| info.guest);
    let mut all = Vec::new();
    for of in &guests {
        // The control domain has all that nobody else has: that is listed only if it is asked for.
        if of.is_control_domain() && guest.is_none() {
            continue;
        }
        let its = functions.iter().filter(|info| has(of, info));
        all.extend(its.map(|info| Shown {
            guest: of.name(),
            info,
        }));
    }
    match json {
        true => print_json(&all),
        false => show(&all, verbose),
    }
}

/// Whether a guest has a function.
fn has(guest: &Guest, info: &FunctionInfo) -> bool {
    match info.state {
        FunctionState::Dom0 => guest.is_control_domain(),
        FunctionState::Guest => info.domain == Some(guest.info.id.get()),
        FunctionState::Assignable | FunctionState::Broken => false,
    }
}

fn show(all: &[Shown<'_>], verbose: bool) -> Result<(), Failure> {
    let mut header = vec!["Guest", "Virtual", "Function", "ID", "Class"];
    if verbose {
        header.extend(["Group", "Reset"]);
    }
    let mut table = table(&header, &[]);
    for Shown { guest, info } in all {
        // The control domain sees a function where it is.
        let place = info.guest.map(|place| place.to_string());
        let mut row = vec![
            guest.clone(),
            place.unwrap_or_else(|| info.function.to_string()),
            info.function.to_string(),
            format!("{:04x}:{:04x}", info.vendor, info.device),
            format!("{:06x}", info.class),
        ];
        if verbose {
            let reset = info.reset.clone();
            row.extend([
                info.group.to_string(),
                reset.unwrap_or_else(|| "none".into()),
            ]);
        }
        table.add_row(row);
    }
    print_table(&table)
}

/// The guest that is meant, and what was seized for it; not the control domain.
fn guest(
    hypervisor: &impl Hypervisor,
    state: &State,
    name: &str,
) -> Result<(Guest, Option<Seized>), Failure> {
    let guest = guests::find(hypervisor, state, name)?;
    if guest.is_control_domain() {
        let text = "functions come to the control domain by `xrs pci-assignable-remove`, and leave it \
                    by `xrs pci-assignable-add`";
        return Err(Failure::new(FailureKind::Other, text));
    }
    let record = guest.record.as_ref();
    let seized = record.map(|record| state.seized(&record.config.name));
    Ok((guest, seized))
}

/// Gives a function to a guest that runs.
pub fn attach(
    hypervisor: &impl Hypervisor,
    state: &State,
    options: &PciAttach,
    json: bool,
) -> Result<(), Failure> {
    let (guest, seized) = guest(hypervisor, state, &options.guest)?;
    let mut wanted = options.function.clone();
    for remark in wanted.remarks() {
        eprintln!("xrs: {remark}");
    }
    wanted.slot = options.slot.or(wanted.slot);
    let seized = match seized {
        Some(seized) => seized,
        None if wanted.seize => {
            let text = format!(
                "{} was not made by xrs, which would not know when to give a function back: take it by \
                 `xrs pci-assignable-add`",
                guest.name()
            );
            return Err(Failure::new(FailureKind::Other, text));
        }
        None => Seized::none(),
    };
    let chosen = pci::choose(&hypervisor.functions()?, &[wanted])?;
    let seizer = Seizer {
        drivers: &Sysfs::default(),
        remembered: &Remembered::open(state.functions())?,
        seized: &seized,
    };
    let given = pci::attach(hypervisor, &seizer, guest.info.id, &chosen)?;
    if json {
        return print_json(&given);
    }
    for Given {
        function,
        guest: at,
    } in &given
    {
        print(&format!("{function} is {at} in {}\n", guest.name()))?;
    }
    print("The guest sees it after `echo 1 > /sys/bus/pci/rescan` in it\n")
}

/// What was done, as JSON.
#[derive(Serialize)]
struct Detached {
    function: Sbdf,
    guest: Option<GuestBdf>,
    /// Whether the control domain's driver has it again.
    rebound: bool,
}

/// Takes a function from a guest that runs.
pub fn detach(
    hypervisor: &impl Hypervisor,
    state: &State,
    options: &PciDetach,
    json: bool,
) -> Result<(), Failure> {
    let (guest, seized) = guest(hypervisor, state, &options.guest)?;
    let function = options.function;
    let info = hypervisor.function(function)?;
    let Some(info) = info.filter(|info| has(&guest, info)) else {
        let text = format!("{} does not have {function}", guest.name());
        return Err(Failure::new(FailureKind::Other, text));
    };
    let at = info.guest;
    if !options.force {
        let place = at.map_or(String::new(), |at| at.to_string());
        let text = format!(
            "{} has no hot-plug port by which its kernel could be asked: run `echo 1 > \
             /sys/bus/pci/devices/{place}/remove` inside, then give --force",
            guest.name()
        );
        return Err(Failure::new(FailureKind::Other, text));
    }
    pci::take(hypervisor, guest.info.id, function)?;
    let mut rebound = false;
    if let Some(seized) = seized.filter(|seized| seized.has(function)) {
        let seizer = Seizer {
            drivers: &Sysfs::default(),
            remembered: &Remembered::open(state.functions())?,
            seized: &seized,
        };
        seizer.release(hypervisor, &[function])?;
        rebound = true;
    }
    if json {
        return print_json(&Detached {
            function,
            guest: at,
            rebound,
        });
    }
    let whose = match rebound {
        true => "the control domain's again",
        false => "assignable",
    };
    print(&format!("{function} is {whose}\n"))
}
