//! Configuration files: those that are wrong, each with the message that people see, and some that are
//! right. `XRS_BLESS=1` writes the messages anew, to be read before they are kept.

use std::fs;
use std::path::{Path, PathBuf};

use toolstack::config::{GicChoice, Passthrough, Source, load, load_text};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/config")
        .join(name)
}

#[test]
fn broken_files_have_their_messages() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(folder("broken")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "cfg") {
            continue;
        }
        count += 1;
        let name = file.file_name().unwrap().to_str().unwrap();
        let source = Source::new(name, fs::read_to_string(&file).unwrap());
        let shown = match load_text(&source, Path::new("/")) {
            Ok(_) => format!("{name} is right\n"),
            Err(messages) => messages.join("\n") + "\n",
        };
        let expected = file.with_extension("txt");
        if std::env::var_os("XRS_BLESS").is_some() {
            fs::write(&expected, &shown).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if shown != expected {
            wrong.push(format!("--- {name}, expected:\n{expected}+++ is:\n{shown}"));
        }
    }
    assert!(count >= 100, "{count} files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_example_of_device_assignment_is_read_as_it_is() {
    let loaded = load(&folder("good/midway.cfg")).unwrap();
    assert_eq!(loaded.warnings, [] as [String; 0]);
    let config = loaded.config;
    assert_eq!(config.name.as_str(), "domU");
    assert_eq!(config.devices[0].path(), "/soc/ethernet@fff51000");
    assert_eq!(config.interrupts, [112, 113, 114]);
    let memory = config.io_memory[0];
    assert_eq!(
        (memory.first, memory.count, memory.guest),
        (0xfff51, 1, 0xfff51)
    );
    assert_eq!(config.device_tree, Some("/root/xgmac.dtb".into()));
}

#[test]
fn an_example_of_xl_is_read_as_it_is() {
    let loaded = load(&folder("good/xl-example.cfg")).unwrap();
    let [warning] = loaded.warnings.as_slice() else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        warning.contains("warning: `permissive` means nothing here and is ignored"),
        "{warning}"
    );
    let config = loaded.config;
    assert_eq!(config.command_line, "root=/dev/xvda1 quiet");
    assert_eq!((config.memory, config.vcpus), (1024, 2));
    assert_eq!(config.cpus.len(), 2);
    assert_eq!(config.cpus[1].to_string(), "0,2-3");
    assert_eq!(config.gic, GicChoice::V3);
    assert_eq!(config.passthrough, Passthrough::Enabled);
    let functions: Vec<_> = config.pci.iter().map(ToString::to_string).collect();
    assert_eq!(functions, ["0000:02:00.0", "0000:03:00.*", "0000:04:00.1"]);
}

#[test]
fn odd_settings_are_warned_of() {
    let text =
        "name='g'; kernel='Image'; memory=64\nmemroy=1\nacpi=1\nvcpus=1\nvcpus=2\nzzzzzzzz=1\n";
    let loaded = load_text(&Source::new("g.cfg", text), Path::new("/guests")).unwrap();
    assert_eq!(loaded.config.kernel, Path::new("/guests/Image"));
    assert_eq!(loaded.config.vcpus, 2);
    let first: Vec<_> = loaded
        .warnings
        .iter()
        .map(|shown| shown.lines().next().unwrap())
        .collect();
    assert_eq!(
        first,
        [
            "g.cfg:2:1: warning: unknown key `memroy` is ignored; did you mean `memory`?",
            "g.cfg:3:1: warning: `acpi` means nothing for guests on Arm and is ignored",
            "g.cfg:5:1: warning: `vcpus` was set before; this replaces it",
            "g.cfg:6:1: warning: unknown key `zzzzzzzz` is ignored",
        ]
    );
}
