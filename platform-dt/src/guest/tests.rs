//! Guests' trees, read back.

use std::vec::Vec;

use xen_types::{Gpa, GpaRange, Hpa, HpaRange, Trigger};

use super::*;
use crate::host::Gic;
use crate::{HostTree, PciBridge, PciWindow};

fn range(start: u64, size: u64) -> GpaRange {
    GpaRange::new(Gpa::new(start), size).unwrap()
}

/// Where a host would have it.
fn host(range: GpaRange) -> HpaRange {
    let start = Hpa::new(range.start().get());
    HpaRange::new(start, range.size()).unwrap()
}

const BANKS: [(u64, u64); 2] = [(0x4000_0000, 0xc000_0000), (0x2_0000_0000, 0x4000_0000)];

fn with_plan<T>(gic: GuestController, vcpus: u32, look: impl FnOnce(&GuestPlan<'_>) -> T) -> T {
    let memory = BANKS.map(|(start, size)| range(start, size));
    look(&GuestPlan {
        memory: &memory,
        vcpus,
        gic,
        command_line: "console=hvc0",
        ramdisk: Some(range(0x4800_0000, 0x1234)),
        seed: &[7; 32],
        timer: [29, 30, 27],
        clock_frequency: None,
        hypervisor: Some(GuestHypervisor {
            grant_window: range(0x3800_0000, 0x100_0000),
            extended_regions: &[range(0x2_8000_0000, 0x1000_0000)],
            event_interrupt: 31,
        }),
        uart: Some((range(0x2200_0000, 0x1000), 32)),
        pci: None,
    })
}

fn its() -> GuestMessages {
    GuestMessages::Its {
        registers: range(0x0808_0000, 0x2_0000),
    }
}

fn frame() -> GuestMessages {
    GuestMessages::Frame {
        registers: range(0x0802_0000, 0x1000),
        first: 64,
        count: 32,
    }
}

fn pci(messages: GuestMessages) -> GuestPci {
    GuestPci {
        config: range(0x1000_0000, 0x10_0000),
        memory: range(0x2300_0000, 0x1000_0000),
        prefetchable: range(0x1_0000_0000, 0x1_0000_0000),
        messages,
        lines: Some(40),
        coherent: true,
    }
}

fn v3() -> GuestController {
    GuestController::V3 {
        distributor: range(0x0300_1000, 0x1_0000),
        redistributors: range(0x0302_0000, 0x100_0000),
    }
}

fn v2() -> GuestController {
    GuestController::V2 {
        distributor: range(0x0300_1000, 0x1000),
        cpu_interface: range(0x0300_2000, 0x2000),
    }
}

#[test]
fn there_is_a_node_for_each_processor() {
    for (gic, vcpus) in [(v2(), 1), (v2(), 8), (v3(), 1), (v3(), 128)] {
        let blob = with_plan(gic, vcpus, build).unwrap();
        let dtb = Dtb::parse(&blob).unwrap();
        HostTree::reencode(&dtb).unwrap();
        let cpus = dtb.node("/cpus").unwrap();
        assert_eq!(cpus.children().count(), vcpus as usize);
    }
}

#[test]
fn a_guest_may_not_know_that_there_is_a_hypervisor() {
    let without = |plan: &GuestPlan<'_>| {
        build(&GuestPlan {
            hypervisor: None,
            ..*plan
        })
    };
    let blob = with_plan(v3(), 1, without).unwrap();
    let dtb = Dtb::parse(&blob).unwrap();
    assert!(dtb.node("/hypervisor").is_none() && dtb.node("/timer").is_some());
}

#[test]
fn the_tree_says_what_the_plan_says() {
    let blob = with_plan(v3(), 20, build).unwrap();
    let dtb = Dtb::parse(&blob).unwrap();
    let node = |path: &str| dtb.node(&std::format!("/{path}")).unwrap();
    let property = |path: &str, name: &str| node(path).property(name).unwrap().value.to_vec();
    let words = |path, name| -> Vec<u32> {
        let bytes = property(path, name);
        let words = bytes.chunks_exact(4);
        words
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect()
    };
    assert_eq!(
        words("memory@40000000", "reg"),
        [0, 0x4000_0000, 0, 0xc000_0000]
    );
    assert_eq!(words("memory@200000000", "reg"), [2, 0, 0, 0x4000_0000]);
    assert_eq!(property("chosen", "bootargs"), b"console=hvc0\0");
    assert_eq!(words("chosen", "linux,initrd-start"), [0, 0x4800_0000]);
    assert_eq!(words("chosen", "linux,initrd-end"), [0, 0x4800_1234]);
    assert_eq!(
        words("hypervisor", "reg"),
        [
            0,
            0x3800_0000,
            0,
            0x100_0000,
            2,
            0x8000_0000,
            0,
            0x1000_0000
        ]
    );
    assert_eq!(words("hypervisor", "interrupts"), [1, 15, 0xf08]);
    assert_eq!(
        words("timer", "interrupts"),
        [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08]
    );
    assert_eq!(words("sbsa-pl011@22000000", "interrupts"), [0, 0, 4]);
    // Sixteen processors share a value of affinity level 1.
    assert_eq!(words("cpus/cpu@103", "reg"), [0x103]);
}

