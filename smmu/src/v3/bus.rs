//! The hardware as the driver uses it: with bounded waits, and with cleaning where the SMMU does not
//! see caches.

use xen_types::{Hpa, PAGE_SIZE};

use crate::{Hardware, IommuError};

/// How long the SMMU may take for anything. Nothing of a guest makes it take long.
const PATIENCE_MICROSECONDS: u64 = 1_000_000;

#[derive(Debug)]
pub struct Bus<H> {
    pub hardware: H,
    /// Whether the SMMU sees the CPUs' caches.
    pub coherent: bool,
    /// Bits of the SMMU's physical addresses.
    address_bits: u32,
}

impl<H: Hardware> Bus<H> {
    pub const fn new(hardware: H, coherent: bool) -> Self {
        Self {
            hardware,
            coherent,
            address_bits: 48,
        }
    }

    /// What is allocated from now on has addresses of at most `bits` bits.
    pub fn limit_addresses(&mut self, bits: u32) {
        self.address_bits = bits;
    }

    pub fn read32(&self, register: u32) -> u32 {
        self.hardware.read32(register)
    }

    pub fn write32(&mut self, register: u32, value: u32) {
        self.hardware.write32(register, value);
    }

    pub fn write64(&mut self, register: u32, value: u64) {
        self.hardware.write64(register, value);
    }

    /// Zeroed memory that the SMMU sees as such, aligned to its size rounded up to a power of two.
    pub fn allocate(&mut self, what: &'static str, bytes: u64) -> Result<Hpa, IommuError> {
        let bytes = bytes.max(PAGE_SIZE).next_power_of_two();
        let start = self.hardware.allocate(bytes);
        let start = start.ok_or(IommuError::NoMemory { what, bytes })?;
        if start.get() >> self.address_bits != 0 {
            self.hardware.free(start, bytes);
            return Err(IommuError::NoMemory { what, bytes });
        }
        self.publish(start, bytes);
        Ok(start)
    }

    pub fn read(&self, at: Hpa) -> u64 {
        self.hardware.read(at)
    }

    pub fn write(&mut self, at: Hpa, word: u64) {
        self.hardware.write(at, word);
    }

    /// Makes the SMMU see what was written to `bytes` from `start`, before what follows.
    pub fn publish(&mut self, start: Hpa, bytes: u64) {
        if !self.coherent {
            self.hardware.clean(start, bytes);
        }
        self.hardware.barrier();
    }

    /// Makes the driver see what the SMMU wrote to `bytes` from `start`.
    pub fn refresh(&mut self, start: Hpa, bytes: u64) {
        if !self.coherent {
            self.hardware.discard(start, bytes);
        }
        self.hardware.barrier();
    }

    /// Writes `value` and waits until `acknowledge` follows (IHI 0070, 6.3, SMMU_CR0ACK).
    pub fn update(
        &mut self,
        register: u32,
        value: u32,
        acknowledge: u32,
        what: &'static str,
    ) -> Result<(), IommuError> {
        self.write32(register, value);
        self.wait(what, |bus| (bus.read32(acknowledge) == value).then_some(()))
    }

    /// Waits until `done` has an answer.
    pub fn wait<T>(
        &mut self,
        what: &'static str,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, IommuError> {
        if let Some(answer) = done(self) {
            return Ok(answer);
        }
        let start = self.hardware.microseconds();
        loop {
            // The time is read first: however late this CPU is, the SMMU is asked once more.
            let elapsed = self.hardware.microseconds().wrapping_sub(start);
            if let Some(answer) = done(self) {
                return Ok(answer);
            }
            if elapsed > PATIENCE_MICROSECONDS {
                return Err(IommuError::TimedOut(what));
            }
            self.hardware.relax();
        }
    }
}

/// The address `bytes` into memory that was allocated, where the sum always fits.
pub fn offset(start: Hpa, bytes: u64) -> Hpa {
    Hpa::new(start.get().wrapping_add(bytes))
}
