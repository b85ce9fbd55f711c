//! What a domain may not do, each with the error that Xen's ABI has for it; and calls that are too
//! long for one go.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Result, ensure};
use dom0_programs::device::{Mapping, PAGE_SIZE};
use dom0_programs::privcmd::Privcmd;
use xen_abi::event_channel::{AllocUnbound, BindVirq, EventChannelOp, Send};
use xen_abi::grant_table::{
    CacheFlush, GrantCopy, GrantStatus, GrantTableOp, MapGrantRef, QuerySize, SetVersion,
    UnmapGrantRef, map_flags,
};
use xen_abi::hvm::{HvmOp, HvmParam, Param};
use xen_abi::hypercall::Hypercall;
use xen_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, MapSpace, MemoryDomain, MemoryOp, RemoveFromPhysmap,
    Reservation,
};
use xen_abi::physdev::{PciDevice, PciDeviceAdd, PciDeviceReset, PhysdevOp};
use xen_abi::platform::{INTERFACE_VERSION, PlatformOpHeader};
use xen_abi::sched::{RemoteShutdown, SchedOp};
use xen_abi::vcpu::{RegisterVcpuInfo, VcpuOp};
use xen_abi::version::{FeatureInfo, VersionOp};
use xen_abi::{DomId, Errno, GuestHandle};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// A domain that does not exist.
const NOBODY: DomId = DomId::new(77);
/// A guest frame beyond what any guest has.
const FAR: u64 = 1 << 50;

fn main() -> Result<()> {
    let checks = Checks(Privcmd::open()?);
    checks.memory()?;
    checks.batches()?;
    checks.grants()?;
    checks.events()?;
    checks.parameters()?;
    checks.machine()?;
    checks.vcpus()?;
    checks.absent_calls()?;
    checks.pages_of_the_caller()?;
    checks.changing_memory()?;
    println!("REFUSALS: done");
    Ok(())
}

struct Checks(Privcmd);

impl Checks {
    /// Makes a call with a structure; an error is the number of the answer.
    fn ask<T: FromBytes + IntoBytes + Immutable>(
        &self,
        hypercall: Hypercall,
        operation: u64,
        structure: &mut T,
    ) -> Result<i64, i32> {
        self.0
            .operate(hypercall, operation, structure)
            .map_err(|error: io::Error| error.raw_os_error().unwrap_or(0))
    }

    /// A call that has to fail with an error.
    fn refused<T: FromBytes + IntoBytes + Immutable>(
        &self,
        what: &str,
        hypercall: Hypercall,
        operation: u64,
        mut structure: T,
        expected: Errno,
    ) -> Result<()> {
        let answer = self.ask(hypercall, operation, &mut structure);
        let expected_number = i32::from(expected.number());
        ensure!(
            answer == Err(expected_number),
            "{what}: {answer:?}, not {expected}"
        );
        Ok(())
    }

