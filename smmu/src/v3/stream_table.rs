//! The stream table (IHI 0070, 3.3): stream id to entry. With two levels, tables of entries come as
//! streams are attached, and the rest of the streams are unknown.

use xen_types::Hpa;

use super::bus::{Bus, offset};
use super::capabilities::Capabilities;
use super::entry;
use super::registers::{BASE_ALLOCATE, STRTAB_SPLIT_SHIFT, STRTAB_TWO_LEVELS};
use crate::{Hardware, IommuError, StreamId};

/// What the architecture offers as `SPLIT`: bits of a stream id that a table of entries resolves.
const SPLITS: [u32; 3] = [6, 8, 10];
const DESCRIPTOR_BYTES: u64 = 8;
/// log2 of the descriptors in a first level of 64 KiB, beyond which a larger `SPLIT` is taken.
const SMALL_LOG2: u32 = 13;
/// log2 of the most descriptors: 1 MiB.
const LARGEST_LOG2: u32 = 17;
/// log2 of the most entries in a table of one level: 1 MiB.
const LINEAR_LOG2: u32 = 14;
/// Where a descriptor of the first level leads (5.1, `L2Ptr`).
const TABLE: u64 = 0x000f_ffff_ffff_ffc0;

/// The table.
#[derive(Debug)]
pub struct StreamTable {
    base: Hpa,
    /// Bits of a stream id.
    bits: u32,
    /// With two levels, `SPLIT`.
    split: Option<u32>,
}

/// The shape of a table for stream ids of `wanted` bits, as far as the SMMU has it.
fn shape(capabilities: &Capabilities, wanted: u32) -> (u32, Option<u32>) {
    let [smallest, .., largest] = SPLITS;
    let bits = wanted.min(capabilities.stream_bits);
    if bits <= smallest || !capabilities.two_levels {
        return (bits.min(LINEAR_LOG2), None);
    }
    let bits = bits.min(largest + LARGEST_LOG2);
    let split = SPLITS.into_iter().find(|split| bits <= split + SMALL_LOG2);
    (bits, Some(split.unwrap_or(largest)))
}

impl StreamTable {
    /// A table for stream ids of `wanted` bits, or of as many as there can be. All are unknown.
    pub fn allocate(
        bus: &mut Bus<impl Hardware>,
        capabilities: &Capabilities,
        wanted: u32,
    ) -> Result<Self, IommuError> {
        let (bits, split) = shape(capabilities, wanted);
        let bytes = match split {
            Some(split) => DESCRIPTOR_BYTES << (bits - split),
            None => entry::BYTES << bits,
        };
        let base = bus.allocate("an SMMU's stream table", bytes)?;
        Ok(Self { base, bits, split })
    }

    /// Bits of the stream ids that it knows.
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// `STRTAB_BASE`.
    pub fn base_register(&self) -> u64 {
        BASE_ALLOCATE | self.base.get()
    }

    /// `STRTAB_BASE_CFG`.
    pub fn config_register(&self) -> u32 {
        match self.split {
            Some(split) => STRTAB_TWO_LEVELS | split << STRTAB_SPLIT_SHIFT | self.bits,
            None => self.bits,
        }
    }

    /// The entry of a stream; `None` where it has none.
    pub fn find(&self, bus: &Bus<impl Hardware>, stream: StreamId) -> Option<Hpa> {
        if !stream.fits(self.bits) {
            return None;
        }
        let number = u64::from(stream.get());
        let Some(split) = self.split else {
            return Some(offset(self.base, number * entry::BYTES));
        };
        let table = Hpa::new(bus.read(self.descriptor(stream, split)) & TABLE);
        let index = number & ((1 << split) - 1);
        (table != Hpa::new(0)).then(|| offset(table, index * entry::BYTES))
    }

    /// The entry of a stream, which is made if there is none. The descriptor that then leads to it
    /// counts once the SMMU has been told to forget the stream.
    pub fn find_or_make(
        &self,
        bus: &mut Bus<impl Hardware>,
        stream: StreamId,
    ) -> Result<Hpa, IommuError> {
        if let Some(entry) = self.find(bus, stream) {
            return Ok(entry);
        }
        if let Some(split) = self.split.filter(|_| stream.fits(self.bits)) {
            let table = bus.allocate("a table of an SMMU's streams", entry::BYTES << split)?;
            let descriptor = self.descriptor(stream, split);
            // `Span` of n is 2 to the power of n - 1 entries (5.1). A single store: the SMMU sees no
            // table or an empty one.
            bus.write(descriptor, table.get() | u64::from(split + 1));
            bus.publish(descriptor, DESCRIPTOR_BYTES);
        }
        let bits = self.bits;
        self.find(bus, stream)
            .ok_or(IommuError::UnknownStream { stream, bits })
    }

    /// Where the descriptor of the first level is.
    fn descriptor(&self, stream: StreamId, split: u32) -> Hpa {
        offset(
            self.base,
            u64::from(stream.get() >> split) * DESCRIPTOR_BYTES,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::capabilities::tests::typical;
    use super::*;

    #[test]
    fn a_table_is_as_large_as_needed() {
        let two_levels = typical();
        for (wanted, expected) in [
            (0, (0, None)),
            (6, (6, None)),
            (7, (7, Some(6))),
            (16, (16, Some(6))),
            (20, (20, Some(8))),
            (22, (22, Some(10))),
            (32, (27, Some(10))),
        ] {
            let capabilities = Capabilities {
                stream_bits: 32,
                ..two_levels
            };
            assert_eq!(shape(&capabilities, wanted), expected, "{wanted} bits");
        }
        assert_eq!(shape(&two_levels, 32), (16, Some(6)));
        let linear = Capabilities {
            two_levels: false,
            ..two_levels
        };
        assert_eq!(shape(&linear, 10), (10, None));
        assert_eq!(shape(&linear, 16), (14, None));
    }
}
