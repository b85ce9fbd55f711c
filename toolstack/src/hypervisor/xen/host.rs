//! The machine and what runs on it.

use std::io;

use xen_abi::DomId;
use xen_abi::domctl as dom;
use xen_abi::hypercall::Hypercall;
use xen_abi::sysctl::{self as sys, SysctlOp};
use xen_abi::version::{VarBufHeader, VersionOp};
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::buffer::{LIST, LIST_SIZE};
use super::{Xen, answer};
use crate::hypervisor::info::{DomainInfo, Machine, Scheduler, Version};
use crate::hypervisor::{Host, Result};

/// Entries of one list of domains.
const DOMAINS: usize = 512;
/// Bytes of a text that is asked for.
const TEXT: usize = 4096;
/// Bytes of the log that are read at once.
const LOG_PART: usize = 64 << 10;

impl Xen {
    /// A text of the hypervisor; empty if it does not tell.
    fn text(&self, op: VersionOp) -> Result<String> {
        let bytes = self.with_buffer("xen_version", |buffer| {
            let header = VarBufHeader { len: TEXT as u32 };
            buffer.memory.write(LIST, header.as_bytes())?;
            let length = match buffer.call(
                Hypercall::XenVersion,
                [op.number(), buffer.at(LIST), 0, 0, 0],
            ) {
                Ok(length) => (length as usize).min(TEXT),
                Err(_) => 0,
            };
            let mut bytes = vec![0; length];
            buffer
                .memory
                .read(LIST + size_of::<VarBufHeader>(), &mut bytes)?;
            Ok(bytes)
        })?;
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).trim().to_string())
    }
}

impl Host for Xen {
    fn version(&self) -> Result<Version> {
        let number = self.with_buffer("xen_version", |buffer| {
            let op = VersionOp::Version.number();
            buffer.call(Hypercall::XenVersion, [op, 0, 0, 0, 0])
        })?;
        Ok(Version {
            number: ((number >> 16) as u16, number as u16),
            extra: self.text(VersionOp::ExtraVersion2)?,
            capabilities: self.text(VersionOp::Capabilities2)?,
            command_line: self.text(VersionOp::CommandLine2)?,
            changeset: self.text(VersionOp::Changeset2)?,
        })
    }

    fn machine(&self) -> Result<Machine> {
        let empty = sys::PhysInfo::read_from_bytes(&[0; size_of::<sys::PhysInfo>()]);
        let empty = empty.map_err(|_| answer("physinfo", "its size"))?;
        let info = self.sysctl("physinfo", SysctlOp::PhysInfo, empty)?;
        Ok(Machine {
            cpus: info.nr_cpus,
            max_cpu: info.max_cpu_id,
            timer_khz: info.cpu_khz,
            total_kib: info.total_pages.saturating_mul(4),
            free_kib: info.free_pages.saturating_mul(4),
            passthrough: info.capabilities & sys::capabilities::DIRECT_IO != 0,
        })
    }

    fn scheduler(&self) -> Result<Scheduler> {
        let id = self.sysctl("sched_id", SysctlOp::SchedId, sys::SchedId { sched_id: 0 })?;
        Ok(match dom::SchedulerId::from_number(id.sched_id) {
            Some(dom::SchedulerId::Credit) => Scheduler::Credit,
            Some(dom::SchedulerId::Credit2) => Scheduler::Credit2,
            Some(dom::SchedulerId::Null) => Scheduler::Null,
            _ => Scheduler::Other(id.sched_id),
        })
    }

    fn log(&self, clear: bool) -> Result<Vec<u8>> {
        let mut log = Vec::new();
        let mut index = 0;
        self.with_buffer("readconsole", |buffer| {
            loop {
                let part = buffer.sysctl(
                    SysctlOp::ReadConsole,
                    sys::ReadConsole {
                        clear: 0,
                        incremental: 1,
                        pad1: 0,
                        index,
                        buffer: buffer.handle(LIST),
                        count: LOG_PART as u32,
                        pad2: 0,
                    },
                )?;
                let count = (part.count as usize).min(LOG_PART);
                let mut bytes = vec![0; count];
                buffer.memory.read(LIST, &mut bytes)?;
                log.extend(bytes);
                index = part.index;
                if count < LOG_PART {
                    break;
                }
            }
            if clear {
                // All that was read, and nothing that came after.
                buffer.sysctl(
                    SysctlOp::ReadConsole,
                    sys::ReadConsole {
                        clear: 1,
                        incremental: 1,
                        pad1: 0,
                        index,
                        buffer: buffer.handle(LIST),
                        count: 0,
                        pad2: 0,
                    },
                )?;
            }
            Ok(log)
        })
    }

    fn domains(&self) -> Result<Vec<DomainInfo>> {
        const ENTRY: usize = size_of::<dom::GetDomainInfo>();
        const { assert!(DOMAINS * ENTRY <= LIST_SIZE) };
        let mut all = Vec::new();
        let mut first = 0;
        loop {
            let part = self.with_buffer("getdomaininfolist", |buffer| {
                let list = buffer.sysctl(
                    SysctlOp::GetDomainInfoList,
                    sys::GetDomainInfoList {
                        first_domain: DomId::new(first),
                        pad1: 0,
                        max_domains: DOMAINS as u32,
                        buffer: buffer.handle(LIST),
                        num_domains: 0,
                        pad2: 0,
                    },
                )?;
                let count = (list.num_domains as usize).min(DOMAINS);
                let infos = (0..count).map(|place| buffer.take(LIST + place * ENTRY));
                infos.collect::<io::Result<Vec<dom::GetDomainInfo>>>()
            })?;
            all.extend(part.iter().map(DomainInfo::new));
            match part.last() {
                Some(last) if part.len() == DOMAINS => first = last.domain.get().saturating_add(1),
                _ => return Ok(all),
            }
        }
    }
}
