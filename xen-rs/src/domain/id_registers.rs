//! The identification registers that a guest reads (Arm ARM D24.2): the CPU's, without the features
//! that the hypervisor does not save or emulate. They trap by `HCR_EL2.TID3`.

use crate::arch::sysreg::read_sysreg;

/// Clears the 4-bit fields that start at these bits.
const fn without(value: u64, fields: &[u32]) -> u64 {
    let mut kept = value;
    let mut index = 0;
    while index < fields.len() {
        kept &= !(0xf << fields[index]);
        index += 1;
    }
    kept
}

/// The value of the register `S3_0_C0_C<m>_<op2>`; `None` if it is not an identification register.
/// Those that are not known read as zero: no feature.
pub fn read(crm: u8, op2: u8) -> Option<u64> {
    if !(1..=7).contains(&crm) || op2 > 7 {
        return None;
    }
    Some(match (crm, op2) {
        // SVE, MPAM, AMU.
        (4, 0) => without(read_sysreg!("S3_0_C0_C4_0"), &[32, 40, 44]),
        // MTE, MPAM_frac, SME, and the extensions above.
        (4, 1) => without(read_sysreg!("S3_0_C0_C4_1"), &[8, 16, 24, 40, 44]),
        // PMUVer, TraceVer, PMSVer, TraceFilt, TraceBuffer, MTPMU, BRBE.
        (5, 0) => without(read_sysreg!("S3_0_C0_C5_0"), &[4, 8, 32, 40, 44, 48, 52]),
        (6, 0) => without(read_sysreg!("S3_0_C0_C6_0"), &[]),
        // Pointer authentication: APA, API, GPA, GPI; LS64.
        (6, 1) => without(read_sysreg!("S3_0_C0_C6_1"), &[4, 8, 24, 28, 60]),
        // GPA3, APA3, and MOPS, which needs an enable of ours.
        (6, 2) => without(read_sysreg!("S3_0_C0_C6_2"), &[8, 12, 16]),
        // ECV: an offset of the physical timer.
        (7, 0) => without(read_sysreg!("S3_0_C0_C7_0"), &[60]),
        // VHE.
        (7, 1) => without(read_sysreg!("S3_0_C0_C7_1"), &[8]),
        // NV.
        (7, 2) => without(read_sysreg!("S3_0_C0_C7_2"), &[24]),
        (1, 0) => read_sysreg!("S3_0_C0_C1_0"),
        (1, 1) => read_sysreg!("S3_0_C0_C1_1"),
        // PerfMon and the trace of AArch32.
        (1, 2) => without(read_sysreg!("S3_0_C0_C1_2"), &[12, 16, 20, 24, 28]),
        (1, 4) => read_sysreg!("S3_0_C0_C1_4"),
        (1, 5) => read_sysreg!("S3_0_C0_C1_5"),
        (1, 6) => read_sysreg!("S3_0_C0_C1_6"),
        (1, 7) => read_sysreg!("S3_0_C0_C1_7"),
        (2, 0) => read_sysreg!("S3_0_C0_C2_0"),
        (2, 1) => read_sysreg!("S3_0_C0_C2_1"),
        (2, 2) => read_sysreg!("S3_0_C0_C2_2"),
        (2, 3) => read_sysreg!("S3_0_C0_C2_3"),
        (2, 4) => read_sysreg!("S3_0_C0_C2_4"),
        (2, 5) => read_sysreg!("S3_0_C0_C2_5"),
        (2, 6) => read_sysreg!("S3_0_C0_C2_6"),
        (3, 0) => read_sysreg!("S3_0_C0_C3_0"),
        (3, 1) => read_sysreg!("S3_0_C0_C3_1"),
        (3, 2) => read_sysreg!("S3_0_C0_C3_2"),
        _ => 0,
    })
}
