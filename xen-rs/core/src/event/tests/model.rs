//! Random operations of three domains against a model that is a map and nothing else.

extern crate std;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xen_abi::{DomId, Errno, virq};

use super::super::*;
use super::errno;
use super::fake::{VCPUS, World};

const DOMAINS: u16 = 3;
const LIMIT: u32 = 6;

#[derive(Clone, Copy, Debug)]
enum Op {
    Alloc(DomId, DomId),
    Bind(DomId, u32),
    BindVirq(u32, u32),
    BindIpi(u32),
    BindVcpu(u32, u32),
    Close(u32),
    Send(u32),
    Unmask(u32),
    Reset(DomId),
    RaiseVirq(u32, u32),
    /// The guest masks a port.
    Mask(u32),
    /// The guest handles its events.
    Consume(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let dom = || prop_oneof![8 => 0..DOMAINS, 1 => Just(DomId::SELF.get()), 1 => Just(9u16)];
    let dom = move || dom().prop_map(DomId::new);
    let port = || prop_oneof![20 => 0..LIMIT + 2, 1 => 4094u32..4098, 1 => Just(u32::MAX)];
    let vcpu = || prop_oneof![20 => 0..VCPUS + 1, 1 => Just(u32::MAX)];
    let virq = || {
        prop_oneof![
            4 => Just(virq::CONSOLE),
            4 => Just(virq::TIMER),
            2 => Just(virq::ARGO),
            1 => any::<u32>()
        ]
    };
    prop_oneof![
        6 => (dom(), dom()).prop_map(|(dom, remote)| Op::Alloc(dom, remote)),
        8 => (dom(), port()).prop_map(|(dom, port)| Op::Bind(dom, port)),
        2 => (virq(), vcpu()).prop_map(|(virq, vcpu)| Op::BindVirq(virq, vcpu)),
        1 => vcpu().prop_map(Op::BindIpi),
        2 => (port(), vcpu()).prop_map(|(port, vcpu)| Op::BindVcpu(port, vcpu)),
        4 => port().prop_map(Op::Close),
        8 => port().prop_map(Op::Send),
        3 => port().prop_map(Op::Unmask),
        1 => dom().prop_map(Op::Reset),
        3 => (virq(), vcpu()).prop_map(|(virq, vcpu)| Op::RaiseVirq(virq, vcpu)),
        3 => port().prop_map(Op::Mask),
        3 => (0..VCPUS).prop_map(Op::Consume),
    ]
}

/// What one domain's ports should be. A closed port is not in the map.
#[derive(Clone, Default)]
struct Table(BTreeMap<u32, (PortState, u32)>);

impl Table {
    fn free(&self) -> Result<u32, Errno> {
        (1..=LIMIT)
            .find(|port| !self.0.contains_key(port))
            .ok_or(Errno::NoSpace)
    }

    fn get(&self, port: u32) -> Result<(PortState, u32), Errno> {
        self.0.get(&port).copied().ok_or(Errno::Invalid)
    }
}

struct Model(Vec<Table>);

impl Model {
    fn table(&mut self, domain: DomId) -> Result<&mut Table, Errno> {
        self.0
            .get_mut(usize::from(domain.get()))
            .ok_or(Errno::NoDomain)
    }

    fn close(&mut self, domain: DomId, port: u32) -> Result<(), Errno> {
        let (state, _) = self.table(domain)?.get(port)?;
        if let PortState::Interdomain { remote, port: peer } = state {
            let peer = self.table(remote)?.0.get_mut(&peer.get()).unwrap();
            peer.0 = PortState::Unbound { remote: domain };
        }
        self.table(domain)?.0.remove(&port);
        Ok(())
    }

