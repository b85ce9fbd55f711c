//! What an SMMU costs: memory for its tables and queues, and attaching a device. The guest `micro`, as
//! the control domain, has each function of a full bus go and come back.

use anyhow::{Context as _, Result};

use super::Bench;
use super::figure::{Figure, Group, Limit};
use super::micro;
use crate::image::guests;
use crate::qemu::{GicVersion, Machine, SmmuStage};

/// Functions that are attached again.
const FUNCTIONS: u64 = 240;
/// The rows of the guest: what the control domain's call takes, its trap included, when it tells of a
/// function that it has read of, and of one that is to be found and measured first.
const ROWS: [&str; 2] = ["iommu-attach", "iommu-attach-unseen"];
/// Instructions, for one that it has read of.
const ATTACH_LIMIT: u64 = 20_000;
/// Bytes, with all functions attached.
const MEMORY_LIMIT: u64 = 2 << 20;
/// Has the hypervisor show its IOMMUs.
const KEYS: &str = "\x01\x01\x01i";

/// Boots the guest behind an SMMU.
pub fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let guest = guests::build(bench.context, &bench.toolchain)?.micro;
    let arguments = format!("runs={FUNCTIONS} {} linger", ROWS.join(" "));
    let machine = Machine {
        smmu: Some(SmmuStage::Second),
        ..micro::full(micro::machine(
            GicVersion::V3,
            &bench.image.file,
            &guest,
            &arguments,
        ))
    };
    let log = bench.context.target.join("qemu-logs/bench-smmu.log");
    let (mut session, costs) = micro::boot(&machine, &log)?;
    let cost = |row| costs.get(row).with_context(|| format!("no row {row}"));
    let [attach, unseen] = [*cost(ROWS[0])?, *cost(ROWS[1])?];
    session.send(KEYS)?;
    let shown = session.expect(r"iommu: (\d+) KiB of tables and queues")?;
    Ok(vec![group(attach, unseen, shown[1].parse::<u64>()? << 10)])
}

fn group(attach: u64, unseen: u64, memory: u64) -> Group {
    Group {
        title: "SMMUv3 of QEMU virt, GICv3, cortex-a72".to_string(),
        figures: vec![
            Figure {
                name: "function on a full bus attached, instructions".to_string(),
                ours: attach,
                xen: None,
                limit: Some(Limit::Number(ATTACH_LIMIT)),
            },
            Figure {
                name: "the same, found and measured before, instructions".to_string(),
                ours: unseen,
                xen: None,
                limit: None,
            },
            Figure {
                name: "tables and queues with a full bus, bytes".to_string(),
                ours: memory,
                xen: None,
                limit: Some(Limit::Number(MEMORY_LIMIT)),
            },
        ],
        notes: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_limit() {
        let exceeding = |memory| {
            let figures = group(1, 1, memory).figures;
            figures.iter().filter(|figure| figure.exceeds()).count()
        };
        assert_eq!(exceeding(2 << 20), 0);
        assert_eq!(exceeding((2 << 20) + 1), 1);
    }
}
