//! Devices that a domain finds itself: they come and go with their tables.

extern crate std;

use super::super::{Offer, Refusal, Step};
use super::*;

/// The host's device for an id of the guest.
const DISTANCE: u32 = 0x100;

/// The host's side: LPIs, and devices that its ITS knows.
struct Host {
    lpis: LpiAllocator,
    devices: BTreeMap<DeviceId, u32>,
}

impl Host {
    fn new() -> Self {
        Self {
            lpis: LpiAllocator::new(14).unwrap(),
            devices: BTreeMap::new(),
        }
    }

    /// Has all commands executed, and does what is asked for devices. Returns the other effects.
    fn serve(&mut self, guest: &mut Guest) -> Vec<Effect> {
        let mut others = Vec::new();
        loop {
            match guest.vits.step(&guest.memory) {
                Step::Idle => return others,
                Step::Again => {}
                Step::Effect(effect) => others.extend(self.carry_out(&mut guest.vits, effect)),
            }
        }
    }

    fn carry_out(&mut self, vits: &mut Vits, effect: Effect) -> Option<Effect> {
        match effect {
            Effect::Attach {
                id,
                its,
                device,
                events,
            } => {
                if let Some(lpis) = self.lpis.allocate(events) {
                    let old = self.devices.insert(device, events);
                    assert_eq!(old, None, "attached twice");
                    let host = HostDevice {
                        its,
                        device,
                        first_event: EventId(0),
                        lpis,
                    };
                    vits.add_device(id, host).unwrap();
                }
                None
            }
            Effect::Detach(host) => {
                let events = self.devices.remove(&host.device);
                assert_eq!(events, Some(host.lpis.count()), "what was attached");
                self.lpis.free(host.lpis);
                None
            }
            other => Some(other),
        }
    }

    fn mapd(&mut self, guest: &mut Guest, device: u32, event_bits: Option<u8>) -> Vec<Effect> {
        guest.queue(mapd(device, event_bits).encode());
        self.serve(guest)
    }
}

fn mapd(device: u32, event_bits: Option<u8>) -> Command {
    let at = Hpa::new(0x4b00_0000);
    Command::Mapd {
        device: DeviceId(device),
        table: event_bits.map(|event_bits| TranslationTable { at, event_bits }),
    }
}

/// A guest that is offered devices 8 to 15, and what it asks for.
fn offered() -> (Guest, Host) {
    let mut guest = Guest::new();
    let offer = Offer {
        first: GuestDeviceId(8),
        last: GuestDeviceId(15),
        its: 0,
        host: DeviceId(8 + DISTANCE),
    };
    guest.vits.offer(offer).unwrap();
    (guest, Host::new())
}

#[test]
fn a_device_comes_with_its_table_and_goes_with_it() {
    let (mut guest, mut host) = offered();
    assert_eq!(host.mapd(&mut guest, 9, Some(3)), []);
    let device = DeviceId(9 + DISTANCE);
    assert_eq!(host.devices.get(&device), Some(&8));
    let map = guest.mapti(9, 7, 40, 2);
    let [Effect::Map { source, .. }] = map[..] else {
        panic!("{map:?}");
    };
    assert_eq!((source.device, source.event), (device, EventId(7)));
    // A larger table is another device for the host, and nothing stays of the smaller one.
    let lpi = lpi(40);
    assert_eq!(
        host.mapd(&mut guest, 9, Some(5)),
        [Effect::Unmap { source, lpi }]
    );
    assert_eq!(host.devices.get(&device), Some(&32));
    assert_eq!(guest.mapti(9, 31, 41, 0).len(), 1);
    assert_eq!(host.mapd(&mut guest, 9, None).len(), 1);
    assert_eq!(host.devices, BTreeMap::new());
    assert_eq!(host.lpis.free_count(), host.lpis.count());
    assert_eq!(guest.vits.refused(), 0);
    // Twice is once.
    assert_eq!(host.mapd(&mut guest, 9, None), []);
    assert_eq!(guest.vits.refused(), 0);
}

#[test]
fn an_id_that_is_not_offered_is_refused() {
    let (mut guest, mut host) = offered();
    for id in [7, 16] {
        guest.refused(mapd(id, Some(3)));
    }
    assert_eq!(
        guest.vits.last_refusal(),
        Some(Refusal::Device(GuestDeviceId(16)))
    );
    // Nor one that is gone to another domain, whose events end first.
    host.mapd(&mut guest, 10, Some(2));
    guest.mapti(10, 1, 1, 1);
    guest.vits.withdraw(GuestDeviceId(10)).unwrap();
    guest.vits.withdraw(GuestDeviceId(10)).unwrap();
    assert!(matches!(
        guest.vits.revoke_next(GuestDeviceId(10)),
        Some(Effect::Unmap { .. })
    ));
    assert_eq!(guest.vits.revoke_next(GuestDeviceId(10)), None);
    let was = guest.vits.remove_device(GuestDeviceId(10)).unwrap();
    assert_eq!(was.device, DeviceId(10 + DISTANCE));
    guest.refused(mapd(10, Some(2)));
}

#[test]
fn a_host_without_room_refuses_the_table() {
    let (mut guest, mut host) = offered();
    let all = host.lpis.allocate(8192 - 32).unwrap();
    host.mapd(&mut guest, 8, Some(6));
    assert_eq!(
        guest.vits.last_refusal(),
        Some(Refusal::NoRoom(GuestDeviceId(8)))
    );
    assert_eq!(guest.mapti(8, 0, 0, 0), []);
    host.lpis.free(all);
    host.mapd(&mut guest, 8, Some(6));
    assert_eq!(guest.mapti(8, 0, 0, 0).len(), 1);
}

#[test]
fn a_device_that_was_given_stays_when_its_table_goes() {
    let (mut guest, mut host) = offered();
    let id = GuestDeviceId(20);
    guest.vits.add_device(id, host_device(4)).unwrap();
    assert_eq!(host.mapd(&mut guest, 20, Some(2)), []);
    assert_eq!(host.mapd(&mut guest, 20, None), []);
    assert_eq!(guest.vits.remove_device(id), Ok(host_device(4)));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The host knows the devices that have a table, of its size, and no LPI is lost.
        #[test]
        fn the_host_knows_the_devices_that_have_tables(
            steps in prop::collection::vec((6..18_u32, prop::option::of(1..8_u8), 0..12_u32), 0..40)
        ) {
            let (mut guest, mut host) = offered();
            let mut model = BTreeMap::new();
            for (id, bits, event) in steps {
                host.mapd(&mut guest, id, bits);
                if (8..16).contains(&id) {
                    match bits {
                        Some(bits) => model.insert(DeviceId(id + DISTANCE), 1_u32 << bits),
                        None => model.remove(&DeviceId(id + DISTANCE)),
                    };
                }
                prop_assert_eq!(&host.devices, &model);
                let room = model.get(&DeviceId(id + DISTANCE)).copied().unwrap_or(0);
                let mapped = guest.mapti(id, event, event, 1);
                prop_assert_eq!(mapped.len(), usize::from(event < room));
            }
            for id in 8..16 {
                host.mapd(&mut guest, id, None);
            }
            prop_assert_eq!(host.lpis.free_count(), host.lpis.count());
        }
    }
}
