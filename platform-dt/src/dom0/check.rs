//! Whether the plan makes sense in itself and with the host.

use alloc::vec::Vec;

use xen_types::{Gpa, GpaRange, HpaRange, IntId};

use super::claims::Dom0Resources;
use super::error::Dom0Error;
use super::plan::{Dom0Plan, GuestGic};
use crate::Host;

/// The most processors that a GICv2 can tell apart.
const MAX_VCPUS_V2: u32 = 8;
/// The most that fit in two levels of affinity, 16 to a cluster.
const MAX_VCPUS_V3: u32 = 16 * 256;

/// A range and what it is.
type Named = (&'static str, GpaRange);

/// Checks what can be checked before the tree is read.
pub(super) fn plan(host: &Host, plan: &Dom0Plan<'_>) -> Result<(), Dom0Error> {
    processors(plan)?;
    if plan.memory.is_empty() {
        return Err(Dom0Error::Nothing { what: "memory" });
    }
    if let Some(range) = plan.ramdisk
        && !plan.memory.iter().any(|bank| bank.contains_range(range))
    {
        return Err(Dom0Error::RamdiskOutside { range });
    }
    regions_ascend(plan.hypervisor.extended_regions)?;
    apart_from_each_other(plan)?;
    event_interrupt(host, plan)
}

fn processors(plan: &Dom0Plan<'_>) -> Result<(), Dom0Error> {
    let max = match plan.gic {
        GuestGic::V2 { .. } => MAX_VCPUS_V2,
        GuestGic::V3 {
            redistributors: [], ..
        } => {
            let what = "redistributor region";
            return Err(Dom0Error::Nothing { what });
        }
        GuestGic::V3 { .. } => MAX_VCPUS_V3,
    };
    let vcpus = plan.vcpus;
    match (1..=max).contains(&vcpus) {
        true => Ok(()),
        false => Err(Dom0Error::Vcpus { vcpus, max }),
    }
}

fn regions_ascend(regions: &[GpaRange]) -> Result<(), Dom0Error> {
    let mut pairs = regions.iter().zip(regions.iter().skip(1));
    match pairs.find(|(lower, upper)| upper.start() < lower.start()) {
        Some((_, &range)) => Err(Dom0Error::RegionOrder { range }),
        None => Ok(()),
    }
}

/// The plan's ranges, but for the interrupt controller's.
fn planned(plan: &Dom0Plan<'_>) -> Vec<Named> {
    let memory = plan.memory.iter().map(|&bank| ("memory", bank));
    let window = [("grant window", plan.hypervisor.grant_window)];
    let regions = plan.hypervisor.extended_regions.iter();
    let regions = regions.map(|&region| ("extended region", region));
    memory.chain(window).chain(regions).collect()
}

fn apart_from_each_other(plan: &Dom0Plan<'_>) -> Result<(), Dom0Error> {
    let mut ranges = planned(plan);
    let frames = plan.gic.frames();
    ranges.extend(frames.map(|frame| ("interrupt controller", frame)));
    ranges.sort_unstable_by_key(|(_, range)| range.start());
    let mut pairs = ranges.iter().zip(ranges.iter().skip(1));
    match pairs.find(|((_, lower), (_, upper))| lower.overlaps(*upper)) {
        Some((&lower, &upper)) => Err(overlap(upper, lower)),
        None => Ok(()),
    }
}

fn overlap((what, range): Named, (other, other_range): Named) -> Dom0Error {
    Dom0Error::Overlap {
        what,
        range,
        other,
        other_range,
    }
}

fn event_interrupt(host: &Host, plan: &Dom0Plan<'_>) -> Result<(), Dom0Error> {
    let ppi = plan.hypervisor.event_ppi;
    let timer = &host.timer;
    let used = [timer.secure, Some(timer.non_secure), Some(timer.virt)];
    match used
        .iter()
        .flatten()
        .any(|used| used.id == IntId::from(ppi))
    {
        true => Err(Dom0Error::EventPpi { ppi }),
        false => Ok(()),
    }
}

/// Checks that nothing which is mapped 1:1 is where the plan has something else.
pub(super) fn no_collision(
    resources: &Dom0Resources,
    plan: &Dom0Plan<'_>,
) -> Result<(), Dom0Error> {
    let planned = planned(plan);
    let devices = resources.mmio.iter().map(|range| ("device", *range));
    let reserved = resources.reserved.iter();
    let reserved = reserved.map(|range| ("reserved memory", *range));
    let mapped = devices.chain(reserved);
    let mapped = mapped.filter_map(|(what, range)| Some((what, identical(range)?)));
    for (what, range) in mapped {
        let mut others = planned.iter();
        if let Some(&other) = others.find(|(_, other)| other.overlaps(range)) {
            return Err(overlap((what, range), other));
        }
    }
    Ok(())
}

/// The same addresses in a guest where they are mapped 1:1.
pub(super) fn identical(range: HpaRange) -> Option<GpaRange> {
    GpaRange::new(Gpa::new(range.start().get()), range.size())
}
