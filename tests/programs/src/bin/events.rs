//! An event channel from Dom0 to itself: bound, raised, masked and unmasked a thousand times.

use anyhow::{Result, ensure};
use dom0_programs::events::Events;

const ROUNDS: u32 = 1000;

fn main() -> Result<()> {
    let mut there = Events::open()?;
    let mut here = Events::open()?;
    let port = there.allocate(0)?;
    let other = here.bind(0, port)?;
    println!("EVENTS: ports {port} and {other}");

    // Binding says hello to whoever allocated the port or not, as the ABI has it for the binder.
    let greeted = here.wait()?;
    ensure!(
        greeted == other,
        "port {greeted}, not {other}, was raised by binding"
    );
    here.unmask(other)?;

    for round in 0..ROUNDS {
        here.notify(other)?;
        let raised = there.wait()?;
        ensure!(raised == port, "round {round}: port {raised}, not {port}");
        // Raised once more while it is masked: the event must come when that ends.
        if round % 2 == 1 {
            here.notify(other)?;
            there.unmask(port)?;
            ensure!(there.wait()? == port, "round {round}: an event was lost");
        }
        there.unmask(port)?;
        there.notify(port)?;
        let raised = here.wait()?;
        ensure!(raised == other, "round {round}: port {raised}, not {other}");
        here.unmask(other)?;
    }
    println!("EVENTS: {ROUNDS} rounds");
    here.unbind(other)?;
    ensure!(here.notify(other).is_err(), "a closed port can be raised");
    there.unbind(port)?;
    println!("EVENTS: done");
    Ok(())
}
