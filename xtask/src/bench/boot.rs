//! The hypervisor's own boot: the time that it prints from its entry to "ready".

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::figure::{Figure, Group, Limit};
use crate::context::Context;
use crate::image::{Image, SIZE_LIMIT};
use crate::qemu::{Echo, Machine, Memory, Session, Start};

/// From entry to "ready" with four CPUs and 4 GiB.
const BOOT_LIMIT: u64 = 20_000_000;
/// More for each GiB of RAM.
const GIB_LIMIT: u64 = 1_000_000;
/// The sizes of RAM that are measured, in GiB, ascending.
const SIZES: [u64; 4] = [1, 2, 4, 8];
const TIME: Duration = Duration::from_secs(300);

/// Boots with each size of RAM.
pub fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let boots = SIZES
        .iter()
        .map(|gib| Ok((*gib, instructions(bench.context, &bench.image, *gib)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut figures = boot_figures(&boots);
    figures.push(Figure {
        name: "image file, bytes".to_string(),
        ours: std::fs::metadata(&bench.image.file)?.len(),
        xen: None,
        limit: Some(Limit::Number(SIZE_LIMIT)),
    });
    Ok(vec![Group {
        title: "boot of the hypervisor, cortex-a72".to_string(),
        figures,
        notes: Vec::new(),
    }])
}

/// Instructions from entry to "ready" with four CPUs.
fn instructions(context: &Context, image: &Image, gib: u64) -> Result<u64> {
    let machine = Machine {
        memory: Memory::gib(gib),
        extra: ["-icount", "shift=0,sleep=off"].map(Into::into).to_vec(),
        ..Machine::virt(Start::Kernel(image.file.clone()))
    };
    let log = context.target.join(format!("qemu-logs/bench-{gib}G.log"));
    let mut session = Session::start(&machine, &log, Echo::No, TIME)?;
    session.forbid(&[r"^\*\*\* xen-rs stopped", r"error: "])?;
    let ready =
        session.expect(r"ready: \d+ of \d+ CPUs up, (\d+) ticks at (\d+) Hz since entry")?;
    let (ticks, hertz): (u64, u64) = (ready[1].parse()?, ready[2].parse()?);
    nanoseconds(ticks, hertz).context("the image counts at 0 Hz")
}

/// Nanoseconds, which are instructions, from ticks of a counter.
pub fn nanoseconds(ticks: u64, hertz: u64) -> Option<u64> {
    let nanoseconds = (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(hertz))?;
    u64::try_from(nanoseconds).ok()
}

fn boot_figures(boots: &[(u64, u64)]) -> Vec<Figure> {
    let mut figures: Vec<_> = boots
        .iter()
        .map(|&(gib, value)| Figure {
            name: format!("entry to ready, 4 CPUs, {gib} GiB, instructions"),
            ours: value,
            xen: None,
            limit: (gib == 4).then_some(Limit::Number(BOOT_LIMIT)),
        })
        .collect();
    if let (Some(first), Some(last)) = (boots.first(), boots.last())
        && last.0 > first.0
    {
        figures.push(Figure {
            name: "more for each GiB, instructions".to_string(),
            ours: last.1.saturating_sub(first.1) / (last.0 - first.0),
            xen: None,
            limit: Some(Limit::Number(GIB_LIMIT)),
        });
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_instructions() {
        assert_eq!(nanoseconds(62_500_000, 62_500_000), Some(1_000_000_000));
        assert_eq!(nanoseconds(5, 62_500_000), Some(80));
        assert_eq!(nanoseconds(5, 0), None);
    }

    #[test]
    fn growth_is_from_the_smallest_to_the_largest() {
        let figures = boot_figures(&[(1, 3_000_000), (4, 6_000_000), (8, 10_000_000)]);
        assert_eq!(figures.last().unwrap().ours, 1_000_000);
        let above = |boots: &[(u64, u64)]| boot_figures(boots).iter().any(Figure::exceeds);
        assert!(!above(&[(1, 3_000_000), (4, 6_000_000), (8, 10_000_000)]));
        assert!(above(&[(1, 0), (8, 80_000_000)]));
        assert!(above(&[(4, BOOT_LIMIT + 1)]));
    }
}
