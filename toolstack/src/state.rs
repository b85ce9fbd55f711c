//! What is known of guests beside what the hypervisor knows: names, configurations, who watches them.
//!
//! Each guest that `xrs` makes has a folder `guests/NAME` below [`ROOT`], with
//!
//! - `record.json`: its [`Record`],
//! - `lock`: locked by whoever takes care of the guest, `xrs create` while it makes it and then its
//!   monitor. The lock goes with the process, however that ends,
//! - `console.sock`, `vuart.sock`: its consoles, served by the monitor,
//! - `seized`: the functions that were taken from the control domain for it
//!   ([`crate::pci::Seized`]),
//! - `end`: there once somebody wants it destroyed, so that it does not start again.
//!
//! `pci` has the drivers of assignable functions ([`crate::pci::Remembered`]).
//!
//! A folder whose lock is free has been left behind: [`State::heal`] tells what to do with it. The lock
//! of the whole is held while folders are made or judged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use crate::config::{GuestConfig, GuestName};
use crate::guest::Channel;
use crate::hypervisor::DomainInfo;
use crate::pci::Seized;

/// Where it all is; gone after a boot, as guests are.
pub const ROOT: &str = "/run/xen-rs";

/// Why the folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// A file cannot be read, written or made.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// There is a guest of that name.
    #[error("there is a guest named {0} already")]
    NameTaken(GuestName),
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_path_buf();
    move |error| StateError::File { path, error }
}

/// How far a guest is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It is being made: without who makes it, it goes.
    Building,
    /// It is made and was not started: without who makes it, it goes.
    Built(Channels),
    /// It was started, and has a monitor.
    Watched(Channels),
}

/// Where a guest's consoles are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Channels {
    /// Its console.
    pub console: Channel,
    /// Its virtual UART.
    pub vuart: Option<Channel>,
}

/// What is known of a guest.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its identity, by which its domain is known.
    pub uuid: Uuid,
    /// How far it is.
    pub phase: Phase,
    /// What it is to be.
    pub config: GuestConfig,
}

/// The folder of all guests.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self::at(ROOT)
    }
}

/// A guest's folder, and the lock by which one takes care of the guest.
#[derive(Debug)]
pub struct Care {
    folder: PathBuf,
    lock: File,
}

/// What heals a guest that nobody takes care of.
#[derive(Debug)]
pub enum Remedy {
    /// Nothing is left but its folder, which is to be removed.
    Forgotten(Care, GuestName),
    /// Its domain was never finished: it is to be destroyed, then its folder removed.
    Destroy(Care, DomainInfo),
    /// It lives, and needs a monitor.
    Watch(Care, Box<Record>),
}

impl State {
    /// A folder elsewhere.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn guests(&self) -> PathBuf {
        self.root.join("guests")
    }

    /// The folder of what is known of PCI functions.
    pub fn functions(&self) -> PathBuf {
        self.root.join("pci")
    }

    /// The functions that were taken from the control domain for a guest.
    pub fn seized(&self, name: &GuestName) -> Seized {
        Seized::new(self.folder(name).join("seized"))
    }

    /// A guest's folder.
    pub fn folder(&self, name: &GuestName) -> PathBuf {
        self.guests().join(name.as_str())
    }

    /// Holds the lock of the whole until the file is dropped.
    fn lock(&self) -> Result<File, StateError> {
        let guests = self.guests();
        fs::create_dir_all(&guests).map_err(at(&guests))?;
        let path = self.root.join("lock");
        let file = open_lock(&path)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| at(&path)(error.into()))?;
        Ok(file)
    }

    /// Takes a name for a guest that is to be made, and takes care of it.
    ///
    /// # Errors
    /// [`StateError::NameTaken`].
    pub fn claim(&self, config: &GuestConfig, uuid: Uuid) -> Result<Care, StateError> {
        let _whole = self.lock()?;
        let folder = self.folder(&config.name);
        match fs::create_dir(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(StateError::NameTaken(config.name.clone()));
            }
            Err(error) => return Err(at(&folder)(error)),
        }
        let lock = open_lock(&folder.join("lock"))?;
        let care = Care { folder, lock };
        care.try_lock()?;
        care.write(&Record {
            uuid,
            phase: Phase::Building,
            config: config.clone(),
        })?;
        Ok(care)
    }

    /// The guest is not to start again, however it ends. Returns whether there is one of that name.
    pub fn end(&self, name: &GuestName) -> bool {
        File::create(self.folder(name).join(END)).is_ok()
    }

    /// All records that can be read, by name.
    pub fn records(&self) -> Vec<Record> {
        let entries = fs::read_dir(self.guests()).into_iter().flatten().flatten();
        let mut records: Vec<Record> = entries.filter_map(|entry| read(&entry.path())).collect();
        records.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        records
    }

    /// Takes care of the guests that nobody takes care of; `domains` are all that there are.
    ///
    /// # Errors
    /// If the folder cannot be used.
    pub fn heal(&self, domains: &[DomainInfo]) -> Result<Vec<Remedy>, StateError> {
        let _whole = self.lock()?;
        let guests = self.guests();
        let mut remedies = Vec::new();
        for entry in fs::read_dir(&guests).map_err(at(&guests))?.flatten() {
            let folder = entry.path();
            let name = entry.file_name().into_string().ok();
            let Some(name) = name.and_then(|name| GuestName::new(&name).ok()) else {
                continue;
            };
            let lock = open_lock(&folder.join("lock"))?;
            let care = Care { folder, lock };
            if !care.try_lock()? {
                continue;
            }
            let record = read(&care.folder);
            let domain = record
                .as_ref()
                .and_then(|record| domains.iter().find(|domain| domain.uuid == record.uuid));
            remedies.push(match (record, domain) {
                (Some(record), Some(domain)) => match record.phase {
                    Phase::Building | Phase::Built(_) => Remedy::Destroy(care, domain.clone()),
                    Phase::Watched(_) => Remedy::Watch(care, Box::new(record)),
                },
                _ => Remedy::Forgotten(care, name),
            });
        }
        Ok(remedies)
    }
}

