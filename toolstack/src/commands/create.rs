//! `xrs create`.

use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use uuid::{Builder, Uuid};

use super::print_json;
use super::progress::Progress;
use crate::cli::{ConsoleKind, Create};
use crate::config;
use crate::console;
use crate::failure::{Failure, FailureKind};
use crate::guest::{Blueprint, Built, build};
use crate::guests;
use crate::hypervisor::{Domains as _, Xen};
use crate::monitor;
use crate::pci::Given;
use crate::signals::Stop;
use crate::state::{Care, Channels, Phase, Record, State};

/// What is printed as JSON.
#[derive(Serialize)]
struct Shown<'a> {
    config: &'a config::GuestConfig,
    uuid: Option<Uuid>,
    domain: Option<u16>,
    kernel: Range,
    ramdisk: Option<Range>,
    device_tree: Range,
    functions: &'a [Given],
}

#[derive(Serialize)]
struct Range {
    address: u64,
    size: u64,
}

impl From<xen_types::GpaRange> for Range {
    fn from(range: xen_types::GpaRange) -> Self {
        Self {
            address: range.start().get(),
            size: range.size(),
        }
    }
}

/// Makes a guest.
pub fn run(state: &State, options: &Create, json: bool) -> Result<(), Failure> {
    let blueprint = blueprint(&options.config)?;
    if options.dry_run {
        return shown(&blueprint, None, json, "could be created");
    }
    let stop = Stop::new()?;
    let xen = Xen::open()?;
    for line in guests::heal(&xen, state)? {
        eprintln!("xrs: {line}");
    }
    let uuid = match blueprint.config.uuid {
        Some(uuid) => uuid,
        None => random_uuid()?,
    };
    let care = state.claim(&blueprint.config, uuid)?;
    let mut progress = Progress::new(blueprint.config.name.as_str(), options.quiet, stop.clone());
    let made = guests::seize(&xen, state, &care.seized(), &blueprint.config.pci)
        .map_err(Failure::from)
        .and_then(|()| make(&xen, &blueprint, uuid, &care, options.paused, &mut progress));
    progress.finish();
    let built = match made {
        Ok(built) => built,
        Err(mut failure) => {
            if let Some(error) = guests::forget(&xen, state, care)? {
                failure.text += &format!("\nand then: {error}");
            }
            return Err(failure);
        }
    };
    let socket = care.folder().join(ConsoleKind::Pv.socket());
    // From here on the monitor takes care of it.
    drop(care);
    if options.console {
        console::attach(&socket, &|| stop.wanted())?;
        return Ok(());
    }
    shown(&blueprint, Some((uuid, &built)), json, "created")
}

/// Reads the configuration and opens what it names.
fn blueprint(path: &Path) -> Result<Blueprint, Failure> {
    let loaded = config::load(path).map_err(|errors| {
        let hint = errors
            .iter()
            .filter(|error| error.contains("error:"))
            .count();
        let text = format!(
            "{}\nxrs: {hint} error{} in {}",
            errors.join("\n"),
            if hint == 1 { "" } else { "s" },
            path.display()
        );
        Failure::new(FailureKind::Config, text)
    })?;
    for warning in &loaded.warnings {
        eprintln!("{warning}");
    }
    Ok(Blueprint::new(loaded.config)?)
}

/// Makes the domain and starts its monitor, which starts the guest. If one of both fails there is no domain.
fn make(
    xen: &Xen,
    blueprint: &Blueprint,
    uuid: Uuid,
    care: &Care,
    paused: bool,
    progress: &mut Progress,
) -> Result<Built, Failure> {
    let built = build(xen, blueprint, uuid, progress)?;
    let config = &blueprint.config;
    let record = Record {
        uuid,
        phase: Phase::Built(Channels {
            console: built.console,
            vuart: built.vuart,
        }),
        config: config.clone(),
    };
    let watched = care.write(&record).map_err(Failure::from);
    let watched = watched.and_then(|()| Ok(monitor::start(care, &config.name, paused)?));
    if let Err(mut failure) = watched {
        if let Err(error) = xen.destroy(built.domain) {
            failure.text += &format!("\nand then domain {} stays: {error}", built.domain);
        }
        return Err(failure);
    }
    Ok(built)
}

fn random_uuid() -> Result<Uuid, Failure> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(std::io::Error::from)?;
    Ok(Builder::from_random_bytes(bytes).into_uuid())
}

fn shown(
    blueprint: &Blueprint,
    made: Option<(Uuid, &Built)>,
    json: bool,
    word: &str,
) -> Result<(), Failure> {
    let config = &blueprint.config;
    let domain = made.map(|(_, built)| built.domain.get());
    if json {
        return print_json(&Shown {
            config,
            uuid: made.map(|(uuid, _)| uuid).or(config.uuid),
            domain,
            kernel: blueprint.place.kernel.into(),
            ramdisk: blueprint.place.ramdisk.map(Range::from),
            device_tree: blueprint.place.tree.into(),
            functions: made.map_or(&[], |(_, built)| &built.functions),
        });
    }
    let of = domain.map_or(String::new(), |domain| format!(" as domain {domain}"));
    let vcpus = match config.vcpus {
        1 => "1 vCPU".to_string(),
        vcpus => format!("{vcpus} vCPUs"),
    };
    super::print(&format!(
        "{} {word}{of}: {} MiB, {vcpus}\n",
        config.name, config.memory
    ))?;
    for Given { function, guest } in made.iter().flat_map(|(_, built)| &built.functions) {
        super::print(&format!("{function} is {guest} in it\n"))?;
    }
    Ok(())
}
