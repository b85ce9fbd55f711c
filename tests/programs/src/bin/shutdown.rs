//! Ends the domain for a reason: `shutdown NUMBER`, of `sched_op`'s reasons.

use anyhow::{Context as _, Result, bail};
use dom0_programs::privcmd::Privcmd;
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::{SchedOp, Shutdown};

fn main() -> Result<()> {
    let reason = std::env::args().nth(1).context("usage: shutdown NUMBER")?;
    let mut request = Shutdown {
        reason: reason.parse()?,
    };
    let operation = SchedOp::Shutdown.number();
    let answer = Privcmd::open()?.operate(Hypercall::SchedOp, operation, &mut request);
    println!(
        "SHUTDOWN: {:?}",
        answer.map_err(|error| error.raw_os_error())
    );
    bail!("the domain lives on")
}
