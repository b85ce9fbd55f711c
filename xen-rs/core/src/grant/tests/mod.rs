//! The operations one by one, with the status that each misuse gives.

extern crate std;
use std::vec::Vec;

use xen_abi::grant_table::{self as abi, GrantStatus, copy_flags, entry_flags as flag, map_flags};
use xen_abi::{DomId, Errno};
use xen_types::{Gfn, Mfn};

use super::*;
use crate::paging::Unreachable;

mod fake;
mod model;

use fake::{GRANTER, Guest, READ_ONLY_FRAME, mfn_of};

const MAPPER: DomId = DomId::new(0);
const OTHER: DomId = DomId::new(2);

/// A table of one frame.
fn table() -> GrantTable {
    let mut table = GrantTable::new(GRANTER, 4);
    table.frame(0, || Some(Mfn::new(1))).unwrap();
    table
}

fn request(reference: u32, gfn: u64, writable: bool) -> MapRequest {
    MapRequest {
        granter: GRANTER,
        reference,
        gfn: Gfn::new(gfn),
        writable,
    }
}

fn status<T>(result: Result<T, GrantError>) -> Option<GrantStatus> {
    result.err().map(GrantError::status)
}

#[test]
fn a_grant_is_mapped_and_unmapped_and_all_is_as_before() {
    let (mut table, guest, mut track) = (table(), Guest::new(), Maptrack::new(MAPPER, 8));
    guest.grant(9, flag::PERMIT_ACCESS, MAPPER, 3);
    let map = track.begin_map(&mut table, &guest, &guest, request(9, 70, true));
    let map = map.unwrap();
    assert_eq!((map.gfn(), map.pin().mfn()), (Gfn::new(70), mfn_of(3)));
    assert!(map.pin().is_writable());
    let handle = track.commit_map(map).get();
    let in_use = flag::PERMIT_ACCESS | flag::READING | flag::WRITING;
    assert_eq!((guest.flags(9), guest.references(3)), (in_use, 1));

    let wrong = status(track.begin_unmap(handle, 71 << 12));
    assert_eq!(wrong, Some(GrantStatus::BadVirtAddr));
    let wrong = status(track.begin_unmap(handle, (70 << 12) + 1));
    assert_eq!(wrong, Some(GrantStatus::BadVirtAddr));

    let unmap = track.begin_unmap(handle, 70 << 12).unwrap();
    assert_eq!((unmap.gfn(), unmap.pin().mfn()), (Gfn::new(70), mfn_of(3)));
    let twice = status(track.begin_unmap(handle, 70 << 12));
    assert_eq!(twice, Some(GrantStatus::BadHandle));
    assert_eq!(guest.references(3), 1, "the frame is held until the flush");
    let frame = Unreachable::new(unmap.pin().mfn());
    track.commit_unmap(&mut table, &guest, &guest, unmap, frame);
    assert_eq!(
        (guest.flags(9), guest.references(3)),
        (flag::PERMIT_ACCESS, 0)
    );
    assert!(table.is_idle());
}

/// XSA-284 and its kin: no reference is left behind, and none given back twice, by what fails.
#[test]
fn xsa_284_a_failed_map_or_unmap_changes_nothing() {
    let (mut table, guest, mut track) = (table(), Guest::new(), Maptrack::new(MAPPER, 1));
    guest.grant(9, flag::PERMIT_ACCESS, MAPPER, 3);
    for _ in 0..3 {
        let map = track.begin_map(&mut table, &guest, &guest, request(9, 70, true));
        track.cancel_map(&mut table, &guest, &guest, map.unwrap());
        assert_eq!(
            (guest.flags(9), guest.references(3)),
            (flag::PERMIT_ACCESS, 0)
        );
    }
    let map = track.begin_map(&mut table, &guest, &guest, request(9, 70, true));
    let handle = track.commit_map(map.unwrap()).get();
    let full = track.begin_map(&mut table, &guest, &guest, request(9, 71, true));
    assert_eq!(status(full), Some(GrantStatus::NoSpace));

    let unmap = track.begin_unmap(handle, 70 << 12).unwrap();
    track.cancel_unmap(unmap);
    assert_eq!((table.uses(9), guest.references(3)), ((0, 1), 1));
    assert!(track.begin_unmap(handle, 70 << 12).is_ok());
}

/// XSA-226: a grant of somebody else's grant is none, for whatever use.
#[test]
fn xsa_226_there_are_no_transitive_grants() {
    let (mut table, guest, mut track) = (table(), Guest::new(), Maptrack::new(MAPPER, 4));
    for flags in [
        flag::TRANSITIVE,
        flag::TRANSITIVE | flag::READ_ONLY,
        flag::TRANSITIVE | flag::SUB_PAGE,
        flag::ACCEPT_TRANSFER,
    ] {
        guest.grant(9, flags, MAPPER, 3);
        for writable in [false, true] {
            let copy = table.acquire(&guest, &guest, 9, MAPPER, writable);
            assert_eq!(
                copy.err().map(GrantError::status),
                Some(GrantStatus::GeneralError)
            );
            let map = track.begin_map(&mut table, &guest, &guest, request(9, 70, writable));
            assert_eq!(status(map), Some(GrantStatus::GeneralError));
        }
        assert_eq!((guest.flags(9), guest.references(3)), (flags, 0));
    }
    assert!(table.is_idle());
}