    fn memory(&self) -> Result<()> {
        let add = |domid, space: MapSpace, idx, gpfn| AddToPhysmap {
            domid,
            size: 1,
            space: space.number(),
            idx,
            gpfn,
        };
        let own = DomId::SELF;
        for (what, request, error) in [
            (
                "xsa_301 a frame far away",
                add(own, MapSpace::SharedInfo, 0, FAR),
                Errno::Invalid,
            ),
            (
                "no such domain",
                add(NOBODY, MapSpace::SharedInfo, 0, FAR),
                Errno::NoDomain,
            ),
            (
                "a second shared page",
                add(own, MapSpace::SharedInfo, 1, FAR),
                Errno::Invalid,
            ),
            (
                "status frames",
                add(own, MapSpace::GrantTable, 1 << 31, FAR),
                Errno::Invalid,
            ),
            (
                "a frame behind the table",
                add(own, MapSpace::GrantTable, 64, FAR),
                Errno::Invalid,
            ),
            (
                "foreign without owner",
                add(own, MapSpace::GmfnForeign, 0, FAR),
                Errno::NoCall,
            ),
            (
                "device memory",
                add(own, MapSpace::DevMmio, 0, FAR),
                Errno::NoCall,
            ),
        ] {
            let operation = MemoryOp::AddToPhysmap.number();
            self.refused(what, Hypercall::MemoryOp, operation, request, error)?;
        }
        let remove = |gpfn| RemoveFromPhysmap {
            domid: own,
            pad: [0; 3],
            gpfn,
        };
        let operation = MemoryOp::RemoveFromPhysmap.number();
        let nothing = remove(1 << 26);
        self.refused(
            "nothing",
            Hypercall::MemoryOp,
            operation,
            nothing,
            Errno::NoEntry,
        )?;
        let far = remove(FAR);
        self.refused("far", Hypercall::MemoryOp, operation, far, Errno::Invalid)?;
        let nobody = MemoryDomain { domid: NOBODY };
        let operation = MemoryOp::CurrentReservation.number();
        self.refused(
            "pages",
            Hypercall::MemoryOp,
            operation,
            nobody,
            Errno::NoDomain,
        )?;
        let mut own_pages = MemoryDomain { domid: own };
        let pages = self.ask(Hypercall::MemoryOp, operation, &mut own_pages);
        ensure!(
            pages == Ok((1 << 30) / PAGE_SIZE as i64),
            "pages: {pages:?}"
        );
        self.reservations()
    }

    /// What cannot be given or taken is not counted as done.
    fn reservations(&self) -> Result<()> {
        let list = self.0.buffer().address();
        let orders = (0..64).chain([1 << 31, u32::MAX]);
        for (order, gfn) in orders
            .map(|order| (order, FAR))
            .chain([(0, 1 << 26), (9, 0)])
        {
            for operation in [MemoryOp::DecreaseReservation, MemoryOp::PopulatePhysmap] {
                self.0.buffer().write(0, &u64::to_le_bytes(gfn));
                let mut request = Reservation {
                    extent_start: GuestHandle::new(list),
                    nr_extents: 1,
                    extent_order: order,
                    mem_flags: 0,
                    domid: DomId::SELF,
                    pad: [0; 3],
                };
                let done = self.ask(Hypercall::MemoryOp, operation.number(), &mut request);
                ensure!(
                    done == Ok(0),
                    "xsa_30 {operation:?} of order {order}: {done:?}"
                );
            }
        }
        Ok(())
    }

    /// Lists that are longer than one go: every entry gets its answer.
    fn batches(&self) -> Result<()> {
        const COUNT: usize = 150;
        let buffer = self.0.buffer();
        let errors = COUNT * 16;
        buffer.write(0, &[0xff; COUNT * 20]);
        let at = |offset: usize| GuestHandle::new(buffer.address() + offset as u64);
        let mut request = AddToPhysmapBatch {
            domid: DomId::SELF,
            space: MapSpace::GrantTable.number() as u16,
            size: COUNT as u16,
            foreign_domid: DomId::new(0),
            idxs: at(0),
            gpfns: at(COUNT * 8),
            errs: at(errors),
        };
        let operation = MemoryOp::AddToPhysmapBatch.number();
        let answer = self.ask(Hypercall::MemoryOp, operation, &mut request);
        ensure!(answer == Ok(0), "a long list: {answer:?}");
        let invalid = (-i32::from(Errno::Invalid.number())).to_le_bytes();
        let answers = buffer.read(errors, COUNT * 4);
        ensure!(
            answers.chunks(4).all(|answer| answer == invalid),
            "not all of a long list was looked at"
        );

        let foreign = |foreign_domid| AddToPhysmapBatch {
            space: MapSpace::GmfnForeign.number() as u16,
            foreign_domid,
            ..request
        };
        for (owner, error) in [
            (DomId::SELF, Errno::NotPermitted),
            (DomId::new(0), Errno::NotPermitted),
            (NOBODY, Errno::NoDomain),
            (DomId::XEN, Errno::NoDomain),
        ] {
            let what = format!("memory of {owner}");
            self.refused(&what, Hypercall::MemoryOp, operation, foreign(owner), error)?;
        }

        // A hundred requests of nothing.
        buffer.write(0, &[0; 100 * size_of::<CacheFlush>()]);
        let arguments = [
            GrantTableOp::CacheFlush.number(),
            buffer.address(),
            100,
            0,
            0,
        ];
        let answer = self.0.call(Hypercall::GrantTableOp.number(), arguments)?;
        ensure!(answer == 0, "a hundred flushes: {answer}");
        // And of which the last lies where nothing is.
        let last = 2 * PAGE_SIZE as u64 - 16 * 50;
        let arguments = [
            GrantTableOp::CacheFlush.number(),
            buffer.address() + last,
            51,
            0,
            0,
        ];
        let answer = self.0.call(Hypercall::GrantTableOp.number(), arguments);
        let fault = answer.err().and_then(|error| error.raw_os_error());
        ensure!(fault == Some(Errno::Fault.number().into()), "{fault:?}");
        Ok(())
    }