    /// The result of an operation: the port that it opens, or 0.
    fn apply(&mut self, caller: Caller, op: Op) -> Result<u32, Errno> {
        let me = caller.domain;
        let resolve = |domain| if domain == DomId::SELF { me } else { domain };
        match op {
            Op::Alloc(domain, remote) => {
                let (domain, remote) = (resolve(domain), resolve(remote));
                let table = self.table(domain)?;
                permitted(caller, domain)?;
                let port = table.free()?;
                table.0.insert(port, (PortState::Unbound { remote }, 0));
                Ok(port)
            }
            Op::Bind(remote, remote_port) => {
                let remote = resolve(remote);
                self.table(remote)?;
                let port = self.table(me)?.free()?;
                let (state, vcpu) = self.table(remote)?.get(remote_port)?;
                if state != (PortState::Unbound { remote: me }) {
                    return Err(Errno::Invalid);
                }
                let ends = |remote, port| PortState::Interdomain {
                    remote,
                    port: Port::new(port).unwrap(),
                };
                let (here, there) = (ends(remote, remote_port), ends(me, port));
                self.table(me)?.0.insert(port, (here, 0));
                self.table(remote)?.0.insert(remote_port, (there, vcpu));
                Ok(port)
            }
            Op::BindVirq(number, vcpu) => {
                let virq = Virq::new(number).ok_or(Errno::Invalid)?;
                let own = virq.kind() == VirqKind::PerVcpu;
                if !own && vcpu != 0 {
                    return Err(Errno::Invalid);
                }
                vcpu_exists(vcpu)?;
                let table = self.table(me)?;
                let is_this = |&(state, on): &(PortState, u32)| {
                    state == PortState::Virq(virq) && (!own || on == vcpu)
                };
                if table.0.values().any(is_this) {
                    return Err(Errno::Exists);
                }
                let port = table.free()?;
                table.0.insert(port, (PortState::Virq(virq), vcpu));
                Ok(port)
            }
            Op::BindIpi(vcpu) => {
                vcpu_exists(vcpu)?;
                let table = self.table(me)?;
                let port = table.free()?;
                table.0.insert(port, (PortState::Ipi, vcpu));
                Ok(port)
            }
            Op::BindVcpu(port, vcpu) => {
                vcpu_exists(vcpu)?;
                let table = self.table(me)?;
                let (state, _) = table.get(port)?;
                let fixed = match state {
                    PortState::Virq(virq) => virq.kind() == VirqKind::PerVcpu,
                    state => state == PortState::Ipi,
                };
                if fixed {
                    return Err(Errno::Invalid);
                }
                table.0.insert(port, (state, vcpu));
                Ok(0)
            }
            Op::Close(port) => self.close(me, port).map(|()| 0),
            Op::Send(port) => match self.table(me)?.get(port)?.0 {
                PortState::Virq(_) => Err(Errno::Invalid),
                _ => Ok(0),
            },
            Op::Unmask(port) => self.table(me)?.get(port).map(|_| 0),
            Op::Reset(domain) => {
                let domain = resolve(domain);
                let open: Vec<u32> = self.table(domain)?.0.keys().copied().collect();
                permitted(caller, domain)?;
                open.into_iter()
                    .try_for_each(|port| self.close(domain, port))
                    .map(|()| 0)
            }
            Op::RaiseVirq(..) | Op::Mask(_) | Op::Consume(_) => Ok(0),
        }
    }
}

fn permitted(caller: Caller, target: DomId) -> Result<(), Errno> {
    if caller.privileged || caller.domain == target {
        Ok(())
    } else {
        Err(Errno::NotPermitted)
    }
}

fn vcpu_exists(vcpu: u32) -> Result<(), Errno> {
    if vcpu < VCPUS {
        Ok(())
    } else {
        Err(Errno::NoEntry)
    }
}

/// Who is to hear of a notification through `port`.
fn listener(world: &World, me: DomId, port: u32) -> Option<(DomId, Port)> {
    match world.state(me, port).ok()? {
        PortState::Interdomain { remote, port } => Some((remote, port)),
        PortState::Ipi => Some((me, Port::new(port)?)),
        _ => None,
    }
}

/// The result of the real operation, as the model gives it.
fn apply(world: &World, caller: Caller, op: Op) -> Result<u32, Errno> {
    let me = caller.domain;
    let errno = |error: EventError| error.errno();
    let done = |()| 0;
    match op {
        Op::Alloc(domain, remote) => alloc_unbound(world, caller, domain, remote).map(Port::get),
        Op::Bind(remote, port) => {
            bind_interdomain(world, caller, remote, port).map(|(port, raised)| {
                assert_eq!(raised.map(|raised| raised.port), Some(port));
                port.get()
            })
        }
        Op::BindVirq(virq, vcpu) => world
            .table(me, |table| table.bind_virq(virq, vcpu))
            .map(Port::get),
        Op::BindIpi(vcpu) => world.table(me, |table| table.bind_ipi(vcpu)).map(Port::get),
        Op::BindVcpu(port, vcpu) => world
            .table(me, |table| table.bind_vcpu(port, vcpu))
            .map(done),
        Op::Close(port) => close(world, caller, port).map(done),
        Op::Send(port) => {
            let heard = listener(world, me, port);
            let heard = heard
                .filter(|&(domain, port)| !world.side(domain, |side| side.page.is_pending(port)));
            send(world, caller, port).map(|raised| {
                assert_eq!(raised.map(|raised| (raised.domain, raised.port)), heard);
                0
            })
        }
        Op::Unmask(port) => world
            .side(me, |side| side.ports.unmask(side.page, port))
            .map(|_| 0),
        Op::Reset(domain) => reset(world, caller, domain).map(done),
        Op::RaiseVirq(virq, vcpu) => {
            if let Some(virq) = Virq::new(virq) {
                let _ = raise_virq(world, me, virq, VcpuId::new(vcpu));
            }
            Ok(0)
        }
        Op::Mask(port) => {
            if let Some(port) = Port::new(port) {
                world.set_mask(me, port);
            }
            Ok(0)
        }
        Op::Consume(vcpu) => {
            world.consume(me, VcpuId::new(vcpu));
            Ok(0)
        }
    }
    .map_err(errno)
}

fn check(world: &World, model: &Model) {
    for (id, table) in model.0.iter().enumerate() {
        let me = DomId::new(id as u16);
        for number in 1..=LIMIT {
            let expected = table.0.get(&number).copied();
            let (state, vcpu) = expected.unwrap_or((PortState::Closed, 0));
            match world.table(me, |table| table.status(number)) {
                Ok(status) => assert_eq!((status.state, status.vcpu.get()), (state, vcpu)),
                // Never opened so far.
                Err(error) => assert_eq!(
                    (state, error),
                    (PortState::Closed, EventError::NotOpen(number))
                ),
            }
            let port = Port::new(number).unwrap();
            if let PortState::Interdomain { remote, port: peer } = state {
                let back = PortState::Interdomain { remote: me, port };
                assert_eq!(world.state(remote, peer.get()), Ok(back), "both ends agree");
            }
            world.side(me, |side| {
                let page = side.page;
                let waiting = page.is_pending(port);
                assert!(!waiting || state != PortState::Closed, "closed and pending");
                let seen = page.is_masked(port) || page.is_announced(port);
                assert!(!waiting || seen, "an event is lost");
            });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn ports_follow_the_model(ops in prop::collection::vec((0..DOMAINS, op()), 1..120)) {
        let world = World::new(DOMAINS, LIMIT);
        let mut model = Model(vec![Table::default(); usize::from(DOMAINS)]);
        for (id, op) in ops {
            let caller = Caller { domain: DomId::new(id), privileged: id == 0 };
            let expected = model.apply(caller, op);
            let result = apply(&world, caller, op);
            prop_assert_eq!(result, expected, "{:?} by {:?}", op, caller);
            check(&world, &model);
        }
    }

    #[test]
    fn any_number_is_survived(port: u32, vcpu: u32, number: u32, id: u16) {
        let world = World::new(1, u32::MAX);
        let caller = Caller { domain: DomId::new(0), privileged: true };
        let domain = DomId::new(id);
        let on_table = |side: Side<'_, _>| {
            let _ = side.ports.bind_virq(number, vcpu);
            let _ = side.ports.bind_ipi(vcpu);
            let _ = side.ports.bind_vcpu(port, vcpu);
            let _ = side.ports.unmask(side.page, port);
            let _ = side.ports.status(port);
        };
        world.side(DomId::new(0), on_table);
        let _ = errno(send(&world, caller, port));
        let _ = errno(bind_interdomain(&world, caller, domain, port));
        let _ = errno(status(&world, caller, domain, port));
        let _ = errno(close(&world, caller, port));
        let _ = errno(alloc_unbound(&world, caller, domain, domain));
    }
}