#[test]
fn an_entry_grants_what_it_says_and_to_whom() {
    let (mut table, guest) = (table(), Guest::new());
    guest.grant(1, flag::PERMIT_ACCESS | flag::READ_ONLY, MAPPER, 3);
    guest.grant(2, flag::ACCEPT_TRANSFER, MAPPER, 3);
    guest.grant(3, flag::TRANSITIVE, MAPPER, 3);
    guest.grant(4, flag::PERMIT_ACCESS | flag::SUB_PAGE, MAPPER, 3);
    guest.grant(5, flag::PERMIT_ACCESS, MAPPER, READ_ONLY_FRAME as u32);
    guest.grant(6, flag::PERMIT_ACCESS, MAPPER, u32::MAX);
    let mut acquire = |reference, who, writable| {
        let before = (reference < ENTRIES_PER_FRAME).then(|| guest.flags(reference));
        let result = table.acquire(&guest, &guest, reference, who, writable);
        if result.is_err()
            && let Some(before) = before
        {
            assert_eq!(guest.flags(reference), before);
        }
        let status = result.as_ref().err().map(|error| error.status());
        if let Ok(pin) = result {
            table.release(&guest, &guest, pin);
        }
        status
    };
    let refused = Some(GrantStatus::GeneralError);
    assert_eq!(acquire(0, MAPPER, false), refused, "invalid");
    assert_eq!(acquire(1, MAPPER, false), None);
    assert_eq!(acquire(1, MAPPER, true), refused, "read-only");
    assert_eq!(acquire(1, OTHER, false), refused, "another's");
    for reference in [2, 3, 4] {
        assert_eq!(acquire(reference, MAPPER, false), refused, "kind");
    }
    assert_eq!(acquire(5, MAPPER, false), None);
    assert_eq!(acquire(5, MAPPER, true), Some(GrantStatus::BadPage));
    assert_eq!(acquire(6, MAPPER, false), Some(GrantStatus::BadPage));
    for reference in [ENTRIES_PER_FRAME, 1 << 31, u32::MAX] {
        let outside = acquire(reference, MAPPER, false);
        assert_eq!(outside, Some(GrantStatus::BadGrantRef));
    }
}

/// XSA-98: write access comes only from an entry and a frame that allow it, in any order of uses.
#[test]
fn xsa_98_a_reader_does_not_open_the_way_for_a_writer() {
    let (mut table, guest) = (table(), Guest::new());
    guest.grant(1, flag::PERMIT_ACCESS, MAPPER, READ_ONLY_FRAME as u32);
    guest.grant(2, flag::PERMIT_ACCESS | flag::READ_ONLY, MAPPER, 3);
    for reference in [1, 2] {
        let reader = table.acquire(&guest, &guest, reference, MAPPER, false);
        assert!(
            table
                .acquire(&guest, &guest, reference, MAPPER, true)
                .is_err()
        );
        assert_eq!(table.uses(reference), (1, 0));
        assert_eq!(guest.flags(reference) & flag::WRITING, 0);
        table.release(&guest, &guest, reader.unwrap());
    }
    assert_eq!(
        (guest.references(READ_ONLY_FRAME), guest.references(3)),
        (0, 0)
    );
}

/// XSA-295: a guest that writes the entry all the time does not hold up the hypervisor.
#[test]
fn xsa_295_an_entry_that_does_not_hold_still_is_given_up() {
    let (mut table, guest) = (table(), Guest::new());
    guest.grant(9, flag::PERMIT_ACCESS, MAPPER, 3);
    guest.interference.set(usize::MAX);
    let result = table.acquire(&guest, &guest, 9, MAPPER, true);
    assert_eq!(result.err(), Some(GrantError::Unstable(9)));
    assert_eq!(usize::MAX - guest.interference.get(), entry::MAX_TRIES);
    guest.interference.set(entry::MAX_TRIES - 1);
    assert!(table.acquire(&guest, &guest, 9, MAPPER, true).is_ok());
}

/// XSA-235 and its kin: there is no version 2 to switch to.
#[test]
fn xsa_379_only_version_1_exists() {
    assert_eq!(set_version(1), Ok(()));
    assert_eq!(set_version(2), Err(Errno::NoCall));
    assert_eq!(set_version(0), Err(Errno::Invalid));
    assert_eq!(set_version(u32::MAX), Err(Errno::Invalid));
}

