//! What is fuzzed: functions that take any bytes, and must neither panic nor run for long.
//!
//! A target is a function and a line in [`TARGETS`]; `cargo xtask fuzz` then looks for inputs that it
//! fails with, and its corpus in `corpus/NAME/` is replayed by the tests of this crate. A target reads
//! what it shall do from the bytes (`arbitrary`), and checks all that must be true whatever that is.

mod its_commands;
mod pci;

/// Something that is fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name on the command line, and of its corpus's folder.
    pub name: &'static str,
    /// What takes the bytes.
    pub run: fn(&[u8]),
}

/// All that is fuzzed.
pub const TARGETS: &[Target] = &[
    Target {
        name: "its-commands",
        run: its_commands::run,
    },
    Target {
        name: "config-accesses",
        run: pci::accesses::run,
    },
    Target {
        name: "enumeration",
        run: pci::enumeration::run,
    },
    Target {
        name: "message-capabilities",
        run: pci::messages::run,
    },
];

/// The target of a name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_found_once_is_found_no_more() {
        for target in TARGETS {
            let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
            let folder = corpus.join(target.name);
            let files = fs::read_dir(&folder).unwrap();
            let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
            assert!(!files.is_empty(), "{} has no corpus", target.name);
            for file in files {
                println!("{}", file.display());
                (target.run)(&fs::read(file).unwrap());
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_target_takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            for target in TARGETS {
                (target.run)(&bytes);
            }
        }
    }
}
