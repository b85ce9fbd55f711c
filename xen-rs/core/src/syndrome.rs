//! What an exception was: `ESR_EL2` in words (Arm ARM D24.2.41).

use core::fmt;

/// An `ESR_EL2` value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Syndrome(u64);

/// A load or store that a guest made to an address without memory, as far as the syndrome of its
/// data abort describes it (`ISV`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MmioAccess {
    /// Store or load.
    pub write: bool,
    /// 1, 2, 4 or 8.
    pub bytes: u8,
    /// The general-purpose register, 31 for zero.
    pub register: u8,
    sign_extend: bool,
    wide: bool,
}

impl MmioAccess {
    /// The register's value after a load that read `value`: cut to the access and extended as the
    /// instruction says.
    pub const fn loaded(self, value: u64) -> u64 {
        let unused = 64 - 8 * self.bytes as u32;
        let extended = if self.sign_extend {
            ((value << unused) as i64 >> unused) as u64
        } else {
            value << unused >> unused
        };
        if self.wide {
            extended
        } else {
            extended & 0xffff_ffff
        }
    }

    /// What a store of a register that holds `value` writes.
    pub const fn stored(self, value: u64) -> u64 {
        let unused = 64 - 8 * self.bytes as u32;
        value << unused >> unused
    }
}

/// A trapped access to a system register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SystemRegisterAccess {
    /// op0, op1, CRn, CRm, op2.
    pub register: (u8, u8, u8, u8, u8),
    /// Read or write.
    pub read: bool,
    /// The general-purpose register, 31 for zero.
    pub general: u8,
}

impl Syndrome {
    /// As read from the register.
    pub const fn new(esr: u64) -> Self {
        Self(esr)
    }

    /// The raw value.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Exception class, bits 31:26.
    pub const fn class(self) -> u8 {
        (self.0 >> 26) as u8 & 0x3f
    }

    /// Whether the fault address register belongs to this exception.
    pub const fn has_fault_address(self) -> bool {
        let far_not_valid = self.0 & 1 << 10 != 0;
        matches!(self.class(), 0x20..=0x22 | 0x24 | 0x25 | 0x34 | 0x35) && !far_not_valid
    }

    /// Whether `HPFAR_EL2` holds the intermediate physical address: stage 2 translation, access
    /// flag and address size faults of a lower level, and faults on a stage 1 walk.
    pub const fn has_ipa(self) -> bool {
        let from_lower_level = matches!(self.class(), 0x20 | 0x24);
        let on_stage_1_walk = self.0 & 1 << 7 != 0;
        let permission = self.0 & 0x3c == 0x0c;
        from_lower_level && (on_stage_1_walk || !permission)
    }

    /// Whether an abort is due to an address that is not mapped, rather than to permissions or to
    /// what is behind it.
    pub const fn is_translation_fault(self) -> bool {
        self.is_abort() && self.0 & 0x3c == 0x04
    }

    /// The access behind a data abort of a lower level, where the syndrome describes it; it does not
    /// for loads and stores of several registers or with write-back.
    pub const fn mmio(self) -> Option<MmioAccess> {
        let valid = self.0 & 1 << 24 != 0;
        if self.class() != 0x24 || !valid {
            return None;
        }
        Some(MmioAccess {
            write: self.0 & 1 << 6 != 0,
            bytes: 1 << (self.0 >> 22 & 0b11),
            register: (self.0 >> 16) as u8 & 0x1f,
            sign_extend: self.0 & 1 << 21 != 0,
            wide: self.0 & 1 << 15 != 0,
        })
    }

    /// The access behind a trapped `MSR` or `MRS` (class 0x18).
    pub fn system_register(self) -> Option<SystemRegisterAccess> {
        if self.class() != 0x18 {
            return None;
        }
        let field = |shift: u32, mask: u64| (self.0 >> shift & mask) as u8;
        Some(SystemRegisterAccess {
            register: (
                field(20, 0b11),
                field(14, 0b111),
                field(10, 0xf),
                field(1, 0xf),
                field(17, 0b111),
            ),
            read: self.0 & 1 != 0,
            general: field(5, 0x1f),
        })
    }

