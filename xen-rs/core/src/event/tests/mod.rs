//! The operations one by one, with the error that each misuse gives.

extern crate std;
use std::vec::Vec;

use xen_abi::event_channel::{PortStatus, TWO_LEVEL_CHANNELS};
use xen_abi::{DomId, Errno, virq};

use super::*;

mod fake;
mod model;

use fake::{World, port};

const D0: Caller = caller(0, true);
const D1: Caller = caller(1, false);
const D2: Caller = caller(2, false);

const fn caller(id: u16, privileged: bool) -> Caller {
    Caller {
        domain: DomId::new(id),
        privileged,
    }
}

fn errno<T>(result: Result<T, EventError>) -> Option<Errno> {
    result.err().map(EventError::errno)
}

/// A channel from `a` to `b`, with both flags as after the guest has looked.
fn channel(world: &World, a: Caller, b: Caller) -> (Port, Port) {
    let offered = alloc_unbound(world, a, DomId::SELF, b.domain).unwrap();
    let (bound, _) = bind_interdomain(world, b, a.domain, offered.get()).unwrap();
    world.consume(b.domain, VcpuId::ZERO);
    (offered, bound)
}

#[test]
fn a_notification_reaches_the_other_end_and_interrupts_once() {
    let world = World::new(2, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    let raised = send(&world, D1, at_d1.get()).unwrap().unwrap();
    assert_eq!((raised.domain, raised.port), (D0.domain, at_d0));
    assert_eq!(raised.upcall, Some(VcpuId::ZERO));
    assert_eq!(send(&world, D1, at_d1.get()).unwrap(), None);

    let (second, _) = channel_unread(&world, D1, D0);
    let raised = send(&world, D1, second.get()).unwrap();
    assert_eq!(raised, None, "binding has made it pending");
    assert_eq!(world.consume(D0.domain, VcpuId::ZERO).len(), 2);
    assert!(world.consume(D1.domain, VcpuId::ZERO).is_empty());
}

fn channel_unread(world: &World, a: Caller, b: Caller) -> (Port, Port) {
    let offered = alloc_unbound(world, a, DomId::SELF, b.domain).unwrap();
    let (bound, raised) = bind_interdomain(world, b, a.domain, offered.get()).unwrap();
    assert!(raised.is_some_and(|raised| raised.upcall.is_none()));
    (offered, bound)
}

#[test]
fn bits_are_written_in_the_order_in_which_the_guest_relies_on_them() {
    let world = World::new(1, 100);
    let port = world.table(D0.domain, |table| table.bind_ipi(0)).unwrap();
    world.clear_trace(D0.domain);
    let _ = send(&world, D0, port.get()).unwrap();
    assert_eq!(
        world.trace(D0.domain),
        ["pending", "masked?", "selector", "upcall"]
    );
}

#[test]
fn a_masked_port_waits_for_unmask() {
    let world = World::new(1, 100);
    let port = world.table(D0.domain, |table| table.bind_ipi(1)).unwrap();
    world.set_mask(D0.domain, port);
    let raised = send(&world, D0, port.get()).unwrap().unwrap();
    assert_eq!(raised.upcall, None);
    let unmask = || world.side(D0.domain, |side| side.ports.unmask(side.page, port.get()));
    let raised = unmask().unwrap().unwrap();
    assert_eq!(raised.upcall, Some(VcpuId::new(1)));
    assert_eq!(unmask().unwrap(), None, "it is not masked");
    assert_eq!(world.consume(D0.domain, VcpuId::new(1)), [port]);
    world.set_mask(D0.domain, port);
    assert_eq!(unmask().unwrap(), None, "it is not pending");
}

#[test]
fn the_store_of_dom0_talks_to_itself() {
    let world = World::new(1, 100);
    let kernel = alloc_unbound(&world, D0, DomId::SELF, DomId::SELF).unwrap();
    let (store, raised) = bind_interdomain(&world, D0, D0.domain, kernel.get()).unwrap();
    assert_eq!(raised.map(|raised| raised.port), Some(store));
    assert_eq!(world.consume(D0.domain, VcpuId::ZERO), [store]);
    for (from, to) in [(kernel, store), (store, kernel)] {
        let raised = send(&world, D0, from.get()).unwrap().unwrap();
        assert_eq!((raised.domain, raised.port), (D0.domain, to));
        assert_eq!(world.consume(D0.domain, VcpuId::ZERO), [to]);
    }
    close(&world, D0, store.get()).unwrap();
    let state = world.state(D0.domain, kernel.get());
    assert_eq!(state, Ok(PortState::Unbound { remote: D0.domain }));
}

#[test]
fn only_the_control_domain_acts_on_others() {
    let world = World::new(3, 100);
    let alloc = |who, dom| alloc_unbound(&world, who, dom, DomId::new(2));
    assert!(alloc(D0, D1.domain).is_ok());
    assert_eq!(errno(alloc(D1, D2.domain)), Some(Errno::NotPermitted));
    assert_eq!(errno(alloc(D1, DomId::new(9))), Some(Errno::NoDomain));
    assert_eq!(errno(alloc(D0, DomId::IO)), Some(Errno::NoDomain));

    assert!(status(&world, D0, D1.domain, 1).is_ok());
    assert!(status(&world, D1, D1.domain, 1).is_ok());
    let port = alloc(D0, D2.domain).unwrap().get();
    let forbidden = Some(Errno::NotPermitted);
    assert_eq!(errno(status(&world, D1, D2.domain, port)), forbidden);
    assert_eq!(errno(reset(&world, D1, D2.domain)), forbidden);
    assert!(reset(&world, D0, D2.domain).is_ok());
}

#[test]
fn a_port_is_bound_only_by_whom_it_waits_for() {
    let world = World::new(3, 100);
    let port = alloc_unbound(&world, D1, DomId::SELF, D0.domain).unwrap();
    let bind = |who, dom, port| errno(bind_interdomain(&world, who, dom, port));
    assert_eq!(bind(D2, D1.domain, port.get()), Some(Errno::Invalid));
    assert_eq!(bind(D0, D1.domain, port.get() + 1), Some(Errno::Invalid));
    assert_eq!(bind(D0, DomId::new(7), port.get()), Some(Errno::NoDomain));
    assert_eq!(bind(D0, D1.domain, port.get()), None);
    assert_eq!(bind(D0, D1.domain, port.get()), Some(Errno::Invalid));
}

#[test]
fn virtual_interrupts_are_bound_once_and_on_the_right_vcpu() {
    let world = World::new(1, 100);
    let bind = |virq, vcpu| world.table(D0.domain, |table| table.bind_virq(virq, vcpu));
    let console = bind(virq::CONSOLE, 0).unwrap();
    assert_eq!(errno(bind(virq::CONSOLE, 0)), Some(Errno::Exists));
    assert_eq!(errno(bind(virq::DOM_EXC, 1)), Some(Errno::Invalid));
    assert_eq!(errno(bind(virq::ARGO, 1)), Some(Errno::Invalid));
    assert!(bind(virq::TIMER, 0).is_ok());
    assert!(bind(virq::TIMER, 1).is_ok());
    assert_eq!(errno(bind(virq::TIMER, 2)), Some(Errno::NoEntry));
    assert_eq!(errno(bind(virq::NR_VIRQS as u32, 0)), Some(Errno::Invalid));
    assert_eq!(errno(bind(u32::MAX, 0)), Some(Errno::Invalid));
    assert_eq!(errno(send(&world, D0, console.get())), Some(Errno::Invalid));

    let raise = |virq| raise_virq(&world, D0.domain, virq, VcpuId::ZERO);
    let raised = raise(Virq::CONSOLE).unwrap();
    assert_eq!((raised.port, raised.upcall), (console, Some(VcpuId::ZERO)));
    assert_eq!(raise(Virq::CON_RING), None, "nobody has bound it");

    close(&world, D0, console.get()).unwrap();
    assert_eq!(raise(Virq::CONSOLE), None);
    assert_eq!(bind(virq::CONSOLE, 0), Ok(console));
    assert!(raise(Virq::CONSOLE).is_some(), "the old event is gone");
}

/// XSA-496: what cannot be bound takes no port.
#[test]
fn xsa_496_a_virtual_interrupt_that_cannot_be_bound_leaves_no_port() {
    let world = World::new(1, 3);
    let bind = |virq, vcpu| world.table(D0.domain, |table| table.bind_virq(virq, vcpu));
    assert_eq!(bind(virq::CONSOLE, 0), Ok(port(1)));
    for (number, vcpu) in [
        (virq::CONSOLE, 0),
        (virq::DOM_EXC, 1),
        (virq::TIMER, u32::MAX),
        (u32::MAX, 0),
    ] {
        for _ in 0..4 {
            assert!(bind(number, vcpu).is_err());
        }
    }
    assert_eq!(bind(virq::TIMER, 0), Ok(port(2)));
    assert_eq!(bind(virq::DOM_EXC, 0), Ok(port(3)));
    // Nor does one without a port bind anything: it can be bound when there is one again.
    assert_eq!(errno(bind(virq::DEBUG, 0)), Some(Errno::NoSpace));
    close(&world, D0, 2).unwrap();
    assert_eq!(bind(virq::DEBUG, 0), Ok(port(2)));
}

#[test]
fn a_vcpus_own_virtual_interrupt_reaches_that_vcpu() {
    let world = World::new(1, 100);
    let bind = |vcpu| world.table(D0.domain, |table| table.bind_virq(virq::TIMER, vcpu));
    let ports = [bind(0).unwrap(), bind(1).unwrap()];
    for (number, port) in ports.into_iter().enumerate() {
        let vcpu = VcpuId::new(number as u32);
        let timer = Virq::new(virq::TIMER).unwrap();
        let raised = raise_virq(&world, D0.domain, timer, vcpu).unwrap();
        assert_eq!((raised.port, raised.upcall), (port, Some(vcpu)));
    }
    let nobody = raise_virq(&world, D0.domain, Virq::CONSOLE, VcpuId::new(u32::MAX));
    assert_eq!(nobody, None);
}

#[test]
fn a_port_notifies_the_vcpu_it_was_given() {
    let world = World::new(2, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    let bind = |port: Port, vcpu| world.table(D0.domain, |table| table.bind_vcpu(port.get(), vcpu));
    bind(at_d0, 1).unwrap();
    let raised = send(&world, D1, at_d1.get()).unwrap().unwrap();
    assert_eq!(raised.upcall, Some(VcpuId::new(1)));
    assert_eq!(errno(bind(at_d0, 2)), Some(Errno::NoEntry));

    let open = |virq| world.table(D0.domain, |table| table.bind_virq(virq, 0));
    let ipi = world.table(D0.domain, |table| table.bind_ipi(0)).unwrap();
    assert_eq!(errno(bind(ipi, 1)), Some(Errno::Invalid));
    assert_eq!(
        errno(bind(open(virq::TIMER).unwrap(), 1)),
        Some(Errno::Invalid)
    );
    assert_eq!(bind(open(virq::CONSOLE).unwrap(), 1), Ok(()));
    let raised = raise_virq(&world, D0.domain, Virq::CONSOLE, VcpuId::ZERO).unwrap();
    assert_eq!(raised.upcall, None, "vCPU 1 is about to look anyway");
    assert_eq!(world.consume(D0.domain, VcpuId::new(1)).len(), 2);
}

#[test]
fn a_new_vcpu_info_makes_the_vcpu_look_at_everything() {
    let world = World::new(1, 100);
    let moved = || world.side(D0.domain, |side| vcpu_info_moved(side.page, VcpuId::ZERO));
    assert!(moved());
    assert!(!moved());
}

#[test]
fn all_ports_can_be_used_and_no_more() {
    let world = World::new(1, u32::MAX);
    let alloc = || alloc_unbound(&world, D0, DomId::SELF, DomId::SELF);
    let ports: Vec<u32> = (1..TWO_LEVEL_CHANNELS)
        .map(|_| alloc().unwrap().get())
        .collect();
    assert!(ports.iter().copied().eq(1..TWO_LEVEL_CHANNELS));
    assert_eq!(errno(alloc()), Some(Errno::NoSpace));
    close(&world, D0, 7).unwrap();
    close(&world, D0, 4095).unwrap();
    assert_eq!(alloc(), Ok(port(7)));
    assert_eq!(alloc(), Ok(port(4095)));
    assert_eq!(errno(alloc()), Some(Errno::NoSpace));
    reset(&world, D0, DomId::SELF).unwrap();
    let table_is_empty = |side: Side<'_, _>| side.ports.next_open(Port::FIRST).is_none();
    assert!(world.side(D0.domain, table_is_empty));
}

#[test]
fn the_toolstacks_limit_counts() {
    let world = World::new(1, 2);
    let alloc = || alloc_unbound(&world, D0, DomId::SELF, DomId::SELF);
    assert_eq!(alloc(), Ok(port(1)));
    assert_eq!(alloc(), Ok(port(2)));
    assert_eq!(errno(alloc()), Some(Errno::NoSpace));
    let world = World::new(1, 0);
    let refused = alloc_unbound(&world, D0, DomId::SELF, DomId::SELF);
    assert_eq!(errno(refused), Some(Errno::NoSpace));
}

/// XSA-338, XSA-221: validity of port numbers.
#[test]
fn xsa_338_no_port_number_does_harm() {
    let world = World::new(2, 8);
    let _ = channel(&world, D1, D0);
    let numbers = (0..=TWO_LEVEL_CHANNELS + 1).chain([
        u32::MAX,
        u32::MAX - 1,
        1 << 16,
        (1 << 16) + 1,
        1 << 31,
    ]);
    for number in numbers.filter(|&number| number != 1) {
        let invalid = Some(Errno::Invalid);
        assert_eq!(errno(send(&world, D0, number)), invalid);
        assert_eq!(errno(close(&world, D0, number)), invalid);
        assert_eq!(
            errno(bind_interdomain(&world, D0, D1.domain, number)),
            invalid
        );
        let on_table = |side: Side<'_, fake::Page>| {
            assert_eq!(errno(side.ports.bind_vcpu(number, 0)), invalid);
            assert_eq!(errno(side.ports.unmask(side.page, number)), invalid);
            let status = side.ports.status(number).map(|status| status.state);
            if number == 0 {
                assert_eq!(status, Ok(PortState::Closed));
            } else if number > 2 {
                assert_eq!(errno(status), invalid);
            }
        };
        world.side(D0.domain, on_table);
    }
}

/// XSA-342 to XSA-344: ports that close while others use them.
#[test]
fn xsa_343_reset_leaves_the_other_end_waiting() {
    let world = World::new(3, 100);
    let (at_d1, _) = channel(&world, D1, D0);
    let (at_d2, at_d1_too) = channel(&world, D2, D1);
    reset(&world, D0, D1.domain).unwrap();
    for number in [at_d1.get(), at_d1_too.get()] {
        assert_eq!(world.state(D1.domain, number), Ok(PortState::Closed));
    }
    let waits = Ok(PortState::Unbound { remote: D1.domain });
    assert_eq!(world.state(D2.domain, at_d2.get()), waits);
    assert_eq!(send(&world, D2, at_d2.get()), Ok(None), "nobody listens");
}

/// Closes D0's port, opens it again for D2 and handles the event of that.
fn give_port_to_d2(world: &World, port: Port) {
    close(world, D0, port.get()).unwrap();
    let (_, again) = channel(world, D2, D0);
    assert_eq!(again, port);
}

#[test]
fn a_notification_does_not_reach_who_got_the_port_meanwhile() {
    let world = World::new(3, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    world.meanwhile(move |world| give_port_to_d2(world, at_d0));
    assert_eq!(send(&world, D1, at_d1.get()), Ok(None));
    assert!(!world.side(D0.domain, |side| side.page.is_pending(at_d0)));
}

#[test]
fn closing_is_right_whatever_happens_meanwhile() {
    let world = World::new(3, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    world.meanwhile(move |world| give_port_to_d2(world, at_d0));
    assert_eq!(close(&world, D1, at_d1.get()), Ok(()), "it waits only");
    let state = world.state(D0.domain, at_d0.get()).unwrap();
    assert!(matches!(state, PortState::Interdomain { remote, .. } if remote == D2.domain));

    let (at_d1, at_d0) = channel(&world, D1, D0);
    world.meanwhile(move |world| close(world, D1, at_d1.get()).unwrap());
    let twice = close(&world, D1, at_d1.get());
    assert_eq!(errno(twice), Some(Errno::Invalid));

    let waits = PortState::Unbound { remote: D1.domain };
    assert_eq!(world.state(D0.domain, at_d0.get()), Ok(waits));
    close(&world, D0, at_d0.get()).unwrap();
    let (at_d1, at_d0) = channel(&world, D1, D0);
    world.meanwhile(move |world| {
        close(world, D1, at_d1.get()).unwrap();
        assert_eq!(channel(world, D1, D2).0, at_d1);
    });
    let another = close(&world, D1, at_d1.get());
    assert_eq!(errno(another), Some(Errno::Invalid));
    assert_eq!(world.state(D0.domain, at_d0.get()), Ok(waits));
}

#[test]
fn a_dying_domain_opens_nothing() {
    let world = World::new(2, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    world.table(D1.domain, PortTable::retire);
    reset(&world, D0, D1.domain).unwrap();
    let refused = alloc_unbound(&world, D0, D1.domain, D0.domain);
    assert_eq!(errno(refused), Some(Errno::Invalid));
    assert_eq!(world.state(D1.domain, at_d1.get()), Ok(PortState::Closed));
    world.remove(D1.domain);
    assert_eq!(send(&world, D0, at_d0.get()), Ok(None));
    assert_eq!(close(&world, D0, at_d0.get()), Ok(()));
}

#[test]
fn status_is_in_the_words_of_the_abi() {
    let world = World::new(2, 100);
    let (at_d1, at_d0) = channel(&world, D1, D0);
    let told = |port: Port| {
        let status = status(&world, D0, DomId::SELF, port.get()).unwrap();
        status.to_abi()
    };
    let detail = [1, at_d1.get()];
    assert_eq!(told(at_d0), (PortStatus::Interdomain, 0, detail));
    let console = |table: &mut PortTable| table.bind_virq(virq::CONSOLE, 0);
    let console = world.table(D0.domain, console).unwrap();
    let detail = [virq::CONSOLE, 0];
    assert_eq!(told(console), (PortStatus::Virq, 0, detail));
    let ipi = world.table(D0.domain, |table| table.bind_ipi(1)).unwrap();
    assert_eq!(told(ipi), (PortStatus::Ipi, 1, [0, 0]));
    let waiting = alloc_unbound(&world, D0, DomId::SELF, D1.domain).unwrap();
    assert_eq!(told(waiting), (PortStatus::Unbound, 0, [1, 0]));
    close(&world, D0, waiting.get()).unwrap();
    assert_eq!(told(waiting), (PortStatus::Closed, 0, [0, 0]));
}
