//! Random commands, right and wrong, against a map of events.

extern crate std;

use std::vec;

use proptest::prelude::*;

use super::*;
use crate::vits::Next;

const DEVICES: [u32; 3] = [8, 9, 10];
const EVENTS: u32 = 4;

/// A command on few devices and events, of which some do not exist.
fn command() -> impl Strategy<Value = Command> {
    let device = (7..12_u32).prop_map(DeviceId);
    let event = (0..EVENTS + 2).prop_map(EventId);
    let collection = (0..9_u16).prop_map(CollectionId);
    let target = (0..5_u16).prop_map(Target::of_number);
    let one = (device.clone(), event.clone());
    prop_oneof![
        2 => (device, prop::option::weighted(0.8, 1..20_u8)).prop_map(|(device, bits)| {
            let at = Hpa::new(0);
            let table = bits.map(|event_bits| TranslationTable { at, event_bits });
            Command::Mapd { device, table }
        }),
        2 => (collection.clone(), prop::option::weighted(0.8, target.clone()))
            .prop_map(|(collection, target)| Command::Mapc { collection, target }),
        6 => (one.clone(), 8190..8230_u32, collection.clone())
            .prop_map(|((device, event), intid, collection)| {
                Command::Mapti { device, event, intid, collection }
            }),
        3 => (one.clone(), collection.clone()).prop_map(|((device, event), collection)| {
            Command::Movi { device, event, collection }
        }),
        2 => one.clone().prop_map(|(device, event)| Command::Discard { device, event }),
        3 => one.clone().prop_map(|(device, event)| Command::Int { device, event }),
        1 => one.clone().prop_map(|(device, event)| Command::Clear { device, event }),
        1 => one.prop_map(|(device, event)| Command::Inv { device, event }),
        1 => collection.prop_map(|collection| Command::Invall { collection }),
        1 => (target.clone(), target.clone()).prop_map(|(from, to)| Command::Movall { from, to }),
        1 => target.prop_map(|target| Command::Sync { target }),
    ]
}

/// What should be, in the plainest form.
#[derive(Default)]
struct Model {
    /// Events that the table of each device has room for.
    room: BTreeMap<u32, u64>,
    collections: BTreeMap<u16, usize>,
    events: BTreeMap<(u32, u32), (u32, u16)>,
}

/// What the outside knows: host event to LPI and vCPU.
type Outside = BTreeMap<Source, (Lpi, CpuId)>;

impl Model {
    fn execute(&mut self, command: Command) {
        match command {
            Command::Mapd { device, table } if DEVICES.contains(&device.0) => {
                let bits = table.map(|table| table.event_bits);
                if bits.is_some_and(|bits| bits > 16) {
                    return;
                }
                self.events.retain(|(of, _), _| *of != device.0);
                self.room.insert(device.0, bits.map_or(0, |bits| 1 << bits));
            }
            Command::Mapc { collection, target } if collection.0 < 8 => match target {
                Some(target) if target.field() < 4 => {
                    let cpu = target.field() as usize;
                    self.collections.insert(collection.0, cpu);
                }
                Some(_) => {}
                None => {
                    self.collections.remove(&collection.0);
                }
            },
            Command::Mapti {
                device,
                event,
                intid,
                collection,
            } => {
                let room = self.room.get(&device.0).copied().unwrap_or(0);
                let room = room.min(EVENTS.into());
                if u64::from(event.0) < room && (8192..16384).contains(&intid) && collection.0 < 8 {
                    let new = (intid, collection.0);
                    self.events.entry((device.0, event.0)).or_insert(new);
                }
            }
            Command::Movi {
                device,
                event,
                collection,
            } if self.collections.contains_key(&collection.0) => {
                if let Some(mapped) = self.events.get_mut(&(device.0, event.0)) {
                    mapped.1 = collection.0;
                }
            }
            Command::Discard { device, event } => {
                self.events.remove(&(device.0, event.0));
            }
            _ => {}
        }
    }

    fn outside(&self) -> Outside {
        let attached = self
            .events
            .iter()
            .filter_map(|(&(device, event), &(intid, to))| {
                let to = *self.collections.get(&to)?;
                Some((source_of(device, event), (Lpi::from_intid(intid)?, cpu(to))))
            });
        attached.collect()
    }
}