/// The tree of a guest with this bus.
fn with_pci(gic: GuestController, pci: GuestPci) -> Vec<u8> {
    let build = |plan: &GuestPlan<'_>| {
        build(&GuestPlan {
            pci: Some(pci),
            ..*plan
        })
    };
    with_plan(gic, 2, build).unwrap()
}

#[test]
fn a_bus_reads_as_it_was_planned() {
    for (gic, messages) in [
        (v3(), its()),
        (v2(), frame()),
        (v3(), GuestMessages::None),
        (v2(), GuestMessages::None),
    ] {
        let planned = pci(messages);
        let blob = with_pci(gic, planned);
        let dtb = Dtb::parse(&blob).unwrap();
        HostTree::reencode(&dtb).unwrap();
        let bridges = PciBridge::all(&dtb);
        let [Ok(bridge)] = bridges.as_slice() else {
            panic!("{bridges:?}");
        };
        assert_eq!(bridge.compatible, ["pci-host-ecam-generic"]);
        assert_eq!((bridge.domain, bridge.buses), (Some(0), Some((0, 0))));
        assert_eq!(bridge.registers, [host(planned.config)]);
        let windows = [(planned.memory, false), (planned.prefetchable, true)];
        let windows = windows.map(|(window, prefetchable)| PciWindow {
            io: false,
            prefetchable,
            bus_address: window.start().get(),
            host: host(window),
        });
        assert_eq!(bridge.windows, windows);
        assert!(bridge.coherent);
        // The same for each slot.
        for requester in [8, 16, 0xf8] {
            for (pin, interrupt) in (1..=4).zip(40..) {
                let to = bridge.interrupts.find(requester, pin).unwrap();
                assert_eq!((to.id.get(), to.trigger), (interrupt, Trigger::Level));
            }
        }
        let phandle = match messages {
            GuestMessages::None => None,
            GuestMessages::Its { .. } => {
                let map = bridge.msi_map.as_ref().unwrap();
                let mapped = map.find(0x18).unwrap();
                assert_eq!(mapped.id, 0x18);
                Some(mapped.controller)
            }
            GuestMessages::Frame { .. } => bridge.msi_parent,
        };
        assert_eq!(bridge.msi_parent.is_some(), messages == frame());
        assert_eq!(bridge.msi_map.is_some(), messages == its());
        assert_messages_are_found(&dtb, messages, phandle);
    }
}

/// The inventory that hosts have finds in the controller what messages go to, by this phandle.
fn assert_messages_are_found(dtb: &Dtb<'_>, messages: GuestMessages, phandle: Option<u32>) {
    match (Gic::read(dtb).unwrap(), messages) {
        (Gic::V2(gic), GuestMessages::None) => assert_eq!(gic.v2m_frames, []),
        (Gic::V3(gic), GuestMessages::None) => assert_eq!(gic.its, []),
        (Gic::V3(gic), GuestMessages::Its { registers }) => {
            let [its] = gic.its.as_slice() else {
                panic!("{gic:?}");
            };
            assert_eq!(its.registers, host(registers));
            assert_eq!(its.phandle, phandle);
        }
        (
            Gic::V2(gic),
            GuestMessages::Frame {
                registers,
                first,
                count,
            },
        ) => {
            let [frame] = gic.v2m_frames.as_slice() else {
                panic!("{gic:?}");
            };
            assert_eq!(frame.registers, host(registers));
            assert_eq!(frame.phandle, phandle);
            let found = (frame.base.unwrap().intid(), frame.count.unwrap());
            assert_eq!(found, (first, count as u16));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bus_may_have_no_lines_and_no_coherence() {
    let bare = GuestPci {
        lines: None,
        coherent: false,
        ..pci(its())
    };
    let blob = with_pci(v3(), bare);
    let bridges = PciBridge::all(&Dtb::parse(&blob).unwrap());
    let [Ok(bridge)] = bridges.as_slice() else {
        panic!("{bridges:?}");
    };
    assert!(!bridge.coherent && bridge.interrupts.find(8, 1).is_none());
}

#[test]
fn nonsense_is_refused() {
    let bad = |change: fn(&mut GuestPlan<'_>)| {
        with_plan(v3(), 1, |plan| {
            let mut plan = *plan;
            change(&mut plan);
            build(&plan).unwrap_err()
        })
    };
    assert_eq!(bad(|plan| plan.vcpus = 0), GuestTreeError::Nothing);
    assert_eq!(bad(|plan| plan.memory = &[]), GuestTreeError::Nothing);
    assert_eq!(
        bad(|plan| {
            plan.hypervisor = plan.hypervisor.map(|told| GuestHypervisor {
                event_interrupt: 32,
                ..told
            });
        }),
        GuestTreeError::Interrupt(32)
    );
    assert_eq!(
        bad(|plan| plan.timer[2] = 15),
        GuestTreeError::Interrupt(15)
    );
}
