//! SMMUv3 (Arm IHI 0070), non-secure, stage 2 only.
//!
//! [`abort_all`] before anything else, [`Capabilities::read`], then [`Smmu::start`], or [`pass_all`]
//! on an SMMU that cannot isolate.
//!
//! The order of every change is: memory, barrier, CMD_CFGI_STE, CMD_TLBI_S12_VMALL, CMD_SYNC. An
//! entry of the stream table whose words the SMMU might be reading is never changed: it first becomes
//! an abort by a single store of its first word, with which the others do not count, and the SMMU
//! forgets it; then the others are written, and the SMMU forgets it again, so that nothing that it
//! read of it is older; then the first word makes it count (3.21.3). At every moment, and for every
//! mixture of words that were there since the SMMU last forgot the entry, the stream reaches its
//! former domain, its new one, or nothing.

mod bus;
mod capabilities;
mod command;
mod command_queue;
mod entry;
mod event;
mod event_queue;
mod registers;
mod reset;
mod ring;
mod stream_table;

use xen_types::Hpa;

use self::bus::Bus;
pub use self::capabilities::{Capabilities, NoIsolation, StallModel};
use self::command::Command;
use self::command_queue::CommandQueue;
use self::entry::Words;
use self::event_queue::EventQueue;
pub use self::registers::REGION;
use self::registers::{GERROR, GERROR_CMDQ, GERROR_EVENTQ_ABORT, GERROR_SERVICE_FAILURE, GERRORN};
use self::stream_table::StreamTable;
use crate::{
    Fault, FaultLog, Hardware, Invalidation, Iommu, IommuError, Service, Stage2, StreamId, Vmid,
};

/// Events that [`Iommu::service`] reads at most, so that a device cannot keep a CPU busy.
const EVENTS_AT_ONCE: u32 = 64;
/// GERROR where nothing answers.
const GONE: u32 = u32::MAX;

/// What the machine's description says of an SMMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// Bits of the largest stream id in use.
    pub stream_bits: u32,
    /// Whether it sees caches (`dma-coherent`); it has to say so itself, too.
    pub coherent: bool,
}

/// Switches an SMMU off; what comes is aborted. It is what an SMMU should do from the first moment.
///
/// # Errors
/// It does not answer.
pub fn abort_all(hardware: impl Hardware) -> Result<(), IommuError> {
    reset::abort_all(&mut Bus::new(hardware, false))
}

/// Switches an SMMU off; what comes passes, as without an SMMU.
///
/// # Errors
/// It does not answer.
pub fn pass_all(hardware: impl Hardware) -> Result<(), IommuError> {
    reset::pass_all(&mut Bus::new(hardware, false))
}

/// An SMMUv3 that is on.
#[derive(Debug)]
pub struct Smmu<H> {
    bus: Bus<H>,
    capabilities: Capabilities,
    streams: StreamTable,
    commands: CommandQueue,
    events: EventQueue,
    faults: FaultLog,
    fenced: bool,
}

impl<H: Hardware> Smmu<H> {
    /// Switches an SMMU on, with all streams aborted. What it has of these `capabilities` was read
    /// from it.
    ///
    /// # Errors
    /// It does not answer, or there is no memory for its tables. It may be left off, with all streams
    /// aborted, and does not give memory back that it was told of.
    pub fn start(
        hardware: H,
        capabilities: Capabilities,
        setup: Setup,
    ) -> Result<Self, IommuError> {
        let mut bus = Bus::new(hardware, setup.coherent && capabilities.coherent);
        bus.limit_addresses(capabilities.output_bits);
        reset::abort_all(&mut bus)?;
        let streams = StreamTable::allocate(&mut bus, &capabilities, setup.stream_bits)?;
        let mut commands = CommandQueue::allocate(&mut bus, capabilities.command_bits)?;
        let events = EventQueue::allocate(&mut bus, capabilities.event_bits)?;
        reset::enable(&mut bus, &capabilities, &streams, &mut commands, &events)?;
        Ok(Self {
            bus,
            capabilities,
            streams,
            commands,
            events,
            faults: FaultLog::new(),
            fenced: false,
        })
    }

