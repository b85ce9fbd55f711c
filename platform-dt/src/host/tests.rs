use std::string::{String, ToString};
use std::vec::Vec;

use xen_types::{Affinity, Hpa, HpaRange, Interrupt, Ppi, Spi, Trigger};

use super::*;
use crate::tests::fixtures::{
    Fixture, cells, flag, imx8mp, one_cell, qemu_gicv2, qemu_gicv3, rcar_h3, strings, text,
};

fn read(tree: &Fixture) -> Result<Host, TreeError> {
    let blob = tree.blob();
    Host::read(&HostTree::reencode(&Dtb::parse(&blob)?)?)
}

fn host(tree: &Fixture) -> Host {
    read(tree).unwrap()
}

fn refused(tree: &Fixture) -> String {
    read(tree).unwrap_err().to_string()
}

fn range(start: u64, size: u64) -> HpaRange {
    HpaRange::new(Hpa::new(start), size).unwrap()
}

fn ppi(number: u32, trigger: Trigger) -> Interrupt {
    let id = Ppi::new(number).unwrap().into();
    Interrupt { id, trigger }
}

/// The numbers of the processors.
fn affinities(host: &Host) -> Vec<u64> {
    host.cpus.iter().map(|cpu| cpu.affinity.get()).collect()
}

#[test]
fn the_board_has_a_name() {
    assert_eq!(host(&imx8mp()).model, "NXP i.MX8MPlus EVK board");
    assert_eq!(host(&imx8mp()).compatible, ["fsl,imx8mp-evk", "fsl,imx8mp"]);
    assert_eq!(host(&one_cell()).model, "brcm,bcm2837");
    assert_eq!(host(&one_cell().without("/", "compatible")).model, "");
}

#[test]
fn clusters_keep_their_numbers() {
    let host = host(&rcar_h3());
    assert_eq!(affinities(&host), [0, 1, 0x100, 0x101]);
    let last = Cpu {
        path: "/cpus/cpu@101".into(),
        affinity: Affinity::new(0x101).unwrap(),
        compatible: "arm,cortex-a53".into(),
        boot: EnableMethod::Psci,
    };
    assert_eq!(host.cpus.last(), Some(&last));
}

#[test]
fn a_number_may_take_two_cells() {
    let tree = rcar_h3().set("/cpus/cpu@101", cells("reg", &[1, 0x101]));
    assert_eq!(affinities(&host(&tree)), [0, 1, 0x100, 0x1_0000_0101]);
    let tree = tree.set("/cpus/cpu@101", cells("reg", &[0x8000_0101]));
    assert_eq!(
        refused(&tree),
        "/cpus/cpu@101: reg is 0x80000101: it must be the affinity fields of MPIDR_EL1 and \
         nothing else"
    );
    let tree = tree.set("/cpus/cpu@101", cells("reg", &[1, 2, 3]));
    assert_eq!(
        refused(&tree),
        "/cpus/cpu@101: reg must be one number of 4 or 8 bytes"
    );
    assert_eq!(
        refused(&tree.without("/cpus/cpu@101", "reg")),
        "/cpus/cpu@101: has no reg"
    );
}

#[test]
fn no_two_processors_have_the_same_number() {
    let tree = rcar_h3().set("/cpus/cpu@101", cells("reg", &[0x100]));
    assert_eq!(
        refused(&tree),
        "/cpus/cpu@101: has the same reg as /cpus/cpu@100: 0.0.1.0"
    );
}

#[test]
fn processors_that_cannot_run_are_left_out() {
    let tree = rcar_h3()
        .set("/cpus/cpu@1", text("status", "disabled"))
        .set("/cpus/cpu@100", text("status", "fail"))
        .set("/cpus/cpu@101", text("status", "fail-fused"));
    // What is disabled waits for its enable-method.
    assert_eq!(affinities(&host(&tree)), [0, 1]);
    let tree = tree.without("/cpus/cpu@1", "enable-method");
    assert_eq!(affinities(&host(&tree)), [0]);
    let tree = tree.set("/cpus/cpu@0", text("status", "fail"));
    assert_eq!(refused(&tree), "/: there is no usable cpu node in /cpus");
    let tree = rcar_h3().without_child("/", "cpus");
    assert_eq!(refused(&tree), "/: there is no /cpus node");
}