    /// One grant operation, which has to come back with a status.
    fn grant<T: FromBytes + IntoBytes + Immutable>(
        &self,
        operation: GrantTableOp,
        request: T,
        status: impl Fn(&T) -> i16,
        expected: GrantStatus,
    ) -> Result<()> {
        let buffer = self.0.buffer();
        buffer.write(0, request.as_bytes());
        let arguments = [operation.number(), buffer.address(), 1, 0, 0];
        let answer = self.0.call(Hypercall::GrantTableOp.number(), arguments)?;
        ensure!(answer == 0, "{operation:?}: {answer}");
        let bytes = buffer.read(0, size_of::<T>());
        let Ok(after) = T::read_from_bytes(&bytes) else {
            anyhow::bail!("{operation:?}: no answer");
        };
        let found = status(&after);
        ensure!(
            found == expected.number(),
            "{operation:?}: status {found}, not {expected:?}"
        );
        Ok(())
    }

    fn grants(&self) -> Result<()> {
        let map = |dom, reference, flags, host_addr| MapGrantRef {
            host_addr,
            flags,
            reference,
            dom,
            ..MapGrantRef::new_zeroed()
        };
        let (own, host) = (DomId::SELF, map_flags::HOST_MAP);
        for (request, expected) in [
            (map(NOBODY, 8, host, 0), GrantStatus::BadDomain),
            (map(own, 1 << 20, host, 0), GrantStatus::BadGrantRef),
            (map(own, 8, 0, 0), GrantStatus::BadGrantRef),
            (
                map(own, 8, host | map_flags::DEVICE_MAP, 0),
                GrantStatus::GeneralError,
            ),
            (map(own, 8, host, 123), GrantStatus::BadVirtAddr),
            (map(own, 7, host, 0), GrantStatus::GeneralError),
        ] {
            self.grant(GrantTableOp::MapGrantRef, request, |r| r.status, expected)?;
        }
        let unmap = UnmapGrantRef {
            handle: 1 << 30,
            ..UnmapGrantRef::new_zeroed()
        };
        self.grant(
            GrantTableOp::UnmapGrantRef,
            unmap,
            |r| r.status,
            GrantStatus::BadHandle,
        )?;
        let mut copy = GrantCopy::new_zeroed();
        copy.source.domid = own;
        copy.dest.domid = own;
        copy.source.reference_or_frame = FAR;
        copy.dest.reference_or_frame = FAR;
        copy.len = 8;
        self.grant(GrantTableOp::Copy, copy, |r| r.status, GrantStatus::BadPage)?;
        copy.source.offset = 4090;
        self.grant(
            GrantTableOp::Copy,
            copy,
            |r| r.status,
            GrantStatus::BadCopyArg,
        )?;
        let size = QuerySize {
            dom: NOBODY,
            ..QuerySize::new_zeroed()
        };
        self.grant(
            GrantTableOp::QuerySize,
            size,
            |r| r.status,
            GrantStatus::BadDomain,
        )?;
        let version = SetVersion { version: 2 };
        let operation = GrantTableOp::SetVersion.number();
        self.refused(
            "xsa_379 version 2",
            Hypercall::GrantTableOp,
            operation,
            version,
            Errno::NoCall,
        )
    }

