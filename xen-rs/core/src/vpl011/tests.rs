extern crate std;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A page whose other side the test is.
struct Page {
    indices: [Cell<u32>; 4],
    bytes: RefCell<[Vec<u8>; 2]>,
    connected: Cell<bool>,
}

impl Page {
    fn starting_at(start: u32) -> Self {
        Self {
            indices: [0; 4].map(|_| Cell::new(start)),
            bytes: RefCell::new([vec![0; 1024], vec![0; 2048]]),
            connected: Cell::new(true),
        }
    }

    /// The other side writes.
    fn feed(&self, byte: u8) -> bool {
        if level(self, Queue::In) == Some(Queue::In.size()) {
            return false;
        }
        let at = self.indices[0].get();
        self.bytes.borrow_mut()[0][at as usize % 1024] = byte;
        self.indices[0].set(at.wrapping_add(1));
        true
    }

    /// The other side reads.
    fn drain(&self) -> Vec<u8> {
        let mut read = Vec::new();
        while self.indices[3].get() != self.indices[2].get() {
            let at = self.indices[3].get();
            read.push(self.bytes.borrow()[1][at as usize % 2048]);
            self.indices[3].set(at.wrapping_add(1));
        }
        read
    }
}

impl Ring for Page {
    fn produced(&self, queue: Queue) -> u32 {
        self.indices[if queue == Queue::In { 0 } else { 2 }].get()
    }
    fn consumed(&self, queue: Queue) -> u32 {
        self.indices[if queue == Queue::In { 1 } else { 3 }].get()
    }
    fn byte(&self, queue: Queue, index: u32) -> u8 {
        let number = usize::from(queue == Queue::Out);
        self.bytes.borrow()[number][(index % queue.size()) as usize]
    }
    fn set_byte(&self, index: u32, byte: u8) {
        self.bytes.borrow_mut()[1][index as usize % 2048] = byte;
    }
    fn set_produced(&self, index: u32) {
        self.indices[2].set(index);
    }
    fn set_consumed(&self, index: u32) {
        self.indices[1].set(index);
    }
    fn is_connected(&self) -> bool {
        self.connected.get()
    }
}

fn access(offset: u32, direction: Direction) -> Access {
    Access {
        offset,
        width: Width::Word,
        direction,
    }
}

fn read(port: &mut Vpl011, page: &Page, offset: u32) -> u32 {
    let done = port.access(page, access(offset, Direction::Read));
    done.unwrap().value
}

fn write(port: &mut Vpl011, page: &Page, offset: u32, value: u64) -> Done {
    let done = port.access(page, access(offset, Direction::Write(value)));
    done.unwrap()
}

#[test]
fn a_port_starts_empty_and_silent() {
    let (mut port, page) = (Vpl011::default(), Page::starting_at(0));
    assert_eq!(read(&mut port, &page, FR), fr::RX_EMPTY | fr::TX_EMPTY);
    assert_eq!(read(&mut port, &page, RIS), interrupt::TRANSMIT);
    assert_eq!(read(&mut port, &page, MIS), 0);
    assert_eq!(read(&mut port, &page, DR), 0);
    assert!(!port.line(&page));
    assert!(write(&mut port, &page, IMSC, interrupt::TRANSMIT.into()).line);
}

#[test]
fn input_interrupts_until_it_is_read() {
    let (mut port, page) = (Vpl011::default(), Page::starting_at(u32::MAX - 5));
    let wanted = interrupt::RECEIVE | interrupt::RECEIVE_TIMEOUT;
    write(&mut port, &page, IMSC, wanted.into());
    for byte in 0..20 {
        assert!(page.feed(byte));
    }
    assert!(port.line(&page));
    assert_eq!(read(&mut port, &page, MIS), wanted);
    write(&mut port, &page, ICR, 0x7ff);
    for byte in 0..20 {
        assert!(port.line(&page));
        assert_eq!(read(&mut port, &page, DR), byte);
    }
    assert!(!port.line(&page));
}

#[test]
fn a_full_ring_makes_the_guest_wait_only_if_somebody_reads() {
    let (mut port, page) = (Vpl011::default(), Page::starting_at(0));
    for _ in 0..2048 {
        assert!(write(&mut port, &page, DR, 0x61).notify);
    }
    assert_eq!(
        read(&mut port, &page, FR),
        fr::RX_EMPTY | fr::TX_FULL | fr::BUSY
    );
    assert!(!write(&mut port, &page, DR, 0x62).notify);
    page.connected.set(false);
    assert_eq!(read(&mut port, &page, FR), fr::RX_EMPTY);
    assert_eq!(page.drain(), vec![0x61; 2048]);
    assert_eq!(read(&mut port, &page, FR), fr::RX_EMPTY | fr::TX_EMPTY);
}

#[test]
fn what_a_port_has_not_is_refused() {
    let (mut port, page) = (Vpl011::default(), Page::starting_at(0));
    let double = Access {
        width: Width::Double,
        ..access(FR, Direction::Read)
    };
    assert_eq!(port.access(&page, double), Err(NoAccess));
    let clear = access(ICR, Direction::Read);
    assert_eq!(port.access(&page, clear), Err(NoAccess));
    assert_eq!(read(&mut port, &page, 0xfe0), 0);
}

proptest! {
    /// Nothing is lost, doubled or invented, however reads and writes of both sides mix.
    #[test]
    fn bytes_come_out_as_they_went_in(start: u32, steps in prop::collection::vec((0..4u8, any::<u8>()), 0..600)) {
        let (mut port, page) = (Vpl011::default(), Page::starting_at(start));
        let (mut to_guest, mut from_guest) = (VecDeque::new(), Vec::new());
        for (step, byte) in steps {
            match step {
                0 => {
                    if page.feed(byte) {
                        to_guest.push_back(byte);
                    }
                }
                1 => {
                    let empty = read(&mut port, &page, FR) & fr::RX_EMPTY != 0;
                    let value = read(&mut port, &page, DR);
                    prop_assert_eq!(to_guest.pop_front(), (!empty).then_some(value as u8));
                }
                2 => {
                    write(&mut port, &page, DR, byte.into());
                    from_guest.push(byte);
                }
                _ => prop_assert_eq!(page.drain(), core::mem::take(&mut from_guest)),
            }
        }
    }

    /// Whatever the other side writes into the indices, the port answers.
    #[test]
    fn indices_that_cannot_be_do_no_harm(indices: [u32; 4], offset in 0..0x1000u32, value: u64) {
        let (mut port, page) = (Vpl011::default(), Page::starting_at(0));
        for (cell, value) in page.indices.iter().zip(indices) {
            cell.set(value);
        }
        for direction in [Direction::Read, Direction::Write(value)] {
            let _ = port.access(&page, access(offset, direction));
        }
        prop_assert!(level(&page, Queue::Out).is_none_or(|level| level <= 2048));
    }
}
