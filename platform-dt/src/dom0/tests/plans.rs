//! Plans that cannot be, and hosts that they do not fit.

use std::string::ToString;

use xen_types::Ppi;

use super::{build_with_regions, gpa, try_build};
use crate::dom0::{Dom0Error, Dom0Plan};
use crate::tests::fixtures::{self, cells, flag, node, text};

fn refused(change: impl FnOnce(&mut Dom0Plan<'_>)) -> Dom0Error {
    let built = try_build(&fixtures::qemu_gicv3(), change);
    built.err().expect("the plan was accepted")
}

#[test]
fn paths_that_name_nothing_are_told_with_those_that_are_near() {
    let error = refused(|plan| plan.console = Some("/pl01@9000000"));
    let line = "console: /pl01@9000000 names no node; did you mean pl011@9000000?";
    assert_eq!(error.to_string(), line);
    let error = refused(|plan| plan.passthrough = &["/pl011@9000001"]);
    let line = "assignable=: /pl011@9000001 names no node; did you mean pl011@9000000?";
    assert_eq!(error.to_string(), line);
    let error = refused(|plan| plan.hidden = &["serial1"]);
    assert_eq!(
        error.to_string(),
        "hidden: serial1 names no node; did you mean serial0?"
    );
}

#[test]
fn what_the_hypervisor_needs_cannot_be_given_away() {
    for path in ["/timer", "/cpus", "/psci"] {
        let built = try_build(&fixtures::qemu_gicv3(), |plan| {
            plan.passthrough = match path {
                "/timer" => &["/timer"],
                "/cpus" => &["/cpus"],
                _ => &["/psci"],
            };
        });
        assert!(
            matches!(built.err(), Some(Dom0Error::NotAssignable { .. })),
            "{path}"
        );
    }
    let error = refused(|plan| plan.passthrough = &["/intc@8000000"]);
    assert!(matches!(error, Dom0Error::NotAssignable { .. }));
    let error = refused(|plan| plan.hidden = &["/intc@8000000"]);
    assert!(matches!(error, Dom0Error::GicDropped { .. }));
    let marked = fixtures::rcar_h3().set("/soc", flag("xen,passthrough"));
    let error = try_build(&marked, |_| {}).err();
    assert!(matches!(error, Some(Dom0Error::GicDropped { .. })));
}

#[test]
fn the_number_of_processors_has_limits() {
    let error = refused(|plan| plan.vcpus = 0);
    assert_eq!(
        error.to_string(),
        "Dom0: 0 virtual processors: it must be 1 to 4096"
    );
    let error = try_build(&fixtures::qemu_gicv2(), |plan| plan.vcpus = 9).err();
    assert_eq!(error, Some(Dom0Error::Vcpus { vcpus: 9, max: 8 }));
}

#[test]
fn memory_and_ramdisk_must_be() {
    assert_eq!(
        refused(|plan| plan.memory = &[]),
        Dom0Error::Nothing { what: "memory" }
    );
    let range = gpa(0x43ff_f000, 0x2000);
    let error = refused(|plan| plan.ramdisk = Some(range));
    assert_eq!(error, Dom0Error::RamdiskOutside { range });
}

#[test]
fn ranges_must_be_apart() {
    let fixture = fixtures::qemu_gicv3();
    let (low, high) = (
        gpa(0x1_0000_0000, 0x4000_0000),
        gpa(0x2_0000_0000, 0x4000_0000),
    );
    assert!(build_with_regions(&fixture, &[low, high]).is_ok());
    let error = build_with_regions(&fixture, &[high, low]).err();
    assert_eq!(error, Some(Dom0Error::RegionOrder { range: low }));
    let error = build_with_regions(&fixture, &[gpa(0x4000_0000, 0x1000_0000)]).err();
    assert!(matches!(error, Some(Dom0Error::Overlap { .. })));
    let error = refused(|plan| plan.hypervisor.grant_window = gpa(0x900_0000, 0x1000));
    let line = "Dom0: device 0x9000000-0x9000fff overlaps grant window 0x9000000-0x9000fff";
    assert_eq!(error.to_string(), line);
    let error = refused(|plan| plan.hypervisor.grant_window = gpa(0x800_0000, 0x1000));
    assert!(matches!(error, Dom0Error::Overlap { .. }));
}

#[test]
fn the_event_interrupt_is_not_the_timers() {
    let ppi = Ppi::new(11).unwrap();
    let error = refused(|plan| plan.hypervisor.event_ppi = ppi);
    assert_eq!(
        error.to_string(),
        "Dom0: PPI 11 cannot be the event interrupt: the timer has it"
    );
}

#[test]
fn what_does_not_fit_in_the_hosts_cells_is_named() {
    let region = [gpa(0x1_0000_0000, 0x1000_0000)];
    let error = build_with_regions(&fixtures::one_cell(), &region)
        .err()
        .unwrap();
    let line = "/hypervisor: reg: 0x100000000 does not fit in 1 cells";
    assert_eq!(error.to_string(), line);
}

#[test]
fn a_host_whose_controller_has_no_phandle_gets_one() {
    let fixture = fixtures::qemu_gicv2()
        .without("/intc@8000000", "phandle")
        .without_child("/intc@8000000", "v2m@8020000")
        .without("/", "interrupt-parent");
    let mut fixture = fixture.with("/", node("other", [cells("phandle", &[7])], []));
    let mut gic = fixture.0.root.remove_child("intc@8000000").unwrap();
    // Its interrupts are found by their place in the tree.
    let timer = fixture.0.root.remove_child("timer").unwrap();
    gic.add_child(timer);
    gic.add_property(text("note", "holds the timer"));
    fixture.0.root.add_child(gic);
    let built = try_build(&fixture, |_| {}).unwrap();
    assert_eq!(built.node("/intc@8000000").phandle(), Some(8));
    assert_eq!(built.cells("/timer", "interrupt-parent"), [8]);
    assert_eq!(built.cells("/hypervisor", "interrupt-parent"), [8]);
}

#[test]
fn a_tree_without_chosen_gets_one() {
    let fixture = fixtures::qemu_gicv3().without_child("/", "chosen");
    let built = try_build(&fixture, |_| {}).unwrap();
    assert_eq!(built.strings("/chosen", "bootargs"), ["console=hvc0"]);
}
