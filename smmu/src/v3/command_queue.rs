//! The command queue (IHI 0070, 3.5 and 4.1): commands go in, [`CommandQueue::sync`] waits until they
//! are done, errors included.

use super::bus::{Bus, offset};
use super::command::Command;
use super::registers::{CMDQ_CONS, CMDQ_PROD, GERROR, GERROR_CMDQ, GERRORN};
use super::ring::Ring;
use crate::{Hardware, IommuError};

/// 4 KiB of commands.
const WANTED_LOG2: u32 = 8;
const ENTRY_BYTES: u64 = 16;

/// Bit 31 of the consumer register is reserved and zero.
const RESERVED: u32 = 1 << 31;
/// Why the SMMU stopped at a command (7.1, `CMDQ_CONS.ERR`, bits 30:24).
const ERROR_SHIFT: u32 = 24;
const ERROR: u32 = 0x7f;
const ERROR_ILLEGAL: u32 = 1;
const ERROR_ABORT: u32 = 2;

/// How often in a row the SMMU is told to fetch a command again.
const FETCHES: u32 = 3;

/// The queue. The driver alone writes its producer index.
#[derive(Debug)]
pub struct CommandQueue {
    ring: Ring,
    producer: u32,
    /// Where the SMMU was when last asked.
    consumer: u32,
    /// The first command that was not carried out since the last [`CommandQueue::sync`].
    refused: Option<IommuError>,
    aborts: u32,
}

impl CommandQueue {
    /// An empty queue of at most 2 to the power of `limit_log2` commands.
    pub fn allocate(bus: &mut Bus<impl Hardware>, limit_log2: u32) -> Result<Self, IommuError> {
        let log2 = limit_log2.min(WANTED_LOG2);
        let base = bus.allocate("an SMMU's command queue", ENTRY_BYTES << log2)?;
        Ok(Self {
            ring: Ring::new(base, log2, ENTRY_BYTES),
            producer: 0,
            consumer: 0,
            refused: None,
            aborts: 0,
        })
    }

    pub fn ring(&self) -> Ring {
        self.ring
    }

    /// Adds a command, which begins at the latest with the next [`CommandQueue::sync`]. Waits for room.
    pub fn push(
        &mut self,
        bus: &mut Bus<impl Hardware>,
        command: Command,
    ) -> Result<(), IommuError> {
        if self.is_full() {
            self.begin(bus);
            bus.wait("a command of the SMMU", |bus| {
                self.look(bus, |queue| !queue.is_full())
            })??;
        }
        let entry = self.ring.entry(self.producer);
        put(bus, entry, command);
        self.producer = self.ring.next(self.producer);
        Ok(())
    }

    /// Waits until all commands have been carried out.
    ///
    /// # Errors
    /// [`IommuError::TimedOut`]: they still may be; calling again waits on.
    /// [`IommuError::Refused`]: one was not, and has been taken out of the queue.
    pub fn sync(&mut self, bus: &mut Bus<impl Hardware>) -> Result<(), IommuError> {
        self.push(bus, Command::Sync)?;
        self.begin(bus);
        bus.wait("CMD_SYNC", |bus| {
            self.look(bus, |queue| queue.consumer == queue.producer)
        })??;
        self.refused.take().map_or(Ok(()), Err)
    }

    /// Hands over what was pushed. It was published when it was.
    fn begin(&mut self, bus: &mut Bus<impl Hardware>) {
        bus.write32(CMDQ_PROD, self.producer);
    }

    fn is_full(&self) -> bool {
        let waiting = self.ring.waiting(self.producer, self.consumer);
        waiting.is_none_or(|waiting| self.ring.is_full(waiting))
    }

    /// Looks where the SMMU is, and helps it on after an error. An answer once it is where `arrived`
    /// wants it, or cannot get there.
    fn look<H: Hardware>(
        &mut self,
        bus: &mut Bus<H>,
        arrived: impl Fn(&Self) -> bool,
    ) -> Option<Result<(), IommuError>> {
        let value = bus.read32(CMDQ_CONS);
        let consumer = value & self.ring.mask();
        if value & RESERVED != 0 || self.ring.waiting(self.producer, consumer).is_none() {
            let register = "CMDQ_CONS";
            return Some(Err(IommuError::Nonsense { register, value }));
        }
        if consumer != self.consumer {
            self.aborts = 0;
            self.consumer = consumer;
        }
        if arrived(self) {
            return Some(Ok(()));
        }
        if (bus.read32(GERROR) ^ bus.read32(GERRORN)) & GERROR_CMDQ == 0 {
            return None;
        }
        // The error code counts from when GERROR says that there is one (7.1).
        let error = bus.read32(CMDQ_CONS) >> ERROR_SHIFT & ERROR;
        self.repair(bus, error).err().map(Err)
    }

    /// Makes a queue that stopped at an error go on: the command in question becomes a CMD_SYNC, then
    /// the error is acknowledged (7.1).
    fn repair(&mut self, bus: &mut Bus<impl Hardware>, error: u32) -> Result<(), IommuError> {
        let entry = self.ring.entry(self.consumer);
        let opcode = Command::opcode(bus.read(entry));
        let refused = |reason| IommuError::Refused { opcode, reason };
        match error {
            ERROR_ABORT if self.aborts == FETCHES => {
                // It stays in the queue, for the next to try.
                self.aborts = 0;
                return Err(refused("it could not be read from memory"));
            }
            ERROR_ABORT => self.aborts += 1,
            ERROR_ILLEGAL => self.skip(bus, refused("it is illegal")),
            _ => self.skip(
                bus,
                refused("for a reason that the architecture does not have"),
            ),
        }
        let acknowledged = bus.read32(GERRORN) ^ GERROR_CMDQ;
        bus.write32(GERRORN, acknowledged);
        Ok(())
    }

    fn skip(&mut self, bus: &mut Bus<impl Hardware>, error: IommuError) {
        self.refused.get_or_insert(error);
        put(bus, self.ring.entry(self.consumer), Command::Sync);
    }
}

fn put(bus: &mut Bus<impl Hardware>, entry: xen_types::Hpa, command: Command) {
    let [first, second] = command.encode();
    bus.write(entry, first);
    bus.write(offset(entry, 8), second);
    bus.publish(entry, ENTRY_BYTES);
}