    fn events(&self) -> Result<()> {
        let send = EventChannelOp::Send.number();
        for port in [0, 4095, 4096, u32::MAX] {
            let answer = self.ask(Hypercall::EventChannelOp, send, &mut Send { port });
            ensure!(answer == Err(22), "send to port {port}: {answer:?}");
        }
        let alloc = AllocUnbound {
            dom: NOBODY,
            remote_dom: DomId::SELF,
            port: 0,
        };
        let operation = EventChannelOp::AllocUnbound.number();
        self.refused(
            "a port of nobody",
            Hypercall::EventChannelOp,
            operation,
            alloc,
            Errno::NoDomain,
        )?;
        let virq = BindVirq {
            virq: 99,
            vcpu: 0,
            port: 0,
        };
        let operation = EventChannelOp::BindVirq.number();
        self.refused(
            "virq 99",
            Hypercall::EventChannelOp,
            operation,
            virq,
            Errno::Invalid,
        )?;
        self.refused(
            "fifo",
            Hypercall::EventChannelOp,
            11,
            [0_u64; 3],
            Errno::NoCall,
        )
    }

    fn parameters(&self) -> Result<()> {
        let param = |domid, index| HvmParam {
            domid,
            pad: 0,
            index,
            value: 5,
        };
        let store = Param::StoreEvtchn.number();
        let (get, set) = (HvmOp::GetParam.number(), HvmOp::SetParam.number());
        let own = param(DomId::SELF, store);
        self.refused("its own", Hypercall::HvmOp, set, own, Errno::NotPermitted)?;
        let unknown = param(DomId::SELF, 99);
        self.refused("unknown", Hypercall::HvmOp, get, unknown, Errno::Invalid)?;
        let nobody = param(NOBODY, store);
        self.refused("nobody's", Hypercall::HvmOp, get, nobody, Errno::NoDomain)?;
        let mut store = own;
        let answer = self.ask(Hypercall::HvmOp, get, &mut store);
        ensure!(
            answer == Ok(0) && store.value == 0,
            "{answer:?}, {}",
            store.value
        );
        Ok(())
    }

    fn machine(&self) -> Result<()> {
        let device = PciDevice {
            seg: 9,
            bus: 1,
            devfn: 8,
        };
        let (add, remove, reset) = (
            PhysdevOp::PciDeviceAdd.number(),
            PhysdevOp::PciDeviceRemove.number(),
            PhysdevOp::PciDeviceReset.number(),
        );
        let call = Hypercall::PhysdevOp;
        self.refused("an unknown function", call, remove, device, Errno::NoDevice)?;
        let added = PciDeviceAdd {
            seg: 9,
            bus: 1,
            devfn: 8,
            ..PciDeviceAdd::new_zeroed()
        };
        let resets = PciDeviceReset {
            dev: device,
            flags: 3,
        };
        self.refused("an unknown function", call, reset, resets, Errno::NoDevice)?;
        let flags = PciDeviceAdd { flags: 64, ..added };
        self.refused("unknown flags", call, add, flags, Errno::Invalid)?;
        self.refused("nobody's segment", call, add, added, Errno::NoDevice)?;
        let absent = PciDeviceAdd {
            seg: 0,
            devfn: 0xf8,
            ..added
        };
        self.refused("an absent function", call, add, absent, Errno::NoDevice)?;
        // The host bridge's own function, which is on every board's root bus.
        let own = PciDeviceAdd::new_zeroed();
        let lie = PciDeviceAdd {
            flags: 2,
            physfn_bus: 1,
            ..own
        };
        self.refused("no virtual function", call, add, lie, Errno::Invalid)?;
        let device = PciDevice {
            seg: 0,
            bus: 0,
            devfn: 0,
        };
        let resets = PciDeviceReset {
            dev: device,
            flags: 3,
        };
        ensure!(self.ask(call, add, &mut own.clone()) == Ok(0));
        ensure!(self.ask(call, reset, &mut resets.clone()) == Ok(0));
        ensure!(self.ask(call, remove, &mut device.clone()) == Ok(0));
        ensure!(self.ask(call, add, &mut own.clone()) == Ok(0));

        let platform = |cmd, interface_version| PlatformOpHeader {
            cmd,
            interface_version,
        };
        for (header, errno) in [
            (platform(62, 1), Errno::Access),
            (platform(49, INTERFACE_VERSION), Errno::NoCall),
        ] {
            self.0.buffer().write(0, header.as_bytes());
            let arguments = [self.0.buffer().address(), 0, 0, 0, 0];
            let answer = self.0.call(Hypercall::PlatformOp.number(), arguments);
            let error = answer.err().and_then(|error| error.raw_os_error());
            ensure!(error == Some(errno.number().into()), "platform: {error:?}");
        }
        let shutdown = |domain_id, reason| RemoteShutdown {
            domain_id,
            pad: 0,
            reason,
        };
        let operation = SchedOp::RemoteShutdown.number();
        let nobody = shutdown(NOBODY, 0);
        self.refused(
            "nobody",
            Hypercall::SchedOp,
            operation,
            nobody,
            Errno::NoDomain,
        )?;
        let reason = shutdown(NOBODY, 99);
        self.refused(
            "no reason",
            Hypercall::SchedOp,
            operation,
            reason,
            Errno::Invalid,
        )
    }

