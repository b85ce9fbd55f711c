//! QEMU's monitor (QMP): what memory really holds, whatever the machine's software says.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use xtask::qemu::Machine;

/// A machine's monitor.
pub struct Monitor {
    folder: TempDir,
    stream: Option<BufReader<UnixStream>>,
}

impl Monitor {
    /// Gives a machine a monitor.
    ///
    /// # Errors
    /// If there is no place for its socket.
    pub fn plug_into(machine: &mut Machine) -> Result<Self> {
        let monitor = Self {
            folder: tempfile::tempdir()?,
            stream: None,
        };
        let socket = monitor.socket();
        let option = format!("unix:{},server=on,wait=off", socket.display());
        machine.extra.extend(["-qmp".into(), option.into()]);
        Ok(monitor)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("monitor")
    }

    /// Bytes of the machine's memory. The machine runs.
    ///
    /// # Errors
    /// If QEMU does not answer, or refuses.
    pub fn memory(&mut self, address: u64, bytes: usize) -> Result<Vec<u8>> {
        let file = self.folder.path().join("memory");
        let arguments = format!(
            r#""val": {address}, "size": {bytes}, "filename": "{}""#,
            file.display()
        );
        self.execute("pmemsave", &arguments)?;
        Ok(fs::read(file)?)
    }

    fn execute(&mut self, command: &str, arguments: &str) -> Result<()> {
        if self.stream.is_none() {
            let socket = UnixStream::connect(self.socket()).context("QEMU has no monitor")?;
            let mut stream = BufReader::new(socket);
            // The greeting.
            stream.read_line(&mut String::new())?;
            call(&mut stream, "qmp_capabilities", "")?;
            self.stream = Some(stream);
        }
        let stream = self.stream.as_mut().context("no monitor")?;
        call(stream, command, arguments)
    }
}

/// Executes a command; events that come in between do not matter.
fn call(stream: &mut BufReader<UnixStream>, command: &str, arguments: &str) -> Result<()> {
    let request = format!("{{\"execute\": \"{command}\", \"arguments\": {{{arguments}}}}}\n");
    stream.get_mut().write_all(request.as_bytes())?;
    loop {
        let mut answer = String::new();
        ensure!(stream.read_line(&mut answer)? > 0, "QEMU ended");
        if answer.starts_with(r#"{"return""#) {
            return Ok(());
        }
        ensure!(!answer.starts_with(r#"{"error""#), "{command}: {answer}");
    }
}