/// Each device has LPIs of its own.
fn source_of(device: u32, event: u32) -> Source {
    Source {
        its: 0,
        device: DeviceId(device + 100),
        event: EventId(event),
        lpi: lpi((device - 8) * 32 + event),
    }
}

fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Map { source, lpi, cpu } => {
            assert_eq!(outside.insert(source, (lpi, cpu)), None, "mapped twice");
        }
        Effect::Unmap { source, lpi } => {
            let old = outside.remove(&source);
            assert_eq!(
                old.map(|old| old.0),
                Some(lpi),
                "unmapped what was not mapped"
            );
        }
        Effect::Move { source, lpi, cpu } => {
            let old = outside.get_mut(&source).expect("moved what was not mapped");
            assert_eq!(old.0, lpi);
            old.1 = cpu;
        }
        Effect::Reload { source, lpi }
        | Effect::Raise { source, lpi }
        | Effect::Clear { source, lpi } => assert_eq!(outside[&source].0, lpi),
        Effect::ReloadPart { first } | Effect::MovePart { first, .. } => assert!(first < 8192),
        Effect::Attach { .. } | Effect::Detach(_) => panic!("nothing was offered"),
    }
}

fn guest_with_devices() -> Guest {
    let mut guest = Guest::unborn();
    guest.set_up();
    let mut allocator = LpiAllocator::new(14).unwrap();
    for device in DEVICES {
        let host = HostDevice {
            its: 0,
            device: DeviceId(device + 100),
            first_event: EventId(0),
            lpis: allocator.allocate(EVENTS).unwrap(),
        };
        guest.vits.add_device(GuestDeviceId(device), host).unwrap();
    }
    guest
}

proptest! {
    /// The outside knows what the commands say, after each of them.
    #[test]
    fn effects_say_what_commands_mean(commands in prop::collection::vec(command(), 0..80)) {
        let mut guest = guest_with_devices();
        let (mut model, mut outside) = (Model::default(), Outside::new());
        for command in commands {
            for effect in guest.run(command) {
                carry_out(&mut outside, effect);
            }
            model.execute(command);
            prop_assert_eq!(&outside, &model.outside(), "{:?}", command);
        }
        for device in DEVICES {
            while let Some(effect) = guest.vits.revoke_next(GuestDeviceId(device)) {
                carry_out(&mut outside, effect);
            }
            prop_assert!(guest.vits.remove_device(GuestDeviceId(device)).is_ok());
        }
        prop_assert!(outside.is_empty());
    }

    /// The short way to execute messages executes them and nothing else, as the long way does.
    #[test]
    fn a_message_is_the_same_by_either_way(commands in prop::collection::vec(command(), 0..80)) {
        let (mut one, mut other) = (guest_with_devices(), guest_with_devices());
        for command in commands {
            let raised = match one.run(command)[..] {
                [Effect::Raise { lpi, .. }] => Next::Message(lpi),
                _ => Next::Other,
            };
            other.queue(command.encode());
            let next = other.vits.next_message(&other.memory);
            prop_assert_eq!(next, raised, "{:?}", command);
            other.finish();
            prop_assert_eq!(other.vits.next_message(&other.memory), Next::Idle);
        }
    }

    /// Nothing panics, nothing runs without end, and no effect names what is not the domain's.
    #[test]
    fn any_32_bytes_are_answered(
        commands in prop::collection::vec((any::<Words>(), 0..16_u8, any::<bool>()), 1..60),
        registers in prop::collection::vec((0..0x200_u32, any::<u64>()), 0..20),
    ) {
        let mut guest = guest_with_devices();
        let mut outside = Outside::new();
        for (mut words, opcode, near) in commands {
            words[0] = words[0] & !0xff | u64::from(opcode);
            if near {
                words[0] &= 0xf_0000_00ff;
                words[1] &= 0x3fff_0000_0003;
                words[2] &= 0x8000_0000_0003_0003;
            }
            guest.queue(words);
            for effect in guest.finish() {
                carry_out(&mut outside, effect);
            }
        }
        for source in outside.keys() {
            prop_assert!(DEVICES.contains(&(source.device.0 - 100)) && source.event.0 < EVENTS);
        }
        for (offset, value) in registers {
            guest.write(offset & !7, value);
            guest.write32(offset & !3, value as u32);
            let _ = guest.vits.run(&guest.memory, 100, |_| {});
        }
    }
}