#[test]
fn processors_are_started_in_many_ways() {
    let boot = |tree: &Fixture| host(tree).cpus[1].boot.clone();
    let release = Hpa::new(0xe0);
    assert_eq!(boot(&one_cell()), EnableMethod::SpinTable { release });
    let tree = rcar_h3().set("/cpus/cpu@1", text("enable-method", "acme,switch"));
    assert_eq!(boot(&tree), EnableMethod::Unknown("acme,switch".into()));
    let tree = tree.without("/cpus/cpu@1", "enable-method");
    assert_eq!(boot(&tree), EnableMethod::None);
    let tree = tree.set("/cpus", text("enable-method", "psci"));
    assert_eq!(boot(&tree), EnableMethod::Psci);
    let tree = one_cell().without("/cpus/cpu@1", "cpu-release-addr");
    assert_eq!(refused(&tree), "/cpus/cpu@1: has no cpu-release-addr");
}

#[test]
fn psci_of_each_version_is_called_its_way() {
    let psci = |tree: &Fixture| host(tree).psci;
    let current = Psci {
        conduit: Conduit::Smc,
        cpu_on: 0xc400_0003,
        version_0_2_or_later: true,
    };
    assert_eq!(psci(&qemu_gicv2()), Some(current));
    assert_eq!(psci(&one_cell()), None);
    let first = qemu_gicv2()
        .set("/psci", strings("compatible", &["arm,psci"]))
        .set("/psci", text("method", "hvc"))
        .set("/psci", cells("cpu_on", &[0x95c1_ba60]));
    let expected = Psci {
        conduit: Conduit::Hvc,
        cpu_on: 0x95c1_ba60,
        version_0_2_or_later: false,
    };
    assert_eq!(psci(&first), Some(expected));
    assert_eq!(
        refused(&first.without("/psci", "cpu_on")),
        "/psci: has no cpu_on of 4 bytes"
    );
    let tree = qemu_gicv2().set("/psci", text("method", "call"));
    assert_eq!(
        refused(&tree),
        "/psci: method is call: it must be smc or hvc"
    );
    assert_eq!(
        refused(&tree.without("/psci", "method")),
        "/psci: has no method"
    );
}

#[test]
fn a_gicv2_has_four_interfaces_and_frames() {
    let frame = V2mFrame {
        path: "/intc@8000000/v2m@8020000".into(),
        registers: range(0x802_0000, 0x1000),
        phandle: Some(2),
        base: Spi::new(48),
        count: Some(64),
    };
    let gic = GicV2 {
        path: "/intc@8000000".into(),
        distributor: range(0x800_0000, 0x1_0000),
        cpu_interface: range(0x801_0000, 0x1_0000),
        hypervisor_interface: Some(range(0x803_0000, 0x1_0000)),
        vcpu_interface: Some(range(0x804_0000, 0x1_0000)),
        v2m_frames: [frame].into(),
        maintenance: Some(ppi(9, Trigger::Level)),
    };
    assert_eq!(host(&qemu_gicv2()).gic, Gic::V2(gic));
    let tree = qemu_gicv2().set(
        "/intc@8000000/v2m@8020000",
        cells("arm,msi-base-spi", &[31]),
    );
    assert_eq!(
        refused(&tree),
        "/intc@8000000/v2m@8020000: arm,msi-base-spi is 0x1f: it must be the INTID of an SPI"
    );
}

#[test]
fn a_gic_may_lack_virtualization() {
    let Gic::V2(gic) = host(&one_cell()).gic else {
        panic!("a GICv3");
    };
    assert_eq!(gic.cpu_interface, range(0x4004_2000, 0x2000));
    assert_eq!((gic.hypervisor_interface, gic.vcpu_interface), (None, None));
    let path = "/interrupt-controller@40041000";
    let tree = one_cell().set(path, cells("reg", &[0x4004_1000, 0x1000]));
    assert_eq!(
        refused(&tree),
        "/interrupt-controller@40041000: has no reg of a CPU interface"
    );
}

