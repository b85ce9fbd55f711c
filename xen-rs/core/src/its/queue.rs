//! The command queue (IHI 0069, 5.3 and 12.19.2 to 12.19.4): commands go in, and their execution is
//! waited for.
//!
//! An ITS that takes no commands in time is started anew with an empty queue. One that stalls at a
//! command gets a harmless one in its place, and goes on.

use xen_types::Hpa;

use super::command::{Command, SIZE, Target};
use super::layout::{
    CTLR_ENABLED, CTLR_QUIESCENT, Cbaser, GITS_CBASER, GITS_CREADR, GITS_CTLR, GITS_CWRITER,
    QUEUE_FLAG, QUEUE_OFFSET,
};
use super::table::{Table, negotiate};
use super::{Host, ItsError, Registers};

/// Bytes of the queue: 512 commands.
const BYTES: u64 = 0x4000;
const SLOT: u64 = SIZE as u64;
/// How long an ITS may take for a command, or to come to rest.
const PATIENCE_MICROSECONDS: u64 = 1_000_000;

/// The queue of an ITS. It is empty between calls.
#[derive(Debug)]
pub struct Queue {
    table: Table,
    cbaser: Cbaser,
    /// Where the next command goes.
    next: u64,
    /// The ITS hung and did not even stop: it is started anew before its next command.
    broken: bool,
}

/// Stops an ITS: it translates and executes nothing any more.
pub fn stop(registers: &impl Registers, host: &mut impl Host) -> Result<(), ItsError> {
    let control = registers.read32(GITS_CTLR);
    registers.write32(GITS_CTLR, control & !CTLR_ENABLED);
    let start = host.microseconds();
    while registers.read32(GITS_CTLR) & CTLR_QUIESCENT == 0 {
        if host.microseconds().wrapping_sub(start) > PATIENCE_MICROSECONDS {
            return Err(ItsError::NotQuiescent);
        }
    }
    Ok(())
}

/// Starts it.
pub fn start(registers: &impl Registers) {
    let control = registers.read32(GITS_CTLR) & !CTLR_QUIESCENT;
    registers.write32(GITS_CTLR, control | CTLR_ENABLED);
}

impl Queue {
    /// Gives a stopped ITS an empty queue.
    pub fn set_up(
        registers: &impl Registers,
        host: &mut impl Host,
        coherent: bool,
    ) -> Result<Self, ItsError> {
        let mut table = Table::allocate(host, "command queue", BYTES, 0x1_0000)?;
        let mut cbaser = Cbaser {
            valid: true,
            attributes: super::layout::Attributes::COHERENT,
            at: table.at(),
            pages: (BYTES / 0x1000) as u16,
        };
        negotiate(&mut table, host, coherent, |attributes| {
            cbaser.attributes = attributes;
            registers.write64(GITS_CBASER, cbaser.encode());
            Cbaser::<Hpa>::decode(registers.read64(GITS_CBASER)).attributes
        });
        registers.write64(GITS_CWRITER, 0);
        Ok(Self {
            table,
            cbaser,
            next: 0,
            broken: false,
        })
    }

    /// Has commands executed, in order, and waits for that. `harmless` is a redistributor that is
    /// there, for a command to put in place of one at which the ITS stalls.
    ///
    /// # Errors
    /// [`ItsError::Refused`] with the first command at which the ITS stalled; those after it were
    /// executed. [`ItsError::Timeout`]: some were not. [`ItsError::NotQuiescent`]: the same, and
    /// the ITS cannot be stopped, either.
    pub fn execute(
        &mut self,
        registers: &impl Registers,
        host: &mut impl Host,
        commands: &[Command],
        harmless: Option<Target>,
    ) -> Result<(), ItsError> {
        if self.broken {
            self.restart(registers, host)?;
        }
        let mut result = Ok(());
        // At most half of the queue is ever in use, so that full and empty cannot be mistaken.
        for batch in commands.chunks((BYTES / SLOT / 2) as usize) {
            let start = self.next;
            for command in batch {
                self.write(host, self.next, *command);
                self.next = (self.next + SLOT) % BYTES;
            }
            registers.write64(GITS_CWRITER, self.next);
            let executed = self.wait(registers, host, (start, batch), harmless);
            match executed {
                Err(ItsError::Timeout) => {
                    self.restart(registers, host)?;
                    return executed;
                }
                _ => result = result.and(executed),
            }
        }
        result
    }

    fn write(&self, host: &mut impl Host, slot: u64, command: Command) {
        for (index, word) in (0..).zip(command.encode()) {
            self.table.write64(host, slot + index * 8, word);
        }
    }

    /// Waits until the ITS has executed a batch, which begins at an offset.
    fn wait(
        &self,
        registers: &impl Registers,
        host: &mut impl Host,
        (start, batch): (u64, &[Command]),
        harmless: Option<Target>,
    ) -> Result<(), ItsError> {
        let mut result = Ok(());
        let mut seen = start;
        let mut since = host.microseconds();
        loop {
            let register = registers.read64(GITS_CREADR);
            let reached = register & QUEUE_OFFSET;
            if reached == self.next {
                return result;
            }
            if reached != seen {
                (seen, since) = (reached, host.microseconds());
            }
            if register & QUEUE_FLAG != 0 {
                let place = (reached + BYTES - start) % BYTES / SLOT;
                let refused = batch.get(place as usize).ok_or(ItsError::Timeout)?;
                let instead = harmless.map(|target| Command::Sync { target });
                match instead.filter(|instead| instead != refused) {
                    Some(instead) => self.write(host, reached, instead),
                    None => return Err(ItsError::Timeout),
                }
                registers.write64(GITS_CWRITER, self.next | QUEUE_FLAG);
                result = result.and(Err(ItsError::Refused(*refused)));
            }
            if host.microseconds().wrapping_sub(since) > PATIENCE_MICROSECONDS {
                return Err(ItsError::Timeout);
            }
        }
    }

    /// Starts the ITS anew with an empty queue; its tables stay.
    fn restart(
        &mut self,
        registers: &impl Registers,
        host: &mut impl Host,
    ) -> Result<(), ItsError> {
        self.broken = true;
        stop(registers, host)?;
        // A write clears GITS_CREADR.
        registers.write64(GITS_CBASER, self.cbaser.encode());
        registers.write64(GITS_CWRITER, 0);
        self.next = 0;
        start(registers);
        self.broken = false;
        Ok(())
    }
}
