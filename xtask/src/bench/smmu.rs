//! What an SMMU costs: memory for its tables and queues, and attaching a device. The guest `micro`, as
//! the control domain, tells of functions that it has found, one on each bus.

use anyhow::{Context as _, Result};

use super::Bench;
use super::figure::{Figure, Group, Limit};
use super::micro;
use crate::image::guests;
use crate::qemu::{GicVersion, Machine, SmmuStage};

/// Functions that are attached.
const FUNCTIONS: u64 = 200;
/// The row of the guest: what the control domain's call takes, its trap included.
const ROW: &str = "iommu-attach";
/// Instructions of attaching a function.
const ATTACH_LIMIT: u64 = 20_000;
/// Bytes, with all functions attached.
const MEMORY_LIMIT: u64 = 2 << 20;
/// Has the hypervisor show its IOMMUs.
const KEYS: &str = "\x01\x01\x01i";

/// Boots the guest behind an SMMU.
pub fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let guest = guests::build(bench.context, &bench.toolchain)?.micro;
    let arguments = format!("runs={FUNCTIONS} {ROW} linger");
    let machine = Machine {
        smmu: Some(SmmuStage::Second),
        ..micro::machine(GicVersion::V3, &bench.image.file, &guest, &arguments)
    };
    let log = bench.context.target.join("qemu-logs/bench-smmu.log");
    let (mut session, costs) = micro::boot(&machine, &log)?;
    let attach = *costs.get(ROW).with_context(|| format!("no row {ROW}"))?;
    session.send(KEYS)?;
    let shown = session.expect(r"iommu: (\d+) KiB of tables and queues")?;
    Ok(vec![group(attach, shown[1].parse::<u64>()? << 10)])
}

fn group(attach: u64, memory: u64) -> Group {
    Group {
        title: "SMMUv3 of QEMU virt, GICv3, cortex-a72".to_string(),
        figures: vec![
            Figure {
                name: "function attached, with a new table of streams, instructions".to_string(),
                ours: attach,
                xen: None,
                limit: Some(Limit::Number(ATTACH_LIMIT)),
            },
            Figure {
                name: format!(
                    "tables and queues with {FUNCTIONS} functions on as many buses, bytes"
                ),
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
    fn each_figure_has_a_limit() {
        let exceeding = |attach, memory| {
            let figures = group(attach, memory).figures;
            figures.iter().filter(|figure| figure.exceeds()).count()
        };
        assert_eq!(exceeding(20_000, 2 << 20), 0);
        assert_eq!(exceeding(20_001, 2 << 20), 1);
        assert_eq!(exceeding(20_000, (2 << 20) + 1), 1);
    }
}
