extern crate std;
use std::string::{String, ToString};
use std::vec::Vec;

use log::LevelFilter;
use proptest::prelude::*;

use super::*;

fn parse(line: &str) -> Options<'_> {
    Options::parse(line).unwrap()
}

fn error(line: &str) -> String {
    Options::parse(line).unwrap_err().to_string()
}

fn warnings(line: &str) -> Vec<String> {
    let options = parse(line);
    options.warnings().iter().map(ToString::to_string).collect()
}

#[test]
fn known_keys_set_options_and_the_last_one_wins() {
    let options = parse("console=dtuart dtuart=serial0  loglvl=all noreboot loglvl=error/debug");
    assert_eq!(options.dtuart, Some("serial0"));
    assert_eq!(options.loglvl.always, LevelFilter::Error);
    assert_eq!(options.loglvl.limited, LevelFilter::Debug);
    assert!(options.noreboot && options.console);
    assert!(options.warnings().is_empty());
    assert!(parse("shortage").shortage && !options.shortage);
    assert!(!parse("console=none").console);
    assert_eq!(parse("selftest=data-abort").selftest, SelfTest::DataAbort);
    assert_eq!(parse(" \t\n"), Options::default());
}

#[test]
fn guests_are_quieter_by_default() {
    let options = parse("");
    assert_eq!(options.loglvl.always, LevelFilter::Info);
    assert_eq!(options.guest_loglvl.always, LevelFilter::Off);
    assert_eq!(options.guest_loglvl.limited, LevelFilter::Warn);
}

#[test]
fn a_value_may_hold_further_equals_signs() {
    let options = parse("dtuart=/soc/serial@1:b=115200");
    assert_eq!(options.dtuart, Some("/soc/serial@1:b=115200"));
}

#[test]
fn booleans_are_xens() {
    assert!(!parse("noreboot noreboot=no").noreboot);
    assert!(!parse("noreboot no-noreboot").noreboot);
    assert!(parse("noreboot=1").noreboot);
    assert!(parse("noreboot=").noreboot);
    assert_eq!(
        error("noreboot=maybe"),
        r#"noreboot="maybe": use yes or no"#
    );
    assert_eq!(
        error("no-noreboot=no"),
        r#"noreboot="no": a key that starts with no- takes no value"#
    );
}

#[test]
fn no_before_a_key_is_the_value_no() {
    assert!(!parse("no-iommu").iommu.enabled);
    assert!(error("no-loglvl").starts_with(r#"loglvl="no": use none, error"#));
}

#[test]
fn a_malformed_value_names_key_value_and_remedy() {
    assert!(error("loglvl=loud").starts_with(r#"loglvl="loud": use none, error"#));
    assert_eq!(
        error("console=com1"),
        r#"console="com1": use dtuart or none"#
    );
    assert_eq!(error("dtuart="), r#"dtuart="": a value is missing"#);
    assert_eq!(error("dtuart"), r#"dtuart="": a value is missing"#);
    assert!(error("selftest=x").contains("stack-overflow"));
    assert!(error("sched=rtds").contains("time-sharing"));
    assert!(error("dom0_mem=lots").contains("512M"));
    assert!(error("iommu=perhaps").contains("required"));
    // An earlier value does not become right by a later one.
    assert!(error("loglvl=loud loglvl=info").contains("loud"));
}

#[test]
fn what_later_parts_need_is_kept_and_warned_of() {
    let line = "dom0_mem=512M,max:1G dom0_max_vcpus=2-4 iommu=no-sharept,verbose \
                pci-passthrough sync_console";
    let options = parse(line);
    let memory = options.dom0_mem.unwrap();
    assert_eq!((memory.size, memory.max), (Some(512 << 20), Some(1 << 30)));
    assert_eq!(options.dom0_max_vcpus.unwrap().count(3), 3);
    assert!(options.iommu.verbose);
    assert_eq!(options.pci_passthrough, Some(""));
    assert_eq!(options.warnings().len(), 3);
}

#[test]
fn assignable_functions_are_a_list() {
    let options = parse("assignable=0000:01:00.0,0000:02:00.0");
    assert_eq!(options.assignable.unwrap().iter().count(), 2);
    assert!(error("assignable").starts_with(r#"assignable="": use PCI addresses"#));
    assert!(error("assignable=01:00").contains("use PCI addresses"));
}

#[test]
fn an_unknown_key_warns_with_the_nearest() {
    assert_eq!(
        warnings("logvl=info foo iommu=1,no-snoop sync_console no-noreboto"),
        [
            r#"unknown key "logvl" is ignored; did you mean "loglvl"?"#,
            r#"unknown key "foo" is ignored"#,
            r#""no-snoop" has no effect in this version"#,
            r#""sync_console" has no effect in this version"#,
            r#"unknown key "no-noreboto" is ignored; did you mean "noreboot"?"#,
        ]
    );
}

#[test]
fn warnings_are_bounded() {
    let line = "x ".repeat(1000);
    assert_eq!(parse(&line).warnings().len(), MAX_WARNINGS);
}

#[test]
fn every_known_key_has_an_effect_or_says_that_it_has_none() {
    for key in IN_EFFECT {
        let value = match key {
            "loglvl" | "guest_loglvl" => "debug",
            "dom0" => "no-direct-map",
            "dom0_mem" => "1G",
            "dom0_max_vcpus" => "2",
            "assignable" => "0000:01:00.0",
            "iommu" => "verbose",
            "console" => "none",
            "sched" => "null",
            "selftest" => "panic",
            "noreboot" | "shortage" => "yes",
            _ => "serial1",
        };
        let line = std::format!("{key}={value}");
        assert_ne!(parse(&line), Options::default(), "{line}");
        assert!(parse(&line).warnings().is_empty());
    }
}

proptest! {
    #[test]
    fn no_line_panics(line in ".{0,200}") {
        let _ = Options::parse(&line);
    }

    #[test]
    fn no_value_panics(key in 0usize..14, value in "[0-9a-zA-Z/:,+%-]{0,40}") {
        let key = known().nth(key).unwrap();
        let line = std::format!("{key}={value}");
        if let Err(error) = Options::parse(&line) {
            prop_assert_eq!((error.key, error.value), (key, value.as_str()));
        }
    }

    #[test]
    fn the_last_of_several_wins(values in proptest::collection::vec("[a-z0-9]{1,8}", 1..6)) {
        let line: String = values.iter().map(|value| std::format!("dtuart={value} ")).collect();
        prop_assert_eq!(parse(&line).dtuart, values.last().map(String::as_str));
    }
}
