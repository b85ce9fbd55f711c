//! From a device's message to the guest: two domains, their virtual ITSs and interrupt controllers,
//! the driver, and two simulated ITSs.

extern crate std;

use std::sync::Mutex;

use platform_dt::MappedId;
use proptest::prelude::*;
use xen_abi::DomId;

use super::super::{GiveError, Offer, Outside, Refusal, Step, Taken, VitsError};
use super::*;
use crate::its::simulated::{ItsRegisters, Kind, Machine};
use crate::its::{self, Its, ItsError, Lpis, Services};
use crate::vgic::lr::{Format, GicV3, ListRegisters};
use crate::vgic::{Effects, Locking, Region, Version, Vgic};

enum HostLocks {}

impl Locking for HostLocks {
    type Lock<T> = Mutex<T>;
}

/// Where each guest has the configuration of its LPIs: all enabled.
const CONFIGURATION: u64 = 0x5000_0000;

struct Domain {
    guest: Guest,
    vgic: Vgic<HostLocks>,
}

impl Domain {
    fn new() -> Self {
        let mut vgic = Vgic::new(Version::V3, 4, 32).unwrap();
        vgic.offer_lpis(14).unwrap();
        let mut guest = Guest::new();
        let mut effects = Effects::new();
        let mut write = |region, offset, value| {
            let access = Access {
                offset,
                width: if offset & 0xffff == 0 {
                    Width::Word
                } else {
                    Width::Double
                },
                direction: Direction::Write(value),
            };
            vgic.access(cpu(0), region, access, &mut effects);
        };
        write(Region::Distributor, 0, 0b11);
        write(Region::Redistributors, 0x70, CONFIGURATION | 13);
        for number in 0..4 {
            write(Region::Redistributors, number << 17, 1);
        }
        for number in 0..64 {
            guest.memory.bytes.insert(CONFIGURATION + number, 0xa1);
        }
        let mut effects = Effects::new();
        while vgic.continue_lpis(&guest.memory, &mut effects) {}
        Self { guest, vgic }
    }

    /// Takes an LPI on a vCPU, as the hardware would.
    fn take(&self, number: usize) -> Option<u32> {
        let mut registers = ListRegisters::<GicV3>::new(4);
        self.vgic.flush(cpu(number), &mut registers);
        let first = registers.used_mut().first_mut()?;
        let taken = GicV3::decode(*first)?.id.get();
        // The acknowledge leaves an inactive list register.
        *first &= !(1 << 62);
        let mut effects = Effects::new();
        self.vgic.sync(cpu(number), &mut registers, &mut effects);
        Some(taken)
    }
}

struct Whole {
    machine: Machine,
    services: Services<ItsRegisters, HostLocks>,
    domains: [Domain; 2],
}

fn outside<'a>(
    domain: usize,
    vgic: &'a Vgic<HostLocks>,
    memory: &'a Memory,
    services: &'a Services<ItsRegisters, HostLocks>,
) -> Outside<'a, ItsRegisters, HostLocks, Memory, fn(CpuId) -> usize> {
    Outside {
        domain: DomId::new(domain as u16),
        vgic,
        memory,
        services,
        place_of: CpuId::get,
    }
}

/// What both ITSs call the device of the domain whose number is theirs.
const DEVICE: DeviceId = DeviceId(0x100);
/// The LPIs that a GIC with INTIDs of 16 bits has.
const LPIS: u32 = 57_344;