#[test]
fn an_entry_in_use_keeps_its_frame_whatever_the_guest_writes() {
    let (mut table, guest) = (table(), Guest::new());
    guest.grant(9, flag::PERMIT_ACCESS, MAPPER, 3);
    let first = table.acquire(&guest, &guest, 9, MAPPER, false).unwrap();
    guest.grant(9, flag::PERMIT_ACCESS, OTHER, 4);
    let second = table.acquire(&guest, &guest, 9, MAPPER, false).unwrap();
    assert_eq!(second.mfn(), mfn_of(3));
    assert!(table.acquire(&guest, &guest, 9, OTHER, false).is_err());
    table.release(&guest, &guest, first);
    table.release(&guest, &guest, second);
    assert_eq!((guest.references(3), guest.references(4)), (0, 0));
}

#[test]
fn the_table_grows_to_its_limit() {
    let mut table = GrantTable::new(GRANTER, 3);
    let mut next = 100;
    let mut allocate = || {
        next += 1;
        Some(Mfn::new(next))
    };
    assert_eq!(table.frame(1, &mut allocate), Ok(Mfn::new(102)));
    assert_eq!(table.frame(0, &mut allocate), Ok(Mfn::new(101)));
    assert_eq!(table.size(), (2, 3));
    let too_many = Err(GrantError::TooManyFrames(3));
    assert_eq!(table.frame(3, &mut allocate), too_many);
    assert_eq!(table.frame(u32::MAX, &mut allocate), too_many);
    assert_eq!(table.frame(2, || None), Err(GrantError::NoMemory));
    assert_eq!(table.size(), (2, 3));
}

#[test]
fn a_dead_domains_mappings_are_all_found() {
    let (mut table, guest, mut track) = (table(), Guest::new(), Maptrack::new(MAPPER, 8));
    guest.grant(9, flag::PERMIT_ACCESS, MAPPER, 3);
    let handles: Vec<Handle> = (0..4)
        .map(|gfn| {
            let map = track.begin_map(&mut table, &guest, &guest, request(9, gfn, gfn % 2 == 0));
            track.commit_map(map.unwrap())
        })
        .collect();
    let unmap = track.begin_unmap(handles[1].get(), 1 << 12).unwrap();
    let frame = Unreachable::new(unmap.pin().mfn());
    track.commit_unmap(&mut table, &guest, &guest, unmap, frame);
    let mut found = 0;
    while let Some(unmap) = track.begin_unmap_any(0) {
        let frame = Unreachable::new(unmap.pin().mfn());
        track.commit_unmap(&mut table, &guest, &guest, unmap, frame);
        found += 1;
    }
    assert_eq!(found, 3);
    assert!(table.is_idle());
}

#[test]
fn map_flags_are_checked() {
    let parse = |flags, host_addr| {
        let request = abi::MapGrantRef {
            host_addr,
            flags,
            reference: 9,
            dom: GRANTER,
            status: 0,
            handle: 0,
            dev_bus_addr: 0,
        };
        MapRequest::parse(&request)
    };
    let host = map_flags::HOST_MAP;
    assert_eq!(parse(host, 70 << 12), Ok(request(9, 70, true)));
    let read_only = host | map_flags::READ_ONLY | 1 << 16;
    assert_eq!(parse(read_only, 70 << 12), Ok(request(9, 70, false)));
    assert_eq!(status(parse(0, 0)), Some(GrantStatus::BadGrantRef));
    for wrong in [
        map_flags::DEVICE_MAP,
        map_flags::APPLICATION_MAP,
        map_flags::CONTAINS_PTE,
        1 << 5,
    ] {
        let refused = status(parse(host | wrong, 0));
        assert_eq!(refused, Some(GrantStatus::GeneralError));
    }
    assert_eq!(status(parse(host, 0xfff)), Some(GrantStatus::BadVirtAddr));
}

#[test]
fn a_copy_stays_in_its_pages() {
    let copy = |source_offset, dest_offset, len, flags| {
        let end = |domid, offset, reference_or_frame| abi::CopyEnd {
            reference_or_frame,
            domid,
            offset,
            pad: 0,
        };
        let copy = abi::GrantCopy {
            source: end(GRANTER, source_offset, 0xffff_ffff_0000_0007),
            dest: end(DomId::SELF, dest_offset, 5),
            len,
            flags,
            status: 0,
            pad: 0,
        };
        CopyRequest::parse(&copy)
    };
    let from_grant = copy_flags::SOURCE_GREF;
    let parsed = copy(96, 0, 4000, from_grant).unwrap();
    let source = CopyEnd::Granted {
        granter: GRANTER,
        reference: 7,
    };
    assert_eq!(parsed.source, source);
    assert_eq!(parsed.dest, CopyEnd::Own(Gfn::new(5)));
    assert!(copy(0, 0, 4096, from_grant).is_ok());
    assert!(copy(4096, 0, 0, from_grant).is_ok());
    for (source, dest, len) in [
        (97, 0, 4000),
        (0, 97, 4000),
        (u16::MAX, 0, 1),
        (0, u16::MAX, u16::MAX),
        (0, 0, 4097),
    ] {
        let outside = status(copy(source, dest, len, from_grant));
        assert_eq!(outside, Some(GrantStatus::BadCopyArg));
    }
    let not_granted = status(copy(0, 0, 1, 0));
    assert_eq!(not_granted, Some(GrantStatus::PermissionDenied));
}
