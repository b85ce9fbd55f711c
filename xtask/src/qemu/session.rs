//! A running machine whose console one reads and types at.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use regex::Regex;

use super::machine::{Console, Machine};

/// Whether the console is also shown on this terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// Only the log file has it.
    No,
    /// It is shown as it comes.
    Yes,
}

/// A machine that runs until it is dropped. All that it printed is in its log file.
pub struct Session {
    qemu: Child,
    output: Receiver<Vec<u8>>,
    log: File,
    log_path: PathBuf,
    echo: Echo,
    /// What was read and not looked at yet.
    pending: String,
    /// What must not be printed.
    forbidden: Vec<Regex>,
    /// Lines that were looked at, for messages.
    seen: Vec<String>,
    deadline: Instant,
}

/// How a line ends is what tells it from one that still comes.
const LINE_END: char = '\n';
/// Lines that an error shows.
const LAST_LINES: usize = 25;

impl Session {
    /// Starts the machine. It has `time` for everything; its console is logged to `log`.
    ///
    /// # Errors
    /// If the machine cannot be had, or QEMU cannot be started.
    pub fn start(machine: &Machine, log: &Path, echo: Echo, time: Duration) -> Result<Self> {
        machine.check()?;
        let command = machine.command(Console::Pipe);
        let mut session = Self::spawn(command, log, echo, time)?;
        session.note(&format!(
            "$ {}\n",
            crate::process::describe(&machine.command(Console::Pipe))
        ))?;
        Ok(session)
    }

    fn spawn(mut command: Command, log: &Path, echo: Echo, time: Duration) -> Result<Self> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let log_file =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let (reader, writer) = std::io::pipe()?;
        command
            .stdin(Stdio::piped())
            .stderr(writer.try_clone()?)
            .stdout(writer);
        let qemu = command
            .spawn()
            .context("cannot start qemu-system-aarch64")?;
        // The command holds write ends of the pipe, which must end with QEMU.
        drop(command);
        Ok(Self {
            qemu,
            output: read_in_background(reader),
            log: log_file,
            log_path: log.to_path_buf(),
            echo,
            pending: String::new(),
            forbidden: Vec::new(),
            seen: Vec::new(),
            deadline: Instant::now() + time,
        })
    }

    /// From now on a line that matches one of the patterns is an error wherever it comes.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn forbid(&mut self, patterns: &[&str]) -> Result<()> {
        for pattern in patterns {
            self.forbidden.push(Regex::new(pattern)?);
        }
        Ok(())
    }

    /// Waits for a line that matches, and returns its groups: the whole match first.
    ///
    /// # Errors
    /// If the time is over, QEMU ends, or a forbidden line comes first.
    pub fn expect(&mut self, pattern: &str) -> Result<Vec<String>> {
        let regex = Regex::new(pattern)?;
        loop {
            while let Some(line) = self.next_line() {
                if let Some(groups) = groups(&regex, &line) {
                    return Ok(groups);
                }
                self.refuse_forbidden(&line)?;
            }
            self.read_more()
                .with_context(|| self.story(&format!("waited for `{pattern}`")))?;
        }
    }

    /// Waits for a text that no line end follows, such as a prompt.
    ///
    /// # Errors
    /// As [`Session::expect`].
    pub fn expect_prompt(&mut self, prompt: &str) -> Result<()> {
        loop {
            if let Some(at) = self.pending.find(prompt) {
                let rest = self.pending.split_off(at + prompt.len());
                self.seen.extend(self.pending.lines().map(str::to_string));
                self.pending = rest;
                return Ok(());
            }
            self.read_more()
                .with_context(|| self.story(&format!("waited for `{prompt}`")))?;
        }
    }

    /// Waits for the console to be silent for `time`, and returns the lines that came before.
    /// QEMU may end meanwhile.
    ///
    /// # Errors
    /// If the time for everything is over, or a forbidden line comes.
    pub fn until_silent(&mut self, time: Duration) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            while let Some(line) = self.next_line() {
                self.refuse_forbidden(&line)?;
                lines.push(line);
            }
            match self.output.recv_timeout(time) {
                Ok(bytes) => self.take(&bytes)?,
                Err(_) => return Ok(lines),
            }
            if Instant::now() > self.deadline {
                bail!(self.story("waited for silence"));
            }
        }
    }

    /// Types at the console.
    ///
    /// # Errors
    /// If QEMU is gone.
    pub fn send(&mut self, text: &str) -> Result<()> {
        let stdin = self
            .qemu
            .stdin
            .as_mut()
            .context("QEMU has no standard input")?;
        stdin.write_all(text.as_bytes()).context("QEMU is gone")?;
        Ok(stdin.flush()?)
    }

    /// Waits for QEMU to end by itself.
    ///
    /// # Errors
    /// If the time is over, or a forbidden line comes.
    pub fn wait_end(&mut self) -> Result<()> {
        loop {
            while let Some(line) = self.next_line() {
                self.refuse_forbidden(&line)?;
            }
            match self.receive() {
                Ok(bytes) => self.take(&bytes)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => bail!(self.story("waited for QEMU to end")),
            }
        }
    }

    /// Finds a line that matches among those looked at so far, and returns its groups.
    ///
    /// # Errors
    /// If there is none.
    pub fn saw(&self, pattern: &str) -> Result<Vec<String>> {
        let regex = Regex::new(pattern)?;
        self.seen
            .iter()
            .find_map(|line| groups(&regex, line))
            .with_context(|| self.story(&format!("no line matches `{pattern}`")))
    }

    /// The lines that were looked at so far.
    #[must_use]
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    fn refuse_forbidden(&self, line: &str) -> Result<()> {
        match self.forbidden.iter().find(|regex| regex.is_match(line)) {
            Some(regex) => bail!(self.story(&format!("`{line}` matches the forbidden `{regex}`"))),
            None => Ok(()),
        }
    }

    /// The next complete line, without its end.
    fn next_line(&mut self) -> Option<String> {
        let end = self.pending.find(LINE_END)?;
        let rest = self.pending.split_off(end + LINE_END.len_utf8());
        let line = std::mem::replace(&mut self.pending, rest);
        let line = line.trim_end_matches(['\r', '\n']).to_string();
        self.seen.push(line.clone());
        Some(line)
    }

    fn read_more(&mut self) -> Result<()> {
        match self.receive() {
            Ok(bytes) => self.take(&bytes),
            Err(RecvTimeoutError::Timeout) => bail!("the time is over"),
            Err(RecvTimeoutError::Disconnected) => bail!("QEMU ended"),
        }
    }

    fn receive(&self) -> Result<Vec<u8>, RecvTimeoutError> {
        self.output
            .recv_timeout(self.deadline.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.note(&text)?;
        if self.echo == Echo::Yes {
            print!("{text}");
            std::io::stdout().flush()?;
        }
        self.pending += &text;
        Ok(())
    }

    fn note(&mut self, text: &str) -> Result<()> {
        Ok(self.log.write_all(text.as_bytes())?)
    }

    /// What happened, with the last lines and where the rest is.
    fn story(&self, what: &str) -> String {
        let last = self.seen.len().saturating_sub(LAST_LINES);
        let mut story = format!("{what}; the last lines were:\n");
        for line in &self.seen[last..] {
            story += &format!("  | {line}\n");
        }
        for line in self.pending.lines() {
            story += &format!("  | {line}\n");
        }
        story + &format!("log: {}", self.log_path.display())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        // What was printed and never waited for belongs in the log.
        while let Ok(bytes) = self.output.try_recv() {
            let _ = self.log.write_all(&bytes);
        }
    }
}

