//! Resetting a function, so that nothing of who had it is left.
//!
//! A [`Reset`] is a sequence with pauses: [`Reset::step`] does what can be done now and says how long
//! nothing more can. The function gets back what the hypervisor has set up, and is left deaf and
//! mute: no decode, no bus mastering, no interrupts.

mod method;
mod saved;
mod slot;

use alloc::vec::Vec;
use core::time::Duration;

use thiserror::Error;

pub use self::method::{Method, behind, methods};
use self::saved::Saved;
use self::slot::Slot;
use crate::capability::express::{self, INITIATE_RESET};
use crate::capability::power::D3_HOT;
use crate::config::{ConfigAccess, Function, Register};
use crate::header::{self, BridgeControl, Command};
use crate::{Class, Device, HostSbdf};

/// Between power states (PCI Express Base 6.0, 5.9).
const POWER_DELAY: Duration = Duration::from_millis(10);
/// How long requests may take to come to their end, and how often that is looked at.
const DRAIN_TIME: Duration = Duration::from_secs(1);
const DRAIN_PAUSE: Duration = Duration::from_millis(10);
/// How long a bus is held in reset: at least a millisecond (PCI Express Base 6.0, 6.6.1).
const HOLD_TIME: Duration = Duration::from_millis(2);
/// How long a function needs before it may be asked (6.6.1 and 6.6.2).
const SETTLE_TIME: Duration = Duration::from_millis(100);
/// How long a function may say that it is not ready (as Linux waits), and the pauses between looks.
const READY_TIME: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a reset did not work. The function must not be given to anybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum ResetError {
    /// It was not there before the reset.
    #[error("{0} does not answer: was it removed?")]
    Gone(HostSbdf),
    /// It has not come back.
    #[error("{0} did not come back from its reset within {n} seconds", n = READY_TIME.as_secs())]
    NotReady(HostSbdf),
    /// It has kept what a reset clears.
    #[error("{0} was reset and kept its state: its reset does not work")]
    NoEffect(HostSbdf),
    /// Something else has come back.
    #[error("{0} is another function since its reset")]
    Changed(HostSbdf),
    /// It has no such way to be reset.
    #[error("{0} cannot be reset that way")]
    NoMethod(HostSbdf),
}

/// What a reset needs next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Progress {
    /// To be called again after this time.
    Wait(Duration),
    /// Nothing: it is over.
    Done,
}

/// A reset that is under way.
#[derive(Clone, Debug)]
pub struct Reset {
    method: Method,
    /// What is reset, bridges before what is behind them.
    saved: Vec<Saved>,
    state: State,
    /// Of each function, whether it had something that a reset clears.
    marked: Vec<bool>,
    /// The port of the bus that is reset, if something can be plugged in behind it.
    slot: Option<Slot>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Begin,
    /// On their way to D0 until then.
    Wake {
        until: Duration,
    },
    Drain {
        until: Duration,
    },
    /// In D3hot, or the bus held in reset, until then.
    Hold {
        until: Duration,
    },
    /// Nobody is asked before then.
    Settle {
        until: Duration,
    },
    /// Function `place` is waited for.
    Ready {
        place: usize,
        until: Duration,
        pause: Duration,
    },
    Done,
}