/// The file in a guest's folder that says that it is not to start again.
const END: &str = "end";

fn open_lock(path: &Path) -> Result<File, StateError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).map_err(at(path))
}

fn read(folder: &Path) -> Option<Record> {
    let text = fs::read(folder.join("record.json")).ok()?;
    serde_json::from_slice(&text).ok()
}

impl Care {
    /// What the monitor gets: the folder, and the lock, which is held already.
    pub fn of_monitor(folder: PathBuf, lock: File) -> Self {
        Self { folder, lock }
    }

    /// Locks it unless another has; false if so.
    fn try_lock(&self) -> Result<bool, StateError> {
        match rustix::fs::flock(&self.lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(error) => Err(at(&self.folder.join("lock"))(error.into())),
        }
    }

    /// The guest's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The lock, for another process to hold as well.
    ///
    /// # Errors
    /// The system's.
    pub fn share(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Whether the guest is not to start again ([`State::end`]).
    pub fn is_to_end(&self) -> bool {
        self.folder.join(END).exists()
    }

    /// The functions that were taken from the control domain for it.
    pub fn seized(&self) -> Seized {
        Seized::new(self.folder.join("seized"))
    }

    /// The guest's record.
    pub fn record(&self) -> Option<Record> {
        read(&self.folder)
    }

    /// Replaces the record, in one step.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, record: &Record) -> Result<(), StateError> {
        let path = self.folder.join("record.json");
        let new = self.folder.join("record.new");
        let text = serde_json::to_vec_pretty(record).map_err(|error| at(&path)(error.into()))?;
        fs::write(&new, text).map_err(at(&new))?;
        fs::rename(&new, &path).map_err(at(&path))
    }

    /// Removes the guest's folder, and with it its name.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn remove(self) -> Result<(), StateError> {
        fs::remove_dir_all(&self.folder).map_err(at(&self.folder))
    }
}

#[cfg(test)]
mod tests {
    use xen_abi::DomId;

    use super::*;
    use crate::config::{Source, load_text};

    fn config(name: &str) -> GuestConfig {
        let text = format!("name = '{name}'\nkernel = '/Image'\nmemory = 64");
        load_text(&Source::new("g", text), Path::new("/"))
            .unwrap()
            .config
    }

    fn domain(uuid: Uuid) -> DomainInfo {
        DomainInfo {
            id: DomId::new(1),
            uuid,
            memory_kib: 0,
            max_memory_kib: 0,
            online_vcpus: 1,
            vcpus: 1,
            cpu_time: 0,
            address_bits: 40,
            running: false,
            blocked: false,
            paused: true,
            dying: false,
            ended: None,
        }
    }

    #[test]
    fn a_name_is_taken_once_and_free_again() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path());
        let care = state.claim(&config("one"), Uuid::from_u128(1)).unwrap();
        let again = state.claim(&config("one"), Uuid::from_u128(2));
        assert!(matches!(again, Err(StateError::NameTaken(_))), "{again:?}");
        assert_eq!(state.records().len(), 1);
        care.remove().unwrap();
        assert_eq!(state.records().len(), 0);
        state.claim(&config("one"), Uuid::from_u128(2)).unwrap();
    }

    #[test]
    fn a_guest_that_is_there_can_be_told_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path());
        let config = config("one");
        assert!(!state.end(&config.name));
        let care = state.claim(&config, Uuid::from_u128(1)).unwrap();
        assert!(!care.is_to_end());
        assert!(state.end(&config.name));
        assert!(care.is_to_end());
        care.remove().unwrap();
        let care = state.claim(&config, Uuid::from_u128(2)).unwrap();
        assert!(!care.is_to_end());
    }

    #[test]
    fn what_a_dead_process_left_is_healed() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::at(folder.path());
        let uuid = Uuid::from_u128;
        let alive = state.claim(&config("alive"), uuid(1)).unwrap();
        drop(state.claim(&config("half"), uuid(2)).unwrap());
        drop(state.claim(&config("never"), uuid(3)).unwrap());
        let care = state.claim(&config("made"), uuid(4)).unwrap();
        let mut record = care.record().unwrap();
        record.phase = Phase::Watched(Channels {
            console: Channel {
                frame: 0x39000,
                port: 1,
            },
            vuart: None,
        });
        care.write(&record).unwrap();
        drop(care);
        let domains = [domain(uuid(1)), domain(uuid(2)), domain(uuid(4))];
        let remedies = state.heal(&domains).unwrap();
        assert_eq!(remedies.len(), 3, "{remedies:?}");
        let mut others = Vec::new();
        for remedy in remedies {
            match remedy {
                Remedy::Forgotten(care, name) => {
                    assert_eq!(name.as_str(), "never");
                    care.remove().unwrap();
                }
                Remedy::Destroy(care, domain) => {
                    assert_eq!(domain.uuid, uuid(2));
                    others.push(care);
                }
                Remedy::Watch(care, found) => {
                    assert_eq!(*found, record);
                    others.push(care);
                }
            }
        }
        // While someone takes care of them, nobody else does.
        assert_eq!(state.heal(&domains).unwrap().len(), 0);
        drop(others);
        assert_eq!(state.heal(&domains).unwrap().len(), 2);
        drop(alive);
    }
}
