//! The lock of data that interrupt handlers use too.
//!
//! Masks IRQs of this CPU while it is held, so that a handler cannot wait for what it interrupted.
//! Lock order is written down in `xen-core` and, of PCI's, in `pci`; no two others of today's locks are
//! ever held together but any lock and, last, the console's. Of two that are held together the one
//! that was taken last is opened first: each restores the mask as it found it.

use core::ops::{Deref, DerefMut};

use spin::mutex::{SpinMutex, SpinMutexGuard};

use crate::arch::barrier;
use crate::arch::interrupts::{self, Masked};

/// While waiting: tell the CPU so.
#[derive(Debug)]
struct Yield;

impl spin::RelaxStrategy for Yield {
    fn relax() {
        barrier::yield_hint();
    }
}

/// A spin lock that masks IRQs while it is held.
pub struct IrqLock<T>(SpinMutex<T, Yield>);

impl<T> IrqLock<T> {
    /// An open lock.
    pub const fn new(value: T) -> Self {
        Self(SpinMutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let masked = interrupts::mask();
        Guard {
            value: self.0.lock(),
            _masked: masked,
        }
    }

    /// The lock, if it can be had within `tries` looks: for reports of a CPU that may have died
    /// holding it.
    pub fn lock_within(&self, tries: usize) -> Option<Guard<'_, T>> {
        let masked = interrupts::mask();
        for _ in 0..tries {
            if let Some(value) = self.0.try_lock() {
                return Some(Guard {
                    value,
                    _masked: masked,
                });
            }
            barrier::yield_hint();
        }
        None
    }

    /// Opens the lock over the head of whoever holds it.
    ///
    /// # Safety
    /// The holder must never run again (all other CPUs are stopped, and this one does not return).
    pub unsafe fn break_open(&self) {
        // SAFETY: the caller says that no guard will be used or dropped any more.
        unsafe { self.0.force_unlock() }
    }
}

/// The held lock. Fields drop in order: first the lock opens, then the mask is restored.
pub struct Guard<'a, T> {
    value: SpinMutexGuard<'a, T, Yield>,
    _masked: Masked,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}
