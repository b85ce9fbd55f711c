//! The hypervisor's own keys on the console, after three Ctrl-A.

use log::{info, warn};

use crate::arch::firmware;
use crate::{domain, iommu, memory, pci};

/// A key and what it does.
struct Key {
    key: u8,
    what: &'static str,
    press: fn(),
}

const KEYS: [Key; 7] = [
    Key {
        key: b'h',
        what: "lists the keys",
        press: help,
    },
    Key {
        key: b'm',
        what: "shows the use of memory",
        press: show_memory,
    },
    Key {
        key: b'q',
        what: "shows the domains and their vCPUs",
        press: domain::show,
    },
    Key {
        key: b'i',
        what: "shows the IOMMUs, who is behind them, and the last faults",
        press: iommu::show,
    },
    Key {
        key: b'p',
        what: "shows the PCI functions, and whose they are",
        press: pci::show,
    },
    Key {
        key: b'R',
        what: "resets the machine",
        press: reset,
    },
    Key {
        key: b'C',
        what: "stops with a report",
        press: crash,
    },
];

/// Does what a key is for; an unknown one lists the keys.
pub fn press(key: u8) {
    let found = KEYS.iter().find(|entry| entry.key == key);
    (found.map_or(help as fn(), |entry| entry.press))();
}

fn help() {
    for Key { key, what, .. } in &KEYS {
        info!("key {}: {what}", char::from(*key));
    }
}

fn show_memory() {
    let usage = memory::usage();
    info!(
        "memory: {} KiB used by the hypervisor, {} MiB free",
        usage.used >> 10,
        usage.free >> 20
    );
}

fn reset() {
    info!("reset, as asked for at the console");
    firmware::reset();
    warn!("the firmware cannot reset the machine");
}

fn crash() {
    panic!("asked for at the console");
}
