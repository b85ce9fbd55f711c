//! QEMU's command line from what one wants of a machine.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::board::{Board, GicVersion, Memory};

/// A machine, as QEMU is to simulate it. Its fields start with what most boots want.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The board.
    pub board: Board,
    /// The interrupt controller (virt only).
    pub gic: GicVersion,
    /// The CPU model (virt only).
    pub cpu: String,
    /// The number of CPUs.
    pub cpus: u32,
    /// The amount of RAM.
    pub memory: Memory,
    /// The CPUs have EL2 (virt only).
    pub virtualization: bool,
    /// The CPUs have EL3 and there is secure memory (virt only).
    pub secure: bool,
    /// The SMMUv3 in front of PCI, by the stage that it has (virt only).
    pub smmu: Option<SmmuStage>,
    /// What runs first.
    pub start: Start,
    /// The device tree that QEMU hands over, instead of its own.
    pub dtb: Option<PathBuf>,
    /// The command line, for [`Start::Kernel`].
    pub append: Option<String>,
    /// Files that are in RAM from the start, with their addresses.
    pub loads: Vec<(PathBuf, u64)>,
    /// Further arguments.
    pub extra: Vec<OsString>,
}

/// What an SMMUv3 can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmmuStage {
    /// Stage 1 only.
    First,
    /// Stage 2 as well.
    Second,
}

/// What runs first.
#[derive(Clone, Debug)]
pub enum Start {
    /// An arm64 `Image`, by its boot protocol (`-kernel`).
    Kernel(PathBuf),
    /// Firmware at the reset vector (`-bios`).
    Firmware(PathBuf),
}

/// Where the console goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// A person's terminal: Ctrl-a x leaves QEMU, Ctrl-a c is its monitor.
    Terminal,
    /// Plain standard input and output.
    Pipe,
}

impl Machine {
    /// The virt board with EL2, GICv3, four Cortex-A72 and 4 GiB.
    #[must_use]
    pub fn virt(start: Start) -> Self {
        Self::board(Board::Virt, start)
    }