    /// Linux has registered all: nothing is registered twice, and nothing at a place that is none.
    fn vcpus(&self) -> Result<()> {
        let register = |vcpu: u64, offset| {
            let request = RegisterVcpuInfo {
                mfn: FAR,
                offset,
                rsvd: 0,
            };
            self.0.buffer().write(0, request.as_bytes());
            let address = self.0.buffer().address();
            let arguments = [VcpuOp::RegisterVcpuInfo.number(), vcpu, address, 0, 0];
            let answer = self.0.call(Hypercall::VcpuOp.number(), arguments);
            answer.err().and_then(|error| error.raw_os_error())
        };
        for offset in 0..4200 {
            let fits = offset % 8 == 0 && offset + 48 <= 4096;
            let expected = if fits { Errno::Busy } else { Errno::NoAddress };
            let answer = register(0, offset);
            ensure!(
                answer == Some(expected.number().into()),
                "xsa_327 at offset {offset}: {answer:?}"
            );
        }
        let answer = register(1000, 0);
        ensure!(answer == Some(Errno::NoEntry.number().into()), "{answer:?}");
        Ok(())
    }

    /// Interfaces that are not there, whatever they are asked.
    fn absent_calls(&self) -> Result<()> {
        let buffer = self.0.buffer().address();
        for (what, hypercall, operation) in [
            (
                "xsa_212 exchange of memory",
                Hypercall::MemoryOp,
                MemoryOp::Exchange.number(),
            ),
            (
                "xsa_217 transfer of a frame",
                Hypercall::GrantTableOp,
                GrantTableOp::Transfer.number(),
            ),
            (
                "xsa_379 frames of status",
                Hypercall::GrantTableOp,
                GrantTableOp::GetStatusFrames.number(),
            ),
            (
                "xsa_107 a queue of events",
                Hypercall::EventChannelOp,
                EventChannelOp::InitControl.number(),
            ),
            (
                "xsa_188 an array of events",
                Hypercall::EventChannelOp,
                EventChannelOp::ExpandArray.number(),
            ),
            ("xsa_213 several calls in one", Hypercall::Multicall, buffer),
            ("messages", Hypercall::ArgoOp, 1),
            ("a security module", Hypercall::XsmOp, buffer),
        ] {
            let answer = self
                .0
                .call(hypercall.number(), [operation, buffer, 1, 0, 0]);
            let error = answer.err().and_then(|error| error.raw_os_error());
            let absent = Some(Errno::NoCall.number().into());
            ensure!(error == absent, "{what}: {error:?}");
        }
        for number in (0..100).filter(|number| Hypercall::from_number(*number).is_none()) {
            let answer = self.0.call(number, [buffer; 5]);
            let error = answer.err().and_then(|error| error.raw_os_error());
            let absent = Some(Errno::NoCall.number().into());
            ensure!(error == absent, "hypercall {number}: {error:?}");
        }
        Ok(())
    }

