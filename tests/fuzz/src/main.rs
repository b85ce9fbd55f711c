//! The fuzzer: libFuzzer with the target that `XEN_RS_FUZZ_TARGET` names, or all names if it names
//! none. `cargo xtask fuzz` builds and starts it.

#![no_main]

use std::process::exit;
use std::sync::OnceLock;

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("XEN_RS_FUZZ_TARGET").unwrap_or_default();
        match fuzz::find(&name) {
            Some(target) => {
                TARGET.get_or_init(|| target);
            }
            None => {
                for target in TARGETS {
                    println!("{}", target.name);
                }
                exit(i32::from(!name.is_empty()));
            }
        }
    },
    |bytes: &[u8]| {
        if let Some(target) = TARGET.get() {
            (target.run)(bytes);
        }
    }
);