    /// The general-purpose register that a trapped `MSR` writes to the system register with an
    /// encoding (op0, op1, CRn, CRm, op2); `None` if the exception is anything else.
    #[inline]
    pub const fn register_written(self, encoding: (u8, u8, u8, u8, u8)) -> Option<u8> {
        const CLASS_ENCODING_AND_DIRECTION: u64 = 0x3f << 26 | 0x3f_fc1f;
        let (op0, op1, crn, crm, op2) = encoding;
        let expected = 0x18 << 26
            | (op0 as u64) << 20
            | (op2 as u64) << 17
            | (op1 as u64) << 14
            | (crn as u64) << 10
            | (crm as u64) << 1;
        if self.0 & CLASS_ENCODING_AND_DIRECTION == expected {
            Some((self.0 >> 5) as u8 & 0x1f)
        } else {
            None
        }
    }

    const fn is_abort(self) -> bool {
        matches!(self.class(), 0x20 | 0x21 | 0x24 | 0x25)
    }

    const fn is_data_abort(self) -> bool {
        matches!(self.class(), 0x24 | 0x25)
    }

    const fn class_name(self) -> &'static str {
        match self.class() {
            0x00 => "undefined or unknown instruction",
            0x01 => "trapped WFI or WFE",
            0x07 => "trapped SIMD, SVE or floating point",
            0x0a => "trapped LD64B or ST64B",
            0x0d => "branch target exception",
            0x0e => "illegal execution state",
            0x12 | 0x16 => "hypervisor call",
            0x13 | 0x17 => "secure monitor call",
            0x15 => "supervisor call",
            0x18 => "trapped system register access",
            0x19 => "trapped SVE access",
            0x1c => "pointer authentication failure",
            0x20 => "instruction abort from a lower level",
            0x21 => "instruction abort",
            0x22 => "misaligned program counter",
            0x24 => "data abort from a lower level",
            0x25 => "data abort",
            0x26 => "misaligned stack pointer",
            0x2c => "floating point exception",
            0x2f => "SError",
            0x30 | 0x31 => "hardware breakpoint",
            0x32 | 0x33 => "software step",
            0x34 | 0x35 => "watchpoint",
            0x3c => "BRK instruction",
            _ => "exception of an unknown class",
        }
    }

    /// Fault status code, bits 5:0 of the syndrome of an abort.
    const fn fault(self) -> &'static str {
        match self.0 & 0x3f {
            0x00..=0x03 => "address size fault",
            0x04..=0x07 => "translation fault",
            0x08..=0x0b => "access flag fault",
            0x0c..=0x0f => "permission fault",
            0x10 => "external abort",
            0x11 => "tag check fault",
            0x13..=0x17 => "external abort on a table walk",
            0x18 => "parity or ECC error",
            0x1b..=0x1f => "parity or ECC error on a table walk",
            0x21 => "alignment fault",
            0x30 => "TLB conflict",
            0x34 => "lockdown fault",
            0x35 => "unsupported exclusive or atomic access",
            _ => "fault of an unknown kind",
        }
    }

    /// The level of the walk that the fault status code names.
    const fn level(self) -> Option<u64> {
        match self.0 & 0x3f {
            code @ (0x00..=0x0f | 0x14..=0x17 | 0x1c..=0x1f) => Some(code & 3),
            _ => None,
        }
    }
}

