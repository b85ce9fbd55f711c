//! Linux's drivers of functions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Sbdf;

/// What Linux does with drivers.
pub trait Drivers {
    /// The driver of a function; `None` if it has none, or Linux does not know the function.
    ///
    /// # Errors
    /// The system's.
    fn driver(&self, function: Sbdf) -> io::Result<Option<String>>;

    /// Has the driver let go of a function.
    ///
    /// # Errors
    /// The system's, or that it does not.
    fn unbind(&self, function: Sbdf, driver: &str) -> io::Result<()>;

    /// Gives a function to a driver.
    ///
    /// # Errors
    /// The system's: the driver does not take it, or there is no such driver any more.
    fn bind(&self, function: Sbdf, driver: &str) -> io::Result<()>;

    /// Has Linux look for a function that it does not know.
    ///
    /// # Errors
    /// The system's.
    fn look_for(&self, function: Sbdf) -> io::Result<()>;
}

/// Drivers by way of sysfs.
#[derive(Clone, Debug)]
pub struct Sysfs {
    /// `/sys/bus/pci`
    bus: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Self {
        Self {
            bus: "/sys/bus/pci".into(),
        }
    }
}

impl Sysfs {
    fn device(&self, function: Sbdf) -> PathBuf {
        self.bus.join("devices").join(function.to_string())
    }
}

/// Writes to a file of sysfs, which is there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    use io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

impl Drivers for Sysfs {
    fn driver(&self, function: Sbdf) -> io::Result<Option<String>> {
        match fs::read_link(self.device(function).join("driver")) {
            Ok(driver) => {
                let name = driver.file_name().and_then(|name| name.to_str());
                Ok(name.map(str::to_string))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unbind(&self, function: Sbdf, driver: &str) -> io::Result<()> {
        let driver = self.bus.join("drivers").join(driver);
        write(&driver.join("unbind"), &function.to_string())?;
        match self.driver(function)? {
            None => Ok(()),
            Some(still) => Err(io::Error::other(format!("{still} does not let go of it"))),
        }
    }

    fn bind(&self, function: Sbdf, driver: &str) -> io::Result<()> {
        let driver = self.bus.join("drivers").join(driver);
        write(&driver.join("bind"), &function.to_string())
    }

    fn look_for(&self, function: Sbdf) -> io::Result<()> {
        match self.device(function).exists() {
            true => Ok(()),
            false => write(&self.bus.join("rescan"), "1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sysfs_has_drivers_as_links_and_takes_names() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = Sysfs {
            bus: root.path().into(),
        };
        let function: Sbdf = "00:01.0".parse().unwrap();
        assert_eq!(sysfs.driver(function).unwrap(), None);
        let (driver, device) = (
            root.path().join("drivers/e1000e"),
            root.path().join("devices/0000:00:01.0"),
        );
        fs::create_dir_all(&driver).unwrap();
        fs::create_dir_all(&device).unwrap();
        for file in ["bind", "unbind"] {
            fs::write(driver.join(file), "").unwrap();
        }
        symlink("../../drivers/e1000e", device.join("driver")).unwrap();
        assert_eq!(sysfs.driver(function).unwrap().as_deref(), Some("e1000e"));
        // Files that do nothing: the driver stays, and that is seen.
        let error = sysfs.unbind(function, "e1000e").unwrap_err();
        assert_eq!(error.to_string(), "e1000e does not let go of it");
        let written = fs::read_to_string(driver.join("unbind")).unwrap();
        assert_eq!(written, "0000:00:01.0");
        sysfs.bind(function, "e1000e").unwrap();
        assert!(sysfs.bind(function, "gone").is_err());
        // Linux looks only for what it does not know.
        sysfs.look_for(function).unwrap();
        assert!(sysfs.look_for("00:02.0".parse().unwrap()).is_err());
    }
}
