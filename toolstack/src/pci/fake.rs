//! Linux and a card, for tests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;

use super::{Drivers, Sbdf};
use crate::hypervisor::{FunctionInfo, FunctionState};

/// A network card that the control domain has, alone in its group.
pub fn card(function: Sbdf) -> FunctionInfo {
    FunctionInfo {
        function,
        state: FunctionState::Dom0,
        domain: None,
        guest: None,
        group: function,
        vendor: 0x8086,
        device: 0x10d3,
        class: 0x02_0000,
        reset: Some("FLR".into()),
        reason: None,
    }
}

/// Linux with one driver for all.
#[derive(Default)]
pub struct Linux {
    pub bound: RefCell<BTreeMap<Sbdf, String>>,
    /// What `unbind` and `bind` come to.
    pub keeps: Cell<bool>,
    pub rejects: Cell<bool>,
    pub looked: Cell<u32>,
}

impl Drivers for Linux {
    fn driver(&self, function: Sbdf) -> io::Result<Option<String>> {
        Ok(self.bound.borrow().get(&function).cloned())
    }

    fn unbind(&self, function: Sbdf, driver: &str) -> io::Result<()> {
        if self.keeps.get() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let had = self.bound.borrow_mut().remove(&function);
        assert_eq!(had.as_deref(), Some(driver));
        Ok(())
    }

    fn bind(&self, function: Sbdf, driver: &str) -> io::Result<()> {
        if self.rejects.get() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let had = self.bound.borrow_mut().insert(function, driver.into());
        assert_eq!(had, None, "bound twice");
        Ok(())
    }

    fn look_for(&self, _function: Sbdf) -> io::Result<()> {
        self.looked.set(self.looked.get() + 1);
        Ok(())
    }
}