impl Whole {
    /// Two domains with a device each: 8 to the guest. The host has one behind each ITS.
    fn new() -> Self {
        let kind = Kind {
            speed: 8,
            ..Kind::default()
        };
        let mut machine = Machine::new(&[kind, kind], 4);
        let config = its::Config {
            coherent: true,
            collections: 4,
        };
        let lpis = Lpis::new(&mut machine, 16, true).unwrap();
        let mut services = Services::new(lpis, 4).unwrap();
        for number in 0..2 {
            let its = Its::start(machine.its(number), &mut machine, config).unwrap();
            assert_eq!(services.add(its, Some(7 + number as u32)), Ok(number));
        }
        for number in 0..4 {
            let (registers, name) = (machine.redistributor(number), machine.name_of(number));
            let refused = |_, error| panic!("{error}");
            let cpu = number.into();
            let enabled = services.enable_on(&mut machine, cpu, &registers, name, refused);
            assert_eq!(enabled, Ok(()));
        }
        let mut whole = Self {
            machine,
            services,
            domains: [Domain::new(), Domain::new()],
        };
        for domain in 0..2 {
            whole.assign(domain);
        }
        whole
    }

    fn assign(&mut self, domain: usize) {
        assert_eq!(self.give(domain, 8, (domain, DEVICE), 4), Ok(()));
    }

    fn take_away(&mut self, domain: usize) {
        self.take(domain, 8);
    }

    /// Gives a domain a device.
    fn give(
        &mut self,
        domain: usize,
        id: u32,
        host: (usize, DeviceId),
        events: u32,
    ) -> Result<(), GiveError> {
        let Domain { guest, vgic } = &mut self.domains[domain];
        let outside = outside(domain, vgic, &guest.memory, &self.services);
        let id = GuestDeviceId(id);
        outside.give(&mut guest.vits, id, host, events, &mut self.machine)
    }

    /// Takes it. Returns what it was, and in how many parts it was taken.
    fn take(&mut self, domain: usize, id: u32) -> (Option<HostDevice>, usize) {
        let Domain { guest, vgic } = &mut self.domains[domain];
        let outside = outside(domain, vgic, &guest.memory, &self.services);
        let (id, effects) = (GuestDeviceId(id), &mut Effects::new());
        for parts in 1.. {
            let taken = outside.take(&mut guest.vits, id, &mut self.machine, effects);
            if let Taken::All(device) = taken.unwrap() {
                return (device, parts);
            }
        }
        unreachable!("a device has not so many events")
    }

    /// Takes a device away, whatever the guest wants. Returns how many events it had mapped.
    fn revoke(&mut self, domain: usize, id: GuestDeviceId) -> u32 {
        let Domain { guest, vgic } = &mut self.domains[domain];
        let outside = outside(domain, vgic, &guest.memory, &self.services);
        let effects = &mut Effects::new();
        let revoked = outside.revoke(&mut guest.vits, id, &mut self.machine, effects);
        revoked.unwrap()
    }

    fn carry_out(&mut self, domain: usize, effect: Effect) {
        let Domain { guest, vgic } = &mut self.domains[domain];
        let outside = outside(domain, vgic, &guest.memory, &self.services);
        let effects = &mut Effects::new();
        let done = outside.carry_out(&mut guest.vits, effect, &mut self.machine, effects);
        assert_eq!(done, Ok(()));
    }

    fn run(&mut self, domain: usize, command: Command) {
        self.domains[domain].guest.queue(command.encode());
        loop {
            let Guest { vits, memory, .. } = &mut self.domains[domain].guest;
            match vits.step(&*memory) {
                Step::Idle => return,
                Step::Again => {}
                Step::Effect(effect) => self.carry_out(domain, effect),
            }
        }
    }

    /// A message of a domain's device, all the way: the host's CPUs take what is pending.
    fn message(&mut self, domain: usize, event: u32) {
        self.message_of(domain, DEVICE, event);
    }

    /// A message of any device of an ITS.
    fn message_of(&mut self, its: usize, device: DeviceId, event: u32) {
        self.machine.message(its, device, EventId(event));
        for number in 0..4 {
            while let Some(intid) = self.machine.take(number) {
                let owner = self.services.owner_of(Lpi::from_intid(intid).unwrap());
                let Some(owner) = owner else {
                    panic!("an LPI that is nobody's");
                };
                let vgic = &self.domains[usize::from(owner.domain.get())].vgic;
                vgic.raise_lpi(owner.lpi, &mut Effects::new());
            }
        }
    }