    /// A board as it is when nothing is asked for.
    #[must_use]
    pub fn board(board: Board, start: Start) -> Self {
        Self {
            board,
            gic: GicVersion::V3,
            cpu: "cortex-a72".to_string(),
            cpus: 4,
            memory: board.default_memory(),
            virtualization: true,
            secure: false,
            smmu: None,
            start,
            dtb: None,
            append: None,
            loads: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// Checks what QEMU would refuse, or would not notice.
    ///
    /// # Errors
    /// If the board cannot be had like this; the message says what can.
    pub fn check(&self) -> Result<()> {
        let most = self.board.most_cpus(self.gic);
        ensure!(self.cpus > 0, "a machine has at least one CPU");
        ensure!(
            self.cpus <= most,
            "{} CPUs are too many: {} takes at most {most}{}",
            self.cpus,
            self.board,
            if self.board == Board::Virt {
                format!(" with GICv{}", self.gic)
            } else {
                String::new()
            }
        );
        if self.board == Board::Raspi4b {
            ensure!(
                self.memory == Memory::gib(2),
                "QEMU's raspi4b has exactly 2G of memory"
            );
            ensure!(self.cpus == 4, "QEMU's raspi4b has exactly 4 CPUs");
        }
        if self.board == Board::Imx8mpEvk {
            ensure!(
                self.memory <= Memory::gib(8),
                "imx8mp-evk takes at most 8G of memory"
            );
        }
        if self.board != Board::Virt {
            ensure!(self.dtb.is_some(), "{} needs its device tree", self.board);
        }
        Ok(())
    }

    /// The command that starts the machine.
    #[must_use]
    pub fn command(&self, console: Console) -> Command {
        let mut qemu = Command::new("qemu-system-aarch64");
        qemu.arg("-machine").arg(self.machine_option());
        if self.board == Board::Virt {
            qemu.args(["-cpu", &self.cpu]);
        }
        qemu.args([
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &self.memory.to_string(),
        ]);
        qemu.args(["-display", "none", "-nic", "none", "-no-reboot"]);
        for _ in 0..self.board.console_port() {
            qemu.args(["-serial", "null"]);
        }
        match console {
            Console::Terminal => qemu.args(["-serial", "mon:stdio"]),
            Console::Pipe => qemu.args(["-serial", "stdio", "-monitor", "none"]),
        };
        match &self.start {
            Start::Kernel(image) => qemu.arg("-kernel").arg(image),
            Start::Firmware(firmware) => qemu.arg("-bios").arg(firmware),
        };
        if let Some(dtb) = &self.dtb {
            qemu.arg("-dtb").arg(dtb);
        }
        if let Some(append) = &self.append {
            qemu.args(["-append", append]);
        }
        for (file, address) in &self.loads {
            qemu.arg("-device").arg(loader_option(file, *address));
        }
        qemu.args(&self.extra);
        qemu
    }

    fn machine_option(&self) -> String {
        if self.board != Board::Virt {
            return self.board.to_string();
        }
        // The board got its SMMU's second stage with 9.1.
        let board = match self.smmu {
            Some(SmmuStage::First) => "virt-9.0",
            _ => "virt",
        };
        let mut option = format!("{board},gic-version={}", self.gic);
        for (name, on) in [
            ("virtualization", self.virtualization),
            ("secure", self.secure),
        ] {
            if on {
                option += &format!(",{name}=on");
            }
        }
        if self.smmu.is_some() {
            option += ",iommu=smmuv3";
        }
        option
    }
}

fn loader_option(file: &Path, address: u64) -> OsString {
    let mut option = OsString::from("loader,file=");
    option.push(file);
    option.push(format!(",addr={address:#x},force-raw=on"));
    option
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::describe;

    fn virt() -> Machine {
        Machine::virt(Start::Kernel("image".into()))
    }

    #[test]
    fn the_plain_machine() {
        assert_eq!(
            describe(&virt().command(Console::Terminal)),
            "qemu-system-aarch64 -machine virt,gic-version=3,virtualization=on -cpu cortex-a72 \
             -smp 4 -m 4G -display none -nic none -no-reboot -serial mon:stdio -kernel image"
        );
    }

    #[test]
    fn a_machine_with_everything() {
        let machine = Machine {
            gic: GicVersion::V2,
            secure: true,
            smmu: Some(SmmuStage::Second),
            start: Start::Firmware("stub".into()),
            append: Some("loglvl=all".into()),
            loads: vec![("image".into(), 0x1_8000_0000)],
            ..virt()
        };
        let line = describe(&machine.command(Console::Pipe));
        assert!(
            line.contains("virt,gic-version=2,virtualization=on,secure=on,iommu=smmuv3"),
            "{line}"
        );
        assert!(
            line.contains("-serial stdio -monitor none -bios stub -append loglvl=all"),
            "{line}"
        );
        assert!(
            line.ends_with("loader,file=image,addr=0x180000000,force-raw=on"),
            "{line}"
        );
    }

    #[test]
    fn a_board_whose_console_is_its_second_port() {
        let machine = Machine {
            dtb: Some("board.dtb".into()),
            ..Machine::board(Board::Raspi4b, Start::Kernel("image".into()))
        };
        machine.check().unwrap();
        assert_eq!(
            describe(&machine.command(Console::Pipe)),
            "qemu-system-aarch64 -machine raspi4b -smp 4 -m 2G -display none -nic none -no-reboot \
             -serial null -serial stdio -monitor none -kernel image -dtb board.dtb"
        );
    }

    #[test]
    fn what_a_board_cannot_have_is_refused() {
        let error = |machine: Machine| machine.check().unwrap_err().to_string();
        assert_eq!(
            error(Machine {
                gic: GicVersion::V2,
                cpus: 9,
                ..virt()
            }),
            "9 CPUs are too many: virt takes at most 8 with GICv2"
        );
        assert_eq!(
            error(Machine { cpus: 0, ..virt() }),
            "a machine has at least one CPU"
        );
        let raspi = Machine::board(Board::Raspi4b, Start::Kernel("image".into()));
        assert!(error(raspi.clone()).contains("needs its device tree"));
        assert!(
            error(Machine {
                memory: Memory::gib(4),
                ..raspi
            })
            .contains("exactly 2G")
        );
        assert!(
            Machine {
                cpus: 512,
                ..virt()
            }
            .check()
            .is_ok()
        );
    }
}