#[test]
fn a_gicv3_has_regions_and_an_its() {
    let its = Its {
        path: "/intc@8000000/its@8080000".into(),
        registers: range(0x808_0000, 0x2_0000),
        phandle: Some(2),
        coherent: true,
    };
    let gic = GicV3 {
        path: "/intc@8000000".into(),
        distributor: range(0x800_0000, 0x1_0000),
        redistributors: [
            range(0x80a_0000, 0xf6_0000),
            range(0x40_0000_0000, 0x400_0000),
        ]
        .into(),
        stride: None,
        its: [its].into(),
        coherent: true,
        maintenance: Some(ppi(9, Trigger::Level)),
    };
    assert_eq!(host(&qemu_gicv3()).gic, Gic::V3(gic));

    let path = "/intc@8000000";
    let tree = qemu_gicv3().set(path, cells("redistributor-stride", &[0, 0x4_0000]));
    let Gic::V3(gic) = host(&tree.set(path, cells("#redistributor-regions", &[1]))).gic else {
        panic!("a GICv2");
    };
    assert_eq!(gic.redistributors, [range(0x80a_0000, 0xf6_0000)]);
    assert_eq!(gic.stride, Some(0x4_0000));

    let tree = qemu_gicv3().set("/intc@8000000/its@8080000", flag("dma-noncoherent"));
    let Gic::V3(gic) = host(&tree).gic else {
        panic!("a GICv2");
    };
    assert!(gic.coherent && !gic.its[0].coherent);
    let Gic::V3(gic) = host(&qemu_gicv3().set(path, flag("dma-noncoherent"))).gic else {
        panic!("a GICv2");
    };
    assert!(!gic.coherent && gic.its[0].coherent);
}

#[test]
fn regions_that_are_announced_must_exist() {
    let path = "/intc@8000000";
    let tree = qemu_gicv3().set(path, cells("#redistributor-regions", &[3]));
    assert_eq!(
        refused(&tree),
        "/intc@8000000: has no reg of a redistributor region"
    );
    let tree = tree.set(path, cells("#redistributor-regions", &[0]));
    assert_eq!(
        refused(&tree),
        "/intc@8000000: #redistributor-regions is 0x0: it must be 1 to 256"
    );
}

#[test]
fn a_gic_is_needed() {
    assert_eq!(
        refused(&qemu_gicv2().without_child("/", "intc@8000000")),
        "/: there is no interrupt controller of a supported kind (arm,gic-v3, arm,gic-400)"
    );
}

#[test]
fn the_timer_has_an_interrupt_for_each_level() {
    let level = |number| ppi(number, Trigger::Level);
    let timer = Timer {
        secure: Some(level(13)),
        non_secure: level(14),
        virt: level(11),
        hyp: level(10),
        hyp_virt: None,
        clock_frequency: None,
    };
    // Listed in the usual order, extended, named.
    for tree in [qemu_gicv2(), qemu_gicv3(), rcar_h3(), imx8mp(), one_cell()] {
        assert_eq!(host(&tree).timer, timer);
    }
}

#[test]
fn names_give_the_timers_interrupts_an_order() {
    let interrupts = [1, 10, 4, 1, 11, 1, 1, 14, 4, 1, 12, 4];
    let tree = qemu_gicv2()
        .set("/timer", cells("interrupts", &interrupts))
        .set(
            "/timer",
            strings("interrupt-names", &["hyp-phys", "virt", "phys", "hyp-virt"]),
        )
        .set("/timer", cells("clock-frequency", &[8_333_333]));
    let timer = Timer {
        secure: None,
        non_secure: ppi(14, Trigger::Level),
        virt: ppi(11, Trigger::Edge),
        hyp: ppi(10, Trigger::Level),
        hyp_virt: Some(ppi(12, Trigger::Level)),
        clock_frequency: Some(8_333_333),
    };
    assert_eq!(host(&tree).timer, timer);
}

#[test]
fn a_timer_of_el2_is_needed() {
    let tree = qemu_gicv2().set(
        "/timer",
        cells("interrupts", &[1, 13, 4, 1, 14, 4, 1, 11, 4]),
    );
    assert_eq!(
        refused(&tree),
        "/timer: its hyp-phys interrupt is not one of the GIC's"
    );
    let tree = tree.without_child("/", "timer");
    assert_eq!(
        refused(&tree),
        "/: there is no architected timer (arm,armv8-timer)"
    );
}