    /// What each vCPU of each domain takes, until there is nothing more.
    fn taken(&self) -> Vec<(usize, usize, u32)> {
        let mut taken = Vec::new();
        for (domain, it) in self.domains.iter().enumerate() {
            for number in 0..4 {
                while let Some(intid) = it.take(number) {
                    taken.push((domain, number, intid));
                }
            }
        }
        taken
    }
}

#[derive(Clone, Debug)]
enum Happening {
    Table(usize),
    Map(usize, u32, u32, u16),
    Move(usize, u32, u16),
    Discard(usize, u32),
    Raise(usize, u32),
    Message(usize, u32),
    Reassign(usize),
}

fn step() -> impl Strategy<Value = Happening> {
    let domain = 0..2_usize;
    let one = (domain.clone(), 0..5_u32);
    prop_oneof![
        1 => domain.clone().prop_map(Happening::Table),
        5 => (one.clone(), 0..3_u32, 0..4_u16).prop_map(|((d, e), l, c)| Happening::Map(d, e, l, c)),
        2 => (one.clone(), 0..4_u16).prop_map(|((d, e), c)| Happening::Move(d, e, c)),
        1 => one.clone().prop_map(|(d, e)| Happening::Discard(d, e)),
        1 => one.clone().prop_map(|(d, e)| Happening::Raise(d, e)),
        9 => one.prop_map(|(d, e)| Happening::Message(d, e)),
        1 => domain.prop_map(Happening::Reassign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Invariant I4: an LPI reaches its owner only, once, where the guest wants it.
    #[test]
    fn a_message_reaches_its_domain_once_and_no_other(
        steps in prop::collection::vec(step(), 0..60)
    ) {
        let mut whole = Whole::new();
        // Domain and event to LPI and vCPU.
        let mut model: BTreeMap<(usize, u32), (u32, u16)> = BTreeMap::new();
        for domain in 0..2 {
            whole.domains[domain].guest.mapd(8, Some(2));
        }
        for step in steps {
            let device = DeviceId(8);
            match step {
                Happening::Table(domain) => {
                    let at = Hpa::new(0);
                    let table = Some(TranslationTable { at, event_bits: 2 });
                    whole.run(domain, Command::Mapd { device, table });
                    model.retain(|(of, _), _| *of != domain);
                }
                Happening::Map(domain, event, number, to) => {
                    // Every event has LPIs of its own, and two domains have the same ones.
                    let number = event * 3 + number;
                    let map = Command::map(device, EventId(event), lpi(number), collection(to));
                    whole.run(domain, map);
                    if event < 4 {
                        model.entry((domain, event)).or_insert((number, to));
                    }
                }
                Happening::Move(domain, event, to) => {
                    let collection = collection(to);
                    let event_id = EventId(event);
                    let movi = Command::Movi { device, event: event_id, collection };
                    whole.run(domain, movi);
                    if let Some(mapped) = model.get_mut(&(domain, event)) {
                        mapped.1 = to;
                    }
                }
                Happening::Discard(domain, event) => {
                    whole.run(domain, Command::Discard { device, event: EventId(event) });
                    model.remove(&(domain, event));
                }
                Happening::Raise(domain, event) | Happening::Message(domain, event) => {
                    if matches!(step, Happening::Raise(..)) {
                        whole.run(domain, Command::Int { device, event: EventId(event) });
                    } else {
                        whole.message(domain, event);
                    }
                    let expected: Vec<_> = model
                        .get(&(domain, event))
                        .map(|&(number, to)| (domain, usize::from(to), 8192 + number))
                        .into_iter()
                        .collect();
                    prop_assert_eq!(whole.taken(), expected);
                }
                Happening::Reassign(domain) => {
                    whole.take_away(domain);
                    whole.message(domain, 0);
                    prop_assert_eq!(whole.taken(), []);
                    whole.assign(domain);
                    whole.domains[domain].guest.mapd(8, Some(2));
                    model.retain(|(of, _), _| *of != domain);
                }
            }
        }
        for domain in 0..2 {
            whole.take_away(domain);
        }
        for number in 0..LPIS {
            prop_assert_eq!(whole.services.owner_of(lpi(number)), None);
        }
        // As many as there are, a device's most at a time.
        let mut all = 0..LPIS / 2048;
        let mut attach = |id| {
            let host = &mut whole.machine;
            whole.services.attach(host, 0, DeviceId(id), 2048)
        };
        prop_assert!(all.all(|id| attach(id).is_ok()));
        prop_assert!(attach(LPIS).is_err());
        prop_assert!(whole.machine.violations().is_empty());
    }
}

#[test]
fn cve_2024_26598_a_message_that_races_with_a_discard_changes_nothing() {
    let mut whole = Whole::new();
    let (device, event) = (DeviceId(8), EventId(0));
    whole.domains[0].guest.mapd(8, Some(2));
    whole.run(0, Command::map(device, event, lpi(3), collection(1)));
    whole.message(0, 0);
    // A host's CPU has looked the owner up, and is not further, when the event is discarded.
    let owner = whole.services.owner_of(lpi(0)).unwrap();
    whole.run(0, Command::Discard { device, event });
    assert_eq!(whole.services.owner_of(lpi(0)), None);
    whole.domains[0]
        .vgic
        .raise_lpi(owner.lpi, &mut Effects::new());
    assert_eq!(whole.taken(), []);
}

#[test]
fn a_device_that_leaves_its_domain_sends_it_nothing_until_it_comes_back() {
    let mut whole = Whole::new();
    whole.take_away(0);
    let offer = Offer {
        first: GuestDeviceId(0),
        last: GuestDeviceId(0xffff),
        its: 0,
        host: DeviceId(0),
    };
    whole.domains[0].guest.vits.offer(offer).unwrap();
    let (device, id) = (DEVICE, GuestDeviceId(DEVICE.0));
    let table = |event_bits| Command::Mapd {
        device,
        table: Some(TranslationTable {
            at: Hpa::new(0),
            event_bits,
        }),
    };
    for _ in 0..2 {
        whole.run(0, table(2));
        for event in 0..3 {
            let map = Command::map(device, EventId(event), lpi(event), collection(1));
            whole.run(0, map);
        }
        whole.message(0, 2);
        assert_eq!(whole.taken(), [(0, 1, 8194)]);
        // It is taken with its events as they are, and what the domain says of it counts no more.
        assert_eq!(whole.revoke(0, id), 3);
        assert_eq!(whole.revoke(0, id), 0);
        whole.message(0, 2);
        assert_eq!(whole.taken(), []);
        let refused = whole.domains[0].guest.vits.refused();
        whole.run(0, table(2));
        let vits = &mut whole.domains[0].guest.vits;
        assert_eq!(vits.refused(), refused + 1);
        assert_eq!(vits.last_refusal(), Some(Refusal::Device(id)));
        assert_eq!(whole.services.owner_of(lpi(2)), None);
        whole.domains[0].guest.vits.restore(id);
    }
    assert!(whole.machine.violations().is_empty());
}

#[test]
fn a_requester_is_a_device_of_the_its_that_its_map_names() {
    let whole = Whole::new();
    let route = |controller, id| whole.services.route(MappedId { controller, id });
    assert_eq!(route(7, 0x18), Some((0, DeviceId(0x18))));
    assert_eq!(route(8, 0x1_0018), Some((1, DeviceId(0x1_0018))));
    assert_eq!(route(9, 0x18), None);
}

#[test]
fn one_its_of_a_guest_has_devices_of_several_of_the_host_by_ids_of_its_own() {
    let mut whole = Whole::new();
    // The host calls both the same, each on an ITS of its own; and what it calls them is to the guest
    // another device.
    let (first, second) = ((0, DeviceId(0x20)), (1, DeviceId(0x20)));
    assert_eq!(whole.give(0, 0x10, first, 4), Ok(()));
    assert_eq!(whole.give(0, 0x18, second, 4), Ok(()));
    assert_eq!(whole.give(0, 0x20, (0, DeviceId(0x10)), 4), Ok(()));
    for (number, device) in (0..).zip([0x10, 0x18, 0x20]) {
        whole.domains[0].guest.mapd(device, Some(2));
        let (device, event) = (DeviceId(device), EventId(1));
        whole.run(
            0,
            Command::map(device, event, lpi(number), collection(number as u16)),
        );
    }
    let arrivals = [(first, 0), (second, 1), ((0, DeviceId(0x10)), 2)];
    for ((its, device), number) in arrivals {
        whole.message_of(its, device, 1);
        assert_eq!(whole.taken(), [(0, number, 8192 + number as u32)]);
    }
    let vits = &whole.domains[0].guest.vits;
    assert!(vits.uses(0) && vits.uses(1));
    assert_eq!(vits.first_device(), Some(GuestDeviceId(8)));
    let (taken, _) = whole.take(0, 0x18);
    assert_eq!(
        taken.map(|device| (device.its, device.device)),
        Some(second)
    );
    assert!(!whole.domains[0].guest.vits.uses(1));
    whole.message_of(1, DeviceId(0x20), 1);
    assert_eq!(whole.taken(), []);
    whole.message_of(0, DeviceId(0x20), 1);
    assert_eq!(whole.taken(), [(0, 0, 8192)]);
    assert!(whole.machine.violations().is_empty());
}

#[test]
fn what_cannot_be_given_leaves_nothing_behind() {
    let mut whole = Whole::new();
    let host = (0, DeviceId(0x20));
    let refused = |error: VitsError| Err(GiveError::Vits(error));
    let known = VitsError::Known(GuestDeviceId(8));
    assert_eq!(whole.give(0, 8, host, 4), refused(known));
    let beyond = VitsError::DeviceId {
        id: GuestDeviceId(0x1_0000),
        bits: 16,
    };
    assert_eq!(whole.give(0, 0x1_0000, host, 4), refused(beyond));
    assert_eq!(
        whole.give(0, 9, host, 4096),
        refused(VitsError::Events(4096))
    );
    // The same device for two domains.
    let taken = GiveError::Its(ItsError::Known(DEVICE));
    assert_eq!(whole.give(1, 9, (0, DEVICE), 4), Err(taken));
    let none = GiveError::Its(ItsError::UnknownDevice(DEVICE));
    assert_eq!(whole.give(1, 9, (2, DEVICE), 4), Err(none));
    assert_eq!(whole.take(1, 9), (None, 1));
    // The host's ITS knows none of it.
    assert_eq!(whole.give(0, 9, host, 2048), Ok(()));
    assert!(whole.machine.violations().is_empty());
}

#[test]
fn a_device_with_many_events_is_taken_in_parts() {
    let mut whole = Whole::new();
    assert_eq!(whole.give(0, 0x10, (0, DeviceId(0x20)), 64), Ok(()));
    whole.domains[0].guest.mapd(0x10, Some(6));
    let device = DeviceId(0x10);
    for event in 0..64 {
        let map = Command::map(device, EventId(event), lpi(event), collection(0));
        whole.run(0, map);
    }
    whole.message_of(0, DeviceId(0x20), 63);
    let (taken, parts) = whole.take(0, 0x10);
    assert_eq!((taken.is_some(), parts), (true, 3));
    // What was pending is no more, and the guest cannot map what it has not.
    assert_eq!(whole.taken(), []);
    whole.message_of(0, DeviceId(0x20), 63);
    assert_eq!(whole.taken(), []);
    let refused = whole.domains[0].guest.vits.refused();
    whole.run(0, Command::map(device, EventId(0), lpi(0), collection(0)));
    assert_eq!(whole.domains[0].guest.vits.refused(), refused + 1);
    assert_eq!(whole.take(0, 0x10), (None, 1));
    assert!(whole.machine.violations().is_empty());
}
