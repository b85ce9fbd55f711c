//! What this processor can do, read from its identification registers (Arm ARM D24.2).

use core::fmt;

use super::sysreg::read_sysreg;

/// The identification registers that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    midr: u64,
    pfr0: u64,
    dfr0: u64,
    isar0: u64,
    mmfr0: u64,
    mmfr1: u64,
    mmfr2: u64,
}

const fn field(register: u64, shift: u32) -> u64 {
    (register >> shift) & 0xf
}

/// A field that counts up from "absent" = 0, and reads 0xf for "absent" in some registers.
const fn at_least(register: u64, shift: u32, value: u64) -> bool {
    let found = field(register, shift);
    found >= value && found != 0xf
}

impl Features {
    /// Reads the registers of this CPU.
    pub fn detect() -> Self {
        Self {
            midr: read_sysreg!("midr_el1"),
            pfr0: read_sysreg!("id_aa64pfr0_el1"),
            dfr0: read_sysreg!("id_aa64dfr0_el1"),
            isar0: read_sysreg!("id_aa64isar0_el1"),
            mmfr0: read_sysreg!("id_aa64mmfr0_el1"),
            mmfr1: read_sysreg!("id_aa64mmfr1_el1"),
            mmfr2: read_sysreg!("id_aa64mmfr2_el1"),
        }
    }

    /// Bits of a physical address (`PARange`); 48 where the CPU has more, which needs FEAT_LPA.
    pub fn physical_address_bits(self) -> u32 {
        match field(self.mmfr0, 0) {
            0 => 32,
            1 => 36,
            2 => 40,
            3 => 42,
            4 => 44,
            _ => 48,
        }
    }

    /// Bits of a VMID (`VMIDBits`, FEAT_VMID16).
    pub fn vmid_bits(self) -> u32 {
        if at_least(self.mmfr1, 4, 2) { 16 } else { 8 }
    }

    /// FEAT_VHE: EL2 could run a host operating system. Not needed here.
    pub fn has_vhe(self) -> bool {
        at_least(self.mmfr1, 8, 1)
    }

    /// FEAT_LSE: atomic instructions in place of exclusive loops.
    pub fn has_lse(self) -> bool {
        at_least(self.isar0, 20, 2)
    }

    /// FEAT_XNX: execute-never for EL0 and EL1 apart in stage 2.
    pub fn has_xnx(self) -> bool {
        at_least(self.mmfr1, 28, 1)
    }

    /// FEAT_S2FWB: stage 2 can force write-back whatever the guest says.
    pub fn has_stage2_force_write_back(self) -> bool {
        at_least(self.mmfr2, 40, 1)
    }

    /// FEAT_BBM level 2: a block may be split or joined without a break.
    pub fn has_break_before_make_2(self) -> bool {
        at_least(self.mmfr2, 52, 2)
    }

    /// FEAT_HCX: `HCRX_EL2` exists.
    pub fn has_hcrx(self) -> bool {
        at_least(self.mmfr1, 40, 1)
    }

    /// FEAT_FGT: single registers and instructions can trap.
    pub fn has_fine_grained_traps(self) -> bool {
        at_least(self.mmfr0, 56, 1)
    }

    /// FEAT_PMUv3: counters of events (`PMUVer`).
    pub fn has_performance_monitors(self) -> bool {
        at_least(self.dfr0, 8, 1)
    }

    /// FEAT_SVE.
    pub fn has_sve(self) -> bool {
        at_least(self.pfr0, 32, 1)
    }

    /// FEAT_RAS.
    pub fn has_ras(self) -> bool {
        at_least(self.pfr0, 28, 1)
    }

    /// EL1 can run AArch32.
    pub fn has_el1_aarch32(self) -> bool {
        field(self.pfr0, 4) == 2
    }

    /// The CPU interface of the GIC is reached through system registers (GICv3 and later).
    pub fn has_gic_registers(self) -> bool {
        at_least(self.pfr0, 24, 1)
    }

    /// 4 KiB pages at stage 1 (`TGran4`).
    pub fn has_4k_pages(self) -> bool {
        field(self.mmfr0, 28) != 0xf
    }

    fn part_name(self) -> Option<&'static str> {
        if self.midr >> 24 != 0x41 {
            return None;
        }
        Some(match (self.midr >> 4) & 0xfff {
            0xd03 => "Cortex-A53",
            0xd04 => "Cortex-A35",
            0xd05 => "Cortex-A55",
            0xd07 => "Cortex-A57",
            0xd08 => "Cortex-A72",
            0xd09 => "Cortex-A73",
            0xd0a => "Cortex-A75",
            0xd0b => "Cortex-A76",
            0xd0c => "Neoverse-N1",
            0xd0d => "Cortex-A77",
            0xd40 => "Neoverse-V1",
            0xd41 => "Cortex-A78",
            0xd49 => "Neoverse-N2",
            0xd4f => "Neoverse-V2",
            _ => return None,
        })
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (variant, revision) = ((self.midr >> 20) & 0xf, self.midr & 0xf);
        match self.part_name() {
            Some(name) => write!(f, "{name} r{variant}p{revision}")?,
            None => write!(f, "MIDR {:#010x}", self.midr)?,
        }
        write!(
            f,
            ", {}-bit physical addresses, {}-bit VMIDs",
            self.physical_address_bits(),
            self.vmid_bits()
        )?;
        let present = [
            ("AArch32 EL1", self.has_el1_aarch32()),
            ("VHE", self.has_vhe()),
            ("LSE", self.has_lse()),
            ("XNX", self.has_xnx()),
            ("S2FWB", self.has_stage2_force_write_back()),
            ("BBM2", self.has_break_before_make_2()),
            ("RAS", self.has_ras()),
            ("SVE", self.has_sve()),
            ("GIC registers", self.has_gic_registers()),
        ];
        for (name, _) in present.iter().filter(|(_, present)| *present) {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}