impl Reset {
    /// A reset of `devices` by `method`: one function, or all that is behind the bridge of a
    /// [`Method::SecondaryBus`], bridges before what is behind them. Nothing happens before the first
    /// step.
    pub fn new<'a, C: ConfigAccess + ?Sized>(
        config: &C,
        method: Method,
        devices: impl IntoIterator<Item = &'a Device>,
    ) -> Self {
        let devices = devices.into_iter();
        let saved: Vec<Saved> = devices.map(|device| Saved::read(config, device)).collect();
        Self {
            method,
            slot: Slot::find(config, method),
            marked: alloc::vec![false; saved.len()],
            saved,
            state: State::Begin,
        }
    }

    /// Goes on as far as possible at the time `now`.
    pub fn step<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        now: Duration,
    ) -> Result<Progress, ResetError> {
        loop {
            self.state = match self.state {
                State::Begin => self.wake(config, now)?,
                State::Wake { until } | State::Hold { until } | State::Settle { until }
                    if now < until =>
                {
                    return Ok(Progress::Wait(until.saturating_sub(now)));
                }
                State::Wake { .. } => self.quiesce(config, now),
                State::Drain { until } if now < until && self.has_pending(config) => {
                    return Ok(Progress::Wait(DRAIN_PAUSE));
                }
                State::Drain { .. } => self.trigger(config, now)?,
                State::Hold { .. } => self.release(config, now),
                State::Settle { .. } => {
                    if let Some(slot) = &self.slot {
                        slot.unmute(config);
                    }
                    State::waiting(0, now)
                }
                State::Ready {
                    place,
                    until,
                    pause,
                } => match self.ready(config, place)? {
                    true => self.next(place, now),
                    false if now < until => {
                        let longer = pause.saturating_mul(2).min(LONGEST_PAUSE);
                        self.state = State::Ready {
                            place,
                            until,
                            pause: longer,
                        };
                        return Ok(Progress::Wait(pause));
                    }
                    false => return Err(ResetError::NotReady(self.name(place))),
                },
                State::Done => return Ok(Progress::Done),
            };
        }
    }

    fn name(&self, place: usize) -> HostSbdf {
        let fallback = HostSbdf::new(0, crate::RequesterId::from_bits(0));
        self.saved.get(place).map_or(fallback, |saved| saved.sbdf)
    }

    /// Brings functions that sleep to D0, where all their registers work.
    fn wake<C: ConfigAccess + ?Sized>(
        &self,
        config: &C,
        now: Duration,
    ) -> Result<State, ResetError> {
        let mut slept = false;
        for saved in &self.saved {
            let function = Function::new(config, saved.sbdf);
            if is_gone(function) {
                return Err(ResetError::Gone(saved.sbdf));
            }
            if let Some(power) = saved.device().power
                && power.state(function) != 0
            {
                power.set_state(function, 0);
                slept = true;
            }
        }
        let pause = if slept { POWER_DELAY } else { Duration::ZERO };
        Ok(State::Wake {
            until: now.saturating_add(pause),
        })
    }

    /// Makes the functions deaf and mute.
    fn quiesce<C: ConfigAccess + ?Sized>(&mut self, config: &C, now: Duration) -> State {
        for (saved, marked) in self.saved.iter().zip(&mut self.marked) {
            let function = Function::new(config, saved.sbdf);
            quiesce(function, saved.device());
            *marked = has_state(function, saved.device());
        }
        State::Drain {
            until: now.saturating_add(DRAIN_TIME),
        }
    }

    fn has_pending<C: ConfigAccess + ?Sized>(&self, config: &C) -> bool {
        self.saved.iter().any(|saved| {
            let function = Function::new(config, saved.sbdf);
            let device = saved.device();
            let express = device.express;
            let features = device.advanced_features;
            express.is_some_and(|express| express.has_pending(function))
                || features.is_some_and(|features| features.has_pending(function))
        })
    }

    fn trigger<C: ConfigAccess + ?Sized>(
        &self,
        config: &C,
        now: Duration,
    ) -> Result<State, ResetError> {
        let missing = || ResetError::NoMethod(self.name(0));
        if let Method::SecondaryBus(bridge) = self.method {
            if let Some(slot) = &self.slot {
                slot.mute(config);
            }
            hold(Function::new(config, bridge), true);
            return Ok(State::Hold {
                until: now.saturating_add(HOLD_TIME),
            });
        }
        let saved = self.saved.first().ok_or_else(missing)?;
        let function = Function::new(config, saved.sbdf);
        let device = saved.device();
        match self.method {
            Method::FunctionLevel => {
                let express = device.express.ok_or_else(missing)?;
                let control = express.register(express::register::DEVICE_CONTROL);
                let control: Register<u16> = control.ok_or_else(missing)?;
                let before = function.read(control);
                function.write(control, before | INITIATE_RESET);
            }
            Method::AdvancedFeatures => {
                let features = device.advanced_features.ok_or_else(missing)?;
                features.reset(function);
            }
            Method::PowerState => {
                let power = device.power.ok_or_else(missing)?;
                power.set_state(function, D3_HOT);
                return Ok(State::Hold {
                    until: now.saturating_add(POWER_DELAY),
                });
            }
            Method::SecondaryBus(_) => {}
        }
        Ok(State::settling(now, SETTLE_TIME))
    }

    fn release<C: ConfigAccess + ?Sized>(&self, config: &C, now: Duration) -> State {
        match (self.method, self.saved.first()) {
            (Method::SecondaryBus(bridge), _) => {
                hold(Function::new(config, bridge), false);
                State::settling(now, SETTLE_TIME)
            }
            (_, Some(saved)) => {
                if let Some(power) = saved.device().power {
                    power.set_state(Function::new(config, saved.sbdf), 0);
                }
                State::settling(now, POWER_DELAY)
            }
            (_, None) => State::Done,
        }
    }

    /// Whether function `place` answers again; if it does, it gets back what it had.
    fn ready<C: ConfigAccess + ?Sized>(
        &self,
        config: &C,
        place: usize,
    ) -> Result<bool, ResetError> {
        let (Some(saved), Some(marked)) = (self.saved.get(place), self.marked.get(place)) else {
            return Ok(true);
        };
        let function = Function::new(config, saved.sbdf);
        if !answers(function, saved.device()) {
            return Ok(false);
        }
        if !is_same(function, saved.device()) {
            return Err(ResetError::Changed(saved.sbdf));
        }
        if *marked && has_state(function, saved.device()) {
            return Err(ResetError::NoEffect(saved.sbdf));
        }
        saved.restore(config);
        Ok(true)
    }

    fn next(&self, place: usize, now: Duration) -> State {
        match place.checked_add(1) {
            Some(next) if next < self.saved.len() => State::waiting(next, now),
            _ => State::Done,
        }
    }
}