impl fmt::Display for Syndrome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.class_name())?;
        if self.is_abort() {
            write!(f, ": {}", self.fault())?;
            if let Some(level) = self.level() {
                write!(f, " at level {level}")?;
            }
            if self.is_data_abort() {
                let write = self.0 & 1 << 6 != 0;
                f.write_str(if write { ", writing" } else { ", reading" })?;
            }
        } else if self.class() == 0x3c {
            write!(f, " {:#x}", self.0 & 0xffff)?;
        } else if self.class_name().ends_with("unknown class") {
            write!(f, " {:#x}", self.class())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn aborts_say_what_where_and_which_way() {
        // EC 0x25, IL, WnR, translation fault at level 3.
        let write = Syndrome::new(0x25 << 26 | 1 << 25 | 1 << 6 | 0x07);
        assert_eq!(
            write.to_string(),
            "data abort: translation fault at level 3, writing"
        );
        assert!(write.has_fault_address());
        assert!(!write.has_ipa());
        let fetch = Syndrome::new(0x21 << 26 | 1 << 25 | 0x0f);
        assert_eq!(
            fetch.to_string(),
            "instruction abort: permission fault at level 3"
        );
    }

    #[test]
    fn a_written_register_is_what_the_decoded_access_says() {
        for bits in (0..1_u64 << 22).step_by(13) {
            let syndrome = Syndrome::new(0x18 << 26 | 1 << 25 | bits);
            let access = syndrome.system_register().unwrap();
            let written = (!access.read).then_some(access.general);
            assert_eq!(syndrome.register_written(access.register), written);
        }
        let sgi1r = (3, 0, 12, 11, 5);
        let write = 0x18 << 26 | 0x3a_3016;
        assert_eq!(Syndrome::new(write).register_written(sgi1r), Some(0));
        assert_eq!(Syndrome::new(write | 1 << 26).register_written(sgi1r), None);
        assert_eq!(Syndrome::new(write ^ 1 << 17).register_written(sgi1r), None);
    }

    #[test]
    fn the_ipa_is_there_for_stage_2_translation_faults_only() {
        assert!(Syndrome::new(0x24 << 26 | 0x06).has_ipa());
        assert!(!Syndrome::new(0x24 << 26 | 0x0e).has_ipa());
        assert!(Syndrome::new(0x24 << 26 | 1 << 7 | 0x0e).has_ipa());
        assert!(!Syndrome::new(0x25 << 26 | 0x06).has_ipa());
    }

    #[test]
    fn an_invalid_far_is_not_shown() {
        let external = Syndrome::new(0x25 << 26 | 1 << 10 | 0x10);
        assert_eq!(external.to_string(), "data abort: external abort, reading");
        assert!(!external.has_fault_address());
    }

    /// EC 0x24, IL, ISV and these fields.
    fn abort(size: u64, sign: u64, register: u64, wide: u64, write: u64) -> MmioAccess {
        let fields = size << 22 | sign << 21 | register << 16 | wide << 15 | write << 6;
        let syndrome = Syndrome::new(0x24 << 26 | 1 << 25 | 1 << 24 | fields | 0x06);
        syndrome.mmio().unwrap()
    }

    #[test]
    fn loads_are_cut_and_extended_as_the_instruction_says() {
        // LDRB, LDRSB to W, LDRSB to X, LDRSW, LDR X.
        assert_eq!(abort(0, 0, 3, 0, 0).loaded(0x1_80), 0x80);
        assert_eq!(abort(0, 1, 3, 0, 0).loaded(0x80), 0xffff_ff80);
        assert_eq!(abort(0, 1, 3, 1, 0).loaded(0x80), 0xffff_ffff_ffff_ff80);
        assert_eq!(abort(2, 1, 3, 1, 0).loaded(1 << 31), 0xffff_ffff_8000_0000);
        assert_eq!(abort(3, 0, 3, 1, 0).loaded(u64::MAX), u64::MAX);
    }

    #[test]
    fn stores_write_what_fits() {
        let access = abort(1, 0, 31, 0, 1);
        assert!(access.write && access.bytes == 2 && access.register == 31);
        assert_eq!(access.stored(0x1234_5678), 0x5678);
    }

    #[test]
    fn an_access_without_a_valid_syndrome_is_not_guessed() {
        assert_eq!(Syndrome::new(0x24 << 26 | 0x46).mmio(), None);
        assert_eq!(Syndrome::new(0x25 << 26 | 1 << 24).mmio(), None);
    }

    #[test]
    fn a_trapped_register_has_its_encoding() {
        // MRS X5, ICC_IAR1_EL1: 3, 0, 12, 12, 0.
        let fields = 3 << 20 | 12 << 10 | 5 << 5 | 12 << 1 | 1;
        let access = Syndrome::new(0x18 << 26 | 1 << 25 | fields).system_register();
        let expected = SystemRegisterAccess {
            register: (3, 0, 12, 12, 0),
            read: true,
            general: 5,
        };
        assert_eq!(access, Some(expected));
        assert_eq!(Syndrome::new(0).system_register(), None);
    }

    #[test]
    fn every_value_has_words() {
        for class in 0..64u64 {
            for code in 0..64 {
                assert!(!Syndrome::new(class << 26 | code).to_string().is_empty());
            }
        }
        assert_eq!(
            Syndrome::new(0x3f << 26).to_string(),
            "exception of an unknown class 0x3f"
        );
        assert_eq!(
            Syndrome::new(0x3c << 26 | 0xf000).to_string(),
            "BRK instruction 0xf000"
        );
    }
}
