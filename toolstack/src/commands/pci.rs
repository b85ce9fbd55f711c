//! `xrs pci-assignable-list`, `pci-assignable-add` and `pci-assignable-remove`.

use serde::Serialize;

use super::table::{print_table, table};
use super::{print, print_json};
use crate::failure::Failure;
use crate::hypervisor::{FunctionInfo, FunctionState, Functions};
use crate::pci::{self, Added, Remembered, Removed, Sbdf, Sysfs};
use crate::state::State;

/// Lists functions: those that the control domain does not have, or all.
pub fn list(hypervisor: &impl Functions, all: bool, json: bool) -> Result<(), Failure> {
    let mut functions = hypervisor.functions()?;
    functions.retain(|info| all || info.state != FunctionState::Dom0);
    if json {
        return print_json(&functions);
    }
    let header = [
        "Function", "ID", "Class", "Owner", "Group", "Reset", "Reason",
    ];
    let mut table = table(&header, &[]);
    for info in &functions {
        table.add_row([
            info.function.to_string(),
            format!("{:04x}:{:04x}", info.vendor, info.device),
            format!("{:06x}", info.class),
            owner(info),
            info.group.to_string(),
            info.reset.clone().unwrap_or_else(|| "none".into()),
            info.reason.clone().unwrap_or_default(),
        ]);
    }
    print_table(&table)
}

fn owner(info: &FunctionInfo) -> String {
    match (info.state, info.domain) {
        (FunctionState::Dom0, _) => "Domain-0".into(),
        (FunctionState::Assignable, _) => "assignable".into(),
        (FunctionState::Guest, Some(domain)) => format!("domain {domain}"),
        (FunctionState::Guest, None) => "a guest".into(),
        (FunctionState::Broken, _) => "broken".into(),
    }
}

/// What was done, as JSON.
#[derive(Serialize)]
struct Done {
    function: Sbdf,
    /// Whether anything has changed.
    changed: bool,
    /// The driver that it had before, or has now.
    driver: Option<String>,
}

/// Takes functions from the control domain, one after the other.
pub fn add(
    hypervisor: &impl Functions,
    state: &State,
    functions: &[Sbdf],
    json: bool,
) -> Result<(), Failure> {
    let remembered = Remembered::open(state.functions())?;
    let mut all = Vec::new();
    for &function in functions {
        let added = pci::add(hypervisor, &Sysfs::default(), &remembered, function)?;
        let changed = added != Added::Already;
        let (text, driver) = match added {
            Added::Already => ("is assignable already".to_string(), None),
            Added::Now(None) => ("is assignable".to_string(), None),
            Added::Now(Some(driver)) => (
                format!("is assignable; {driver} has let go of it"),
                Some(driver),
            ),
        };
        report(json, function, &text)?;
        all.push(Done {
            function,
            changed,
            driver,
        });
    }
    for (function, missing) in missing(&hypervisor.functions()?, functions) {
        eprintln!(
            "xrs: {function} moves with {missing}, which the control domain has: a guest can have \
             it only when that is assignable, too"
        );
    }
    match json {
        true => print_json(&all),
        false => Ok(()),
    }
}

/// Of the functions, those in whose group another is the control domain's.
fn missing(all: &[FunctionInfo], functions: &[Sbdf]) -> Vec<(Sbdf, Sbdf)> {
    let of = |function: &Sbdf| all.iter().find(|info| info.function == *function);
    let missing = |info: &FunctionInfo| {
        let other = all.iter().find(|other| {
            other.group == info.group
                && other.state == FunctionState::Dom0
                && !other.is_bridge()
                && other.function != info.function
        })?;
        Some((info.function, other.function))
    };
    functions
        .iter()
        .filter_map(of)
        .filter_map(missing)
        .collect()
}

/// Gives functions back to the control domain, one after the other.
pub fn remove(
    hypervisor: &impl Functions,
    state: &State,
    functions: &[Sbdf],
    rebind: bool,
    json: bool,
) -> Result<(), Failure> {
    let remembered = Remembered::open(state.functions())?;
    let mut all = Vec::new();
    for &function in functions {
        let removed = pci::remove(hypervisor, &Sysfs::default(), &remembered, function, rebind)?;
        let changed = removed != Removed::Already;
        let (text, driver) = match removed {
            Removed::Already => ("is the control domain's already".to_string(), None),
            Removed::Bound(driver) => (
                format!("is the control domain's, with {driver}"),
                Some(driver),
            ),
            Removed::Unbound(None) => ("is the control domain's".to_string(), None),
            Removed::Unbound(Some(driver)) => (
                format!("is the control domain's, without {driver}, which it had"),
                None,
            ),
        };
        report(json, function, &text)?;
        all.push(Done {
            function,
            changed,
            driver,
        });
    }
    match json {
        true => print_json(&all),
        false => Ok(()),
    }
}

fn report(json: bool, function: Sbdf, text: &str) -> Result<(), Failure> {
    match json {
        true => Ok(()),
        false => print(&format!("{function} {text}\n")),
    }
}
