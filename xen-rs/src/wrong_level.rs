//! Entered at EL1 or EL3: one line on the console, then stop.
//!
//! Runs with the MMU off, where all memory is Device memory: no atomics, no unaligned accesses
//! (the target has none), nothing but the device tree and the console's registers.

use platform_dt::{ConsoleChoice, Dtb};
use xen_types::Hpa;

use crate::console::{self, uart};
use crate::memory::tree;
use crate::report;

/// Says at which level the image was entered and where it belongs.
pub extern "C" fn complain(level: u64, tree: u64) -> ! {
    if let Some(mut console) = console_of(Hpa::new(tree)) {
        let line: &[&str] = &[
            "xen-rs: entered at EL",
            match level {
                1 => "1",
                3 => "3",
                _ => "0",
            },
            ", but it must be started at EL2: enable virtualization in the firmware, or start it ",
            "with a boot loader that runs at EL2\n",
        ];
        for byte in line.iter().flat_map(|part| part.bytes()) {
            console::put_with_return(&mut console, byte);
        }
        console.flush();
    }
    report::halt()
}

/// The console that the tree names, or the one that the build wrote into the image.
fn console_of(tree: Hpa) -> Option<uart::Driver> {
    from_tree(tree).or_else(uart::fallback_without_mmu)
}

fn from_tree(tree: Hpa) -> Option<uart::Driver> {
    let blob = tree::without_mmu(tree)?;
    let tree = Dtb::parse(blob).ok()?;
    let node = tree.console(ConsoleChoice::StdoutPath).ok()?;
    Some(uart::without_mmu(&node))
}
