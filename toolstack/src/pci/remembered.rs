//! Which driver a function had before it left the control domain.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use super::Sbdf;

/// A folder with a file for each function.
#[derive(Debug)]
pub struct Remembered {
    folder: PathBuf,
    /// Held until all is done: one changes the list at a time.
    _lock: File,
}

impl Remembered {
    /// The folder, made if it is not there. Waits while another has it.
    ///
    /// # Errors
    /// The system's.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(folder.join("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    fn file(&self, function: Sbdf) -> PathBuf {
        self.folder.join(function.to_string())
    }

    /// The driver that a function had.
    ///
    /// # Errors
    /// The system's.
    pub fn get(&self, function: Sbdf) -> io::Result<Option<String>> {
        match fs::read_to_string(self.file(function)) {
            Ok(driver) => Ok(Some(driver).filter(|driver| !driver.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Notes the driver that it has.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, function: Sbdf, driver: &str) -> io::Result<()> {
        fs::write(self.file(function), driver)
    }

    /// Forgets it.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self, function: Sbdf) -> io::Result<()> {
        match fs::remove_file(self.file(function)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