    /// Answers go only where the caller itself could write, and only memory of domains is flushed.
    fn pages_of_the_caller(&self) -> Result<()> {
        let read_only = Mapping::read_only(1)?;
        let fault = Some(i32::from(Errno::Fault.number()));
        for (what, address) in [
            ("a read-only page", read_only.address()),
            ("the end of a mapping", self.0.buffer().end() - 8),
            ("nothing", 0),
            ("no address", 1 << 60),
            ("the kernel", u64::MAX - 4095),
        ] {
            let operation = VersionOp::Capabilities.number();
            let arguments = [operation, address, 0, 0, 0];
            let answer = self.0.call(Hypercall::XenVersion.number(), arguments);
            let error = answer.err().and_then(|error| error.raw_os_error());
            ensure!(error == fault, "xsa_98 an answer to {what}: {error:?}");
        }
        let flush = |address, offset, length, op| CacheFlush {
            address_or_reference: address,
            offset,
            length,
            op,
        };
        for (what, request, expected) in [
            // The first frame of RAM that QEMU's boards have is not Dom0's.
            (
                "xsa_232 no domain's",
                flush(0x4000_0000, 0, 64, 1),
                Errno::NotPermitted,
            ),
            (
                "xsa_232 no RAM",
                flush(FAR << 12, 0, 64, 1),
                Errno::NotPermitted,
            ),
            ("xsa_447 two pages", flush(0, 4095, 2, 1), Errno::Invalid),
            (
                "xsa_447 the end",
                flush(u64::MAX, u16::MAX, u16::MAX, 3),
                Errno::Invalid,
            ),
            ("unknown maintenance", flush(0, 0, 64, 8), Errno::Invalid),
        ] {
            self.0.buffer().write(0, request.as_bytes());
            let operation = GrantTableOp::CacheFlush.number();
            let arguments = [operation, self.0.buffer().address(), 1, 0, 0];
            let answer = self.0.call(Hypercall::GrantTableOp.number(), arguments);
            let error = answer.err().and_then(|error| error.raw_os_error());
            ensure!(error == Some(expected.number().into()), "{what}: {error:?}");
        }
        Ok(())
    }

    /// What is checked is what is used, when another thread changes it meanwhile.
    fn changing_memory(&self) -> Result<()> {
        const ROUNDS: u32 = 5000;
        let buffer = self.0.buffer();
        let done = AtomicBool::new(false);
        let [valid, invalid] = [0_u8, 5];
        buffer.write(0, FeatureInfo::new_zeroed().as_bytes());
        let Some(index) = buffer.bytes().first() else {
            return Ok(());
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    index.store(invalid, Ordering::Relaxed);
                    index.store(valid, Ordering::Relaxed);
                }
            });
            let outcome = self.features_of_changing_request(ROUNDS);
            done.store(true, Ordering::Relaxed);
            outcome
        })
    }

    fn features_of_changing_request(&self, rounds: u32) -> Result<()> {
        let buffer = self.0.buffer();
        let expected = i32::from(Errno::Invalid.number());
        let operation = VersionOp::GetFeatures.number();
        for round in 0..rounds {
            buffer.write(4, &[0xee; 4]);
            let arguments = [operation, buffer.address(), 0, 0, 0];
            let answer = self.0.call(Hypercall::XenVersion.number(), arguments);
            let words = buffer.read(4, 4);
            match answer.map_err(|error| error.raw_os_error().unwrap_or(0)) {
                Ok(0) => ensure!(
                    words[..] == 0x2_6805_u32.to_le_bytes(),
                    "xsa_155 round {round}: {words:x?}"
                ),
                Err(error) if error == expected => {
                    ensure!(words == [0xee; 4], "xsa_155 round {round}: {words:x?}");
                }
                other => anyhow::bail!("xsa_155 round {round}: {other:?}"),
            }
        }
        Ok(())
    }
}