/// The whole match and the groups of a pattern in a line.
fn groups(regex: &Regex, line: &str) -> Option<Vec<String>> {
    let text = |group: Option<regex::Match>| group.map_or("", |found| found.as_str()).to_string();
    Some(regex.captures(line)?.iter().map(text).collect())
}

fn read_in_background(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if sender.send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session with a shell script in QEMU's place.
    fn script(text: &str) -> (Session, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", text]);
        let log = folder.path().join("logs/session.log");
        let session = Session::spawn(shell, &log, Echo::No, Duration::from_secs(20)).unwrap();
        (session, folder)
    }

    #[test]
    fn lines_are_matched_whole_and_in_order() {
        let (mut session, folder) = script(r"printf 'one 1'; sleep 0.1; printf '2\r\ntwo\n'");
        assert_eq!(session.expect(r"one (\d+)").unwrap(), ["one 12", "12"]);
        session.expect("^two$").unwrap();
        assert_eq!(session.seen(), ["one 12", "two"]);
        assert_eq!(session.saw("o.e").unwrap(), ["one"]);
        assert!(session.saw("three").is_err());
        session.wait_end().unwrap();
        drop(session);
        let log = std::fs::read_to_string(folder.path().join("logs/session.log")).unwrap();
        assert_eq!(log, "one 12\r\ntwo\n");
    }

    #[test]
    fn what_is_typed_arrives() {
        let (mut session, _folder) = script("printf '=> '; read line; echo got $line");
        session.expect_prompt("=> ").unwrap();
        session.send("booti\n").unwrap();
        session.expect("^got booti$").unwrap();
    }

    #[test]
    fn an_early_end_tells_the_last_lines_and_the_log() {
        let (mut session, _folder) = script("echo hello; echo 'cannot' >&2");
        let error = format!("{:#}", session.expect("ready").unwrap_err());
        for part in [
            "waited for `ready`",
            "| hello",
            "| cannot",
            "session.log",
            "QEMU ended",
        ] {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_forbidden_line_fails_at_once() {
        let (mut session, _folder) = script("echo a; echo '*** stopped'; sleep 100; echo ready");
        session.forbid(&[r"^\*\*\*"]).unwrap();
        let error = session.expect("ready").unwrap_err().to_string();
        assert!(
            error.starts_with("`*** stopped` matches the forbidden"),
            "{error}"
        );
    }

    #[test]
    fn the_time_is_limited() {
        let (mut session, _folder) = script("echo a; exec sleep 100");
        session.deadline = Instant::now() + Duration::from_millis(200);
        let error = format!("{:#}", session.expect("ready").unwrap_err());
        assert!(error.ends_with("the time is over"), "{error}");
    }

    #[test]
    fn silence_returns_what_came_before() {
        let (mut session, _folder) = script("echo a; echo b; exec sleep 100");
        assert_eq!(
            session.until_silent(Duration::from_millis(300)).unwrap(),
            ["a", "b"]
        );
    }
}
