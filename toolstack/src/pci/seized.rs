//! Functions that were taken from the control domain's drivers for one guest, and go back to them when
//! it ends.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::Sbdf;

/// A folder with a file for each.
#[derive(Clone, Debug)]
pub struct Seized {
    folder: PathBuf,
}

impl Seized {
    /// Those that the folder has, which need not be there.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// No functions, and none can be added.
    pub fn none() -> Self {
        Self::new("/dev/null".into())
    }

    /// Whether a function is among them.
    pub fn has(&self, function: Sbdf) -> bool {
        self.folder.join(function.to_string()).exists()
    }

    /// All of them, in order; files of other names are none.
    ///
    /// # Errors
    /// The system's.
    pub fn all(&self) -> io::Result<Vec<Sbdf>> {
        let mut all = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if is_absent(&error) => return Ok(all),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            all.extend(name.to_str().and_then(|name| name.parse::<Sbdf>().ok()));
        }
        all.sort();
        Ok(all)
    }

    /// Notes that a function is taken.
    ///
    /// # Errors
    /// The system's.
    pub fn put(&self, function: Sbdf) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        fs::write(self.folder.join(function.to_string()), "")
    }

    /// It has gone back.
    ///
    /// # Errors
    /// The system's.
    pub fn forget(&self, function: Sbdf) -> io::Result<()> {
        match fs::remove_file(self.folder.join(function.to_string())) {
            Err(error) if !is_absent(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether there is no such file, or no folder that could have it.
fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}