    /// What it can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn check_fence(&self) -> Result<(), IommuError> {
        if self.fenced {
            Err(IommuError::Fenced)
        } else {
            Ok(())
        }
    }

    /// Makes the entry at `place` an abort, and the SMMU forget what it was.
    fn block(&mut self, stream: StreamId, place: Hpa) -> Result<(), IommuError> {
        let former = self.vmid_at(place);
        self.write_words(place, 0, &[entry::ABORT]);
        self.forget(stream, former)
    }

    /// Makes the entry at `place`, an abort or invalid to all that the SMMU may have read of it,
    /// `words`.
    fn fill(
        &mut self,
        stream: StreamId,
        place: Hpa,
        words: &Words,
        vmid: Vmid,
    ) -> Result<(), IommuError> {
        let [first, rest @ ..] = words;
        self.write_words(place, 1, rest);
        self.forget(stream, None)?;
        self.write_words(place, 0, &[*first]);
        self.forget(stream, Some(vmid))
    }

    fn write_words(&mut self, place: Hpa, from: usize, words: &[u64]) {
        for (index, word) in (from..).zip(words) {
            self.bus.write(entry::word(place, index), *word);
        }
        self.bus.publish(place, entry::BYTES);
    }

    /// The SMMU forgets the entry of a stream, and the translations of a domain.
    fn forget(&mut self, stream: StreamId, vmid: Option<Vmid>) -> Result<(), IommuError> {
        let (bus, commands) = (&mut self.bus, &mut self.commands);
        commands.push(bus, Command::ForgetStream(stream))?;
        if let Some(vmid) = vmid {
            commands.push(bus, Command::ForgetDomain(vmid))?;
        }
        commands.sync(bus)
    }

    /// The domain that the entry at `place` belongs to.
    fn vmid_at(&self, place: Hpa) -> Option<Vmid> {
        let word = |index| self.bus.read(entry::word(place, index));
        entry::vmid(word(0), word(2))
    }

    /// Reads GERROR and acknowledges all but what the command queue takes care of.
    fn take_errors(&mut self) -> u32 {
        let (errors, acknowledged) = (self.bus.read32(GERROR), self.bus.read32(GERRORN));
        let new = (errors ^ acknowledged) & !GERROR_CMDQ;
        if errors == GONE {
            return GERROR_SERVICE_FAILURE;
        }
        if new != 0 {
            self.bus.write32(GERRORN, acknowledged ^ new);
        }
        new
    }

    /// Reads some events.
    fn take_events(&mut self, service: &mut Service) -> Result<(), IommuError> {
        let waiting = self.events.waiting(&self.bus)?;
        service.events = waiting.events.min(EVENTS_AT_ONCE);
        service.lost |= waiting.lost;
        let mut stalled = false;
        for _ in 0..service.events {
            let event = self.events.read(&mut self.bus);
            self.faults.record(event.fault);
            if let Some(tag) = event.stalled {
                let command = Command::EndStalled(event.fault.stream, tag);
                self.commands.push(&mut self.bus, command)?;
                stalled = true;
            }
        }
        if service.events != 0 || waiting.lost {
            self.events.release(&mut self.bus, waiting.lost);
        }
        // There is an interrupt only where the queue was empty, and events may have come meanwhile.
        service.more = self.events.waiting(&self.bus)?.events != 0;
        if stalled {
            self.commands.sync(&mut self.bus)?;
        }
        Ok(())
    }
}

impl<H: Hardware> Iommu for Smmu<H> {
    fn stream_bits(&self) -> u32 {
        self.streams.bits()
    }

    fn sees_caches(&self) -> bool {
        self.bus.coherent
    }

    fn accepts(&self, stage2: Stage2) -> Result<(), IommuError> {
        self.capabilities.accept(stage2)
    }

    fn attach(&mut self, stream: StreamId, stage2: Stage2) -> Result<(), IommuError> {
        self.check_fence()?;
        self.accepts(stage2)?;
        let place = self.streams.find_or_make(&mut self.bus, stream)?;
        // An entry that never was anything needs no way back from it.
        if self.bus.read(place) != 0 {
            self.block(stream, place)?;
        }
        let words = entry::translated(stage2, &self.capabilities, self.bus.coherent);
        let filled = self.fill(stream, place, &words, stage2.vmid());
        if filled.is_err() {
            // The SMMU is told, even if it may not listen: the first error is what counts.
            let _ = self.block(stream, place);
        }
        filled
    }

    fn detach(&mut self, stream: StreamId) -> Result<(), IommuError> {
        self.check_fence()?;
        match self.streams.find(&self.bus, stream) {
            Some(place) if self.bus.read(place) != 0 => self.block(stream, place),
            _ => Ok(()),
        }
    }

    fn attached_to(&self, stream: StreamId) -> Option<Vmid> {
        let place = self.streams.find(&self.bus, stream)?;
        self.vmid_at(place)
    }

    fn invalidate(&mut self, vmid: Vmid, what: Invalidation) -> Result<(), IommuError> {
        self.check_fence()?;
        // Descriptors were written by someone else, with cleaning if need be.
        self.bus.hardware.barrier();
        let (bus, commands) = (&mut self.bus, &mut self.commands);
        match what {
            Invalidation::All => commands.push(bus, Command::ForgetDomain(vmid)),
            Invalidation::Range(range) => {
                let ranges = self.capabilities.ranges;
                command::forget(vmid, range, ranges)
                    .try_for_each(|command| commands.push(bus, command))
            }
        }
    }

    fn sync(&mut self) -> Result<(), IommuError> {
        self.check_fence()?;
        self.commands.sync(&mut self.bus)
    }

    fn service(&mut self) -> Service {
        let errors = self.take_errors();
        let mut service = Service {
            lost: errors & GERROR_EVENTQ_ABORT != 0,
            failed: errors & GERROR_SERVICE_FAILURE != 0,
            ..Service::default()
        };
        if !service.failed && !self.fenced {
            service.failed = self.take_events(&mut service).is_err();
        }
        service
    }

    fn take_fault(&mut self) -> Option<Fault> {
        self.faults.take()
    }

    fn take_lost(&mut self) -> u64 {
        self.faults.take_lost()
    }

    fn fence(&mut self) -> Result<(), IommuError> {
        reset::abort_all(&mut self.bus)?;
        self.fenced = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
