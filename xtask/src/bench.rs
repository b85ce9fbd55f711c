//! `cargo xtask bench`: instructions of a boot, counted by QEMU, against their limits.
//!
//! Under `-icount shift=0` QEMU's clock advances one nanosecond an instruction, so that the time
//! which the image prints from its entry to "ready" is a count that does not vary.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::context::Context;
use crate::image::{self, Image, SIZE_LIMIT};
use crate::qemu::{Echo, Machine, Memory, Session, Start};
use crate::setup::{self, QEMU, Toolchain};

/// From entry to "ready" with four CPUs and 4 GiB.
const BOOT_LIMIT: u64 = 20_000_000;
/// More for each GiB of RAM.
const GIB_LIMIT: u64 = 1_000_000;
/// The sizes of RAM that are measured, in GiB, ascending.
const SIZES: [u64; 4] = [1, 2, 4, 8];
const TIME: Duration = Duration::from_secs(300);

/// One figure and what it may be.
struct Figure {
    name: String,
    value: u64,
    limit: Option<u64>,
}

/// Measures, prints the table, and fails if a limit is exceeded.
pub fn run(context: &Context) -> Result<()> {
    setup::ensure(context, QEMU)?;
    let image = image::build(context, &Toolchain::prepare(context)?, None)?;
    let boots = SIZES
        .iter()
        .map(|gib| Ok((*gib, instructions(context, &image, *gib)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut figures = boot_figures(&boots);
    figures.push(Figure {
        name: "image file, bytes".to_string(),
        value: std::fs::metadata(&image.file)?.len(),
        limit: Some(SIZE_LIMIT),
    });
    report(&figures)
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

fn nanoseconds(ticks: u64, hertz: u64) -> Option<u64> {
    let nanoseconds = (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(hertz))?;
    u64::try_from(nanoseconds).ok()
}

fn boot_figures(boots: &[(u64, u64)]) -> Vec<Figure> {
    let mut figures: Vec<_> = boots
        .iter()
        .map(|&(gib, value)| Figure {
            name: format!("entry to ready, 4 CPUs, {gib} GiB, instructions"),
            value,
            limit: (gib == 4).then_some(BOOT_LIMIT),
        })
        .collect();
    if let (Some(first), Some(last)) = (boots.first(), boots.last())
        && last.0 > first.0
    {
        figures.push(Figure {
            name: "more for each GiB, instructions".to_string(),
            value: last.1.saturating_sub(first.1) / (last.0 - first.0),
            limit: Some(GIB_LIMIT),
        });
    }
    figures
}

fn report(figures: &[Figure]) -> Result<()> {
    println!("\n{:<48} {:>12} {:>12}", "figure", "measured", "limit");
    for figure in figures {
        let limit = figure
            .limit
            .map_or_else(|| "-".to_string(), |limit| limit.to_string());
        println!("{:<48} {:>12} {:>12}", figure.name, figure.value, limit);
    }
    let exceeded: Vec<_> = figures
        .iter()
        .filter(|figure| figure.limit.is_some_and(|limit| figure.value > limit))
        .map(|figure| figure.name.as_str())
        .collect();
    if !exceeded.is_empty() {
        bail!("above the limit: {}", exceeded.join("; "));
    }
    Ok(())
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
        assert_eq!(figures.last().unwrap().value, 1_000_000);
        assert!(report(&figures).is_ok());
        assert!(report(&boot_figures(&[(1, 0), (8, 80_000_000)])).is_err());
        assert!(report(&boot_figures(&[(4, BOOT_LIMIT + 1)])).is_err());
    }
}
