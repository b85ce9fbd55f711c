use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::HostSbdf;
use crate::config::{ConfigAccess, ConfigOffset, Function};
use crate::header::Command;
use crate::simulated::{Fabric, Slot, machines, samples};
use crate::{Access, Width};

/// Config space that is just bytes.
struct Bytes(Vec<u8>);

impl ConfigAccess for Bytes {
    fn read(&self, _: HostSbdf, access: Access) -> u32 {
        let at = usize::from(access.offset().get() & !3);
        let dword = u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap());
        access.extract(dword)
    }

    fn write(&self, _: HostSbdf, _: Access, _: u32) {
        panic!("a walk does not write");
    }
}

fn somewhere() -> HostSbdf {
    "00:00.0".parse().unwrap()
}

fn bytes(changes: &[(usize, &[u8])]) -> Bytes {
    let mut bytes = alloc::vec![0; 4096];
    bytes[..8].copy_from_slice(&[0x86, 0x80, 0xd3, 0x10, 0, 0, 0x10, 0]);
    for (at, change) in changes {
        bytes[*at..at + change.len()].copy_from_slice(change);
    }
    Bytes(bytes)
}

#[test]
fn the_capabilities_of_a_real_device_are_all_found() {
    let disk = samples::nvme();
    let bytes: Vec<u8> = (0..4096)
        .map(|at| disk.get(at, Width::Byte) as u8)
        .collect();
    let bytes = Bytes(bytes);
    let function = Function::new(&bytes, somewhere());
    let list = capabilities(function);
    let ids: Vec<_> = list.entries.iter().map(|entry| entry.id).collect();
    use CapabilityId as Id;
    assert_eq!(
        ids,
        [Id::POWER_MANAGEMENT, Id::MSI, Id::PCI_EXPRESS, Id::MSI_X]
    );
    assert_eq!(list.find(Id::POWER_MANAGEMENT), ConfigOffset::new(0x40));
    assert_eq!(list.fault, None);
    let extended = extended_capabilities(function);
    assert_eq!(
        extended.find(ExtendedCapabilityId::ADVANCED_ERRORS),
        ConfigOffset::new(0x100)
    );
    assert_eq!((extended.entries.len(), extended.fault), (1, None));
}

#[test]
fn a_list_that_comes_back_ends_there() {
    let bytes = bytes(&[
        (0x34, &[0x43]),
        (0x40, &[0x05, 0x50]),
        (0x50, &[0x01, 0x40]),
        (0x100, &[0x01, 0, 1, 0x14]),
        (0x140, &[0x0d, 0, 1, 0x14]),
    ]);
    let function = Function::new(&bytes, somewhere());
    let list = capabilities(function);
    assert_eq!(list.entries.len(), 2);
    let at = |offset| ConfigOffset::new(offset).unwrap();
    assert_eq!(list.fault, Some(ListFault::Loop(at(0x40))));
    let extended = extended_capabilities(function);
    assert_eq!(extended.entries.len(), 2);
    assert_eq!(extended.fault, Some(ListFault::Loop(at(0x140))));
}

#[test]
fn a_list_that_leads_into_the_header_ends_there() {
    let bytes = bytes(&[(0x34, &[0x10]), (0x100, &[0x01, 0, 1, 0x0c])]);
    let function = Function::new(&bytes, somewhere());
    assert_eq!(capabilities(function).fault, Some(ListFault::Outside(0x10)));
    assert_eq!(
        extended_capabilities(function).fault,
        Some(ListFault::Outside(0xc0))
    );
}

#[test]
fn an_absent_function_has_no_capabilities() {
    let bytes = Bytes(alloc::vec![0xff; 4096]);
    let function = Function::new(&bytes, somewhere());
    assert!(capabilities(function).entries.is_empty());
    assert!(extended_capabilities(function).entries.is_empty());
}

proptest! {
    #[test]
    fn a_walk_ends_on_any_bytes(bytes in vec(any::<u8>(), 4096)) {
        let bytes = Bytes(bytes);
        let function = Function::new(&bytes, somewhere());
        let list = capabilities(function);
        prop_assert!(list.entries.iter().all(|entry| (0x40..0x100).contains(&entry.offset.get())));
        let extended = extended_capabilities(function);
        prop_assert!(extended.entries.iter().all(|entry| entry.offset.get() >= 0x100));
    }
}

/// A function behind nothing, and its requester id.
fn alone(function: crate::simulated::SimFunction) -> (Fabric, crate::Device) {
    let fabric = Fabric::new([Slot::new(1, 0, function)]);
    let bridge = machines::ecam(&fabric, 0, crate::bridge::BusRange::ALL);
    let mut devices = crate::enumerate::enumerate(&bridge, &fabric).devices;
    Function::new(&bridge, devices[0].sbdf).write(crate::header::COMMAND, Command::BUS_MASTER);
    (fabric, devices.remove(0))
}

#[test]
fn messages_are_sent_as_they_are_set_up() {
    let (fabric, device) = alone(samples::nvme());
    let bridge = machines::ecam(&fabric, 0, crate::bridge::BusRange::ALL);
    let function = Function::new(&bridge, device.sbdf);
    let (msi, requester) = (device.msi.unwrap(), device.sbdf.requester());
    assert_eq!(fabric.raise(requester, 0), None);
    let message = MsiMessage {
        address: 0x12_3456_7890,
        data: 0x1230,
        vectors_log2: 2,
        mask: 0b100,
    };
    msi.enable(function, message);
    let sent = |vector| {
        let sent = fabric.raise(requester, vector)?;
        Some((sent.address, sent.data))
    };
    assert_eq!(sent(3), Some((0x12_3456_7890, 0x1233)));
    assert_eq!((sent(2), sent(4)), (None, None));
    msi.set_masks(function, 0b1000);
    assert_eq!(sent(3), None);
    msi.disable(function);
    assert_eq!(sent(1), None);
}

#[test]
fn msi_x_is_turned_on_with_and_without_its_function_mask() {
    let (fabric, device) = alone(samples::nvme());
    let bridge = machines::ecam(&fabric, 0, crate::bridge::BusRange::ALL);
    let function = Function::new(&bridge, device.sbdf);
    let msi_x = device.msi_x.unwrap();
    let control = Register::<u16>::new(msi_x.offset.checked_add(2).unwrap()).unwrap();
    let table = 32;
    msi_x.enable(function, true);
    assert_eq!(function.read(control), 0xc000 | table);
    msi_x.enable(function, false);
    assert_eq!(function.read(control), 0x8000 | table);
    msi_x.disable(function);
    assert_eq!(function.read(control), table);
}
