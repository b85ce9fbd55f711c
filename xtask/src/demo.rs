//! `cargo xtask demo`: the image comes up on four CPUs, and the demo ends by itself.

use std::time::Duration;

use anyhow::Result;

use crate::context::Context;
use crate::image;
use crate::qemu::{Echo, Machine, Session, Start};
use crate::setup::{self, QEMU, Toolchain};

/// A boot takes a second or two; a busy machine may take much longer.
const TIME: Duration = Duration::from_secs(120);

/// Boots the image and shows its log until it is ready.
pub fn run(context: &Context) -> Result<()> {
    setup::ensure(context, QEMU)?;
    let image = image::build(context, &Toolchain::prepare(context)?, None)?;
    let machine = Machine::virt(Start::Kernel(image.file));
    println!(
        "xen-rs in QEMU: GICv3, {} CPUs, {} of memory",
        machine.cpus, machine.memory
    );
    let log = context.target.join("qemu-logs/demo.log");
    let mut session = Session::start(&machine, &log, Echo::Yes, TIME)?;
    session.forbid(&[r"^\*\*\* xen-rs stopped", r"error: "])?;
    let ready = session.expect(r"ready: (\d+) of (\d+) CPUs up")?;
    println!(
        "\nThe hypervisor is up on {} of {} CPUs.",
        ready[1], ready[2]
    );
    Ok(())
}
