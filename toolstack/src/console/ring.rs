//! A console ring (Xen's `io/console.h`): a page with two buffers and their indices, which the guest
//! changes at any time and may have changed to anything.

use std::sync::atomic::Ordering;

use xen_abi::io::console::{IN, IN_CONS, IN_PROD, IN_SIZE, OUT, OUT_CONS, OUT_PROD, OUT_SIZE};

use crate::hypervisor::SharedMemory;

/// The control domain's end of a ring.
#[derive(Debug)]
pub struct Ring(SharedMemory);

impl Ring {
    /// The ring in a page.
    pub fn new(page: SharedMemory) -> Self {
        Self(page)
    }

    fn index(&self, offset: usize) -> u32 {
        let word = self.0.word(offset);
        word.map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set_index(&self, offset: usize, value: u32) {
        if let Some(word) = self.0.word(offset) {
            word.store(value, Ordering::Release);
        }
    }

    /// Takes what the guest has written. Indices that make no sense are taken for an empty ring.
    pub fn read(&self) -> Vec<u8> {
        let produced = self.index(OUT_PROD);
        let consumed = self.index(OUT_CONS);
        let count = produced.wrapping_sub(consumed);
        if count as usize > OUT_SIZE {
            self.set_index(OUT_CONS, produced);
            return Vec::new();
        }
        let byte = |place: u32| {
            let offset = OUT + consumed.wrapping_add(place) as usize % OUT_SIZE;
            let byte = self.0.byte(offset);
            byte.map_or(0, |byte| byte.load(Ordering::Relaxed))
        };
        let bytes = (0..count).map(byte).collect();
        self.set_index(OUT_CONS, produced);
        bytes
    }

    /// Gives the guest as many of these bytes as it has room for; returns how many.
    pub fn write(&self, bytes: &[u8]) -> usize {
        let produced = self.index(IN_PROD);
        let used = produced.wrapping_sub(self.index(IN_CONS)) as usize;
        let room = IN_SIZE.saturating_sub(used);
        let mut place = produced;
        for byte in bytes.iter().take(room) {
            if let Some(to) = self.0.byte(IN + place as usize % IN_SIZE) {
                to.store(*byte, Ordering::Relaxed);
            }
            place = place.wrapping_add(1);
        }
        self.set_index(IN_PROD, place);
        room.min(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> Ring {
        Ring::new(SharedMemory::private(1).unwrap())
    }

    fn guest_writes(ring: &Ring, bytes: &[u8]) {
        let mut place = ring.index(OUT_PROD);
        for byte in bytes {
            let to = ring.0.byte(OUT + place as usize % OUT_SIZE).unwrap();
            to.store(*byte, Ordering::Relaxed);
            place = place.wrapping_add(1);
        }
        ring.set_index(OUT_PROD, place);
    }

    #[test]
    fn output_is_taken_in_order_across_the_end() {
        let ring = ring();
        // Indices count on at 32 bits.
        ring.set_index(OUT_PROD, u32::MAX - 2);
        ring.set_index(OUT_CONS, u32::MAX - 2);
        assert_eq!(ring.read(), b"");
        guest_writes(&ring, b"hello");
        assert_eq!(ring.read(), b"hello");
        let long: Vec<u8> = (0..OUT_SIZE).map(|at| at as u8).collect();
        guest_writes(&ring, &long);
        assert_eq!(ring.read(), long);
        assert_eq!(ring.read(), b"");
    }

    #[test]
    fn input_stops_where_there_is_no_room() {
        let ring = ring();
        let long = [7; IN_SIZE + 10];
        assert_eq!(ring.write(&long), IN_SIZE);
        assert_eq!(ring.write(b"x"), 0);
        ring.set_index(IN_CONS, 3);
        assert_eq!(ring.write(b"abcd"), 3);
    }

    #[test]
    fn a_guest_that_lies_about_indices_harms_nobody() {
        let ring = ring();
        ring.set_index(OUT_PROD, 0x8000_0000);
        assert_eq!(ring.read(), b"");
        guest_writes(&ring, b"again");
        assert_eq!(ring.read(), b"again");
        ring.set_index(IN_CONS, 5);
        assert_eq!(ring.write(b"x"), 0);
    }
}