impl State {
    fn settling(now: Duration, time: Duration) -> Self {
        Self::Settle {
            until: now.saturating_add(time),
        }
    }

    fn waiting(place: usize, now: Duration) -> Self {
        Self::Ready {
            place,
            until: now.saturating_add(READY_TIME),
            pause: FIRST_PAUSE,
        }
    }
}

fn is_gone<C: ConfigAccess + ?Sized>(function: Function<'_, C>) -> bool {
    function.read(header::COMMAND).bits() == u16::MAX
}

/// Whether the function answers requests. A virtual function's vendor id reads as ones (9.3.4.1.1).
fn answers<C: ConfigAccess + ?Sized>(function: Function<'_, C>, device: &Device) -> bool {
    let vendor = function.read(header::VENDOR_ID);
    let absent = vendor == header::NO_VENDOR && device.physical.is_none();
    !absent && vendor != header::NOT_READY_VENDOR && !is_gone(function)
}

fn is_same<C: ConfigAccess + ?Sized>(function: Function<'_, C>, device: &Device) -> bool {
    let class = Class::from_class_revision(function.read(header::CLASS_REVISION));
    let ids = || {
        function.read(header::VENDOR_ID) == device.vendor
            && function.read(header::DEVICE_ID) == device.device
    };
    class == device.class && (device.physical.is_some() || ids())
}

/// No requests, no answers, no interrupts.
pub fn quiesce<C: ConfigAccess + ?Sized>(function: Function<'_, C>, device: &Device) {
    if let Some(msi) = device.msi {
        msi.disable(function);
    }
    if let Some(msi_x) = device.msi_x {
        msi_x.disable(function);
    }
    function.write(header::COMMAND, Command::INTX_DISABLE);
}

/// Whether the function has something that a reset clears: INTx disabled, or a BAR with an address.
fn has_state<C: ConfigAccess + ?Sized>(function: Function<'_, C>, device: &Device) -> bool {
    let command = function.read(header::COMMAND);
    let placed = |(number, bar): (usize, &Option<crate::bar::Bar>)| {
        let register = header::bar(device.layout, number).filter(|_| bar.is_some());
        let kind = bar.map(|bar| bar.kind);
        let address = |bits: u32| kind.is_some_and(|kind| bits & !kind.flag_mask() != 0);
        register.is_some_and(|register| address(function.read(register)))
    };
    let own = device.physical.is_none();
    command.contains(Command::INTX_DISABLE) || own && device.bars.iter().enumerate().any(placed)
}

fn hold<C: ConfigAccess + ?Sized>(bridge: Function<'_, C>, reset: bool) {
    let mut control = bridge.read(header::BRIDGE_CONTROL);
    control.set(BridgeControl::SECONDARY_BUS_RESET, reset);
    bridge.write(header::BRIDGE_CONTROL, control);
}

#[cfg(test)]
mod tests;
