//! The smallest ramdisk: a program of its own that tells when it was started, and does no more.
//!
//! It reads the virtual counter, which Linux lets user space read (Arm ARM D13.8.3, CNTKCTL_EL1),
//! with its first instruction, and prints it as sixteen letters, `a` for 0 to `p` for 15, most
//! significant first. It is written in machine code: 17 instructions need no compiler for arm64 Linux.

use std::io::Write;

use anyhow::Result;
use cpio::newc::{self, Builder};

/// A line of the console that has what the program printed, and nothing else.
pub const PATTERN: &str = "^([a-p]{16})$";

const CODE: [u32; 17] = [
    0xd53b_e041, // mrs  x1, cntvct_el0
    0xd100_83ff, // sub  sp, sp, #32
    0xd280_0202, // mov  x2, #16
    0x9240_0c23, // and  x3, x1, #15        <- for each digit, the last one first
    0x9101_8463, // add  x3, x3, #'a'
    0xd100_0442, // sub  x2, x2, #1
    0x3822_6be3, // strb w3, [sp, x2]
    0xd344_fc21, // lsr  x1, x1, #4
    0xb5ff_ff62, // cbnz x2, .-20
    0x5280_0143, // mov  w3, #'\n'
    0x3900_43e3, // strb w3, [sp, #16]
    0xd280_0020, // mov  x0, #1             standard output
    0x9100_03e1, // mov  x1, sp
    0xd280_0222, // mov  x2, #17
    0xd280_0808, // mov  x8, #64            write
    0xd400_0001, // svc  #0
    0x1400_0000, // b    .
];

const PROGRAM: u32 = 0o100_755;
const ELF_HEADER: u16 = 64;
const PROGRAM_HEADER: u16 = 56;
/// Where the file is mapped.
const BASE: u64 = 0x40_0000;

/// A ramdisk with the program as its `/init`.
pub fn ramdisk() -> Result<Vec<u8>> {
    let program = elf();
    let mut archive = Vec::new();
    let mut file = Builder::new("init")
        .mode(PROGRAM)
        .nlink(1)
        .write(&mut archive, u32::try_from(program.len())?);
    file.write_all(&program)?;
    file.finish()?;
    newc::trailer(&mut archive)?;
    Ok(archive)
}

/// The counter that a line of letters stands for.
pub fn counter(letters: &str) -> Option<u64> {
    letters.bytes().try_fold(0_u64, |value, letter| {
        let digit = letter.checked_sub(b'a').filter(|digit| *digit < 16)?;
        value.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

/// The program as a file: one segment, which is the whole file (System V ABI, chapters 4 and 5).
fn elf() -> Vec<u8> {
    /// 64-bit, little-endian, version 1.
    const IDENT: [u8; 16] = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0";
    const EXECUTABLE: u16 = 2;
    const AARCH64: u16 = 183;
    const LOAD: u32 = 1;
    const READ_AND_EXECUTE: u32 = 5;
    const ALIGNMENT: u64 = 0x1000;

    let headers = u64::from(ELF_HEADER + PROGRAM_HEADER);
    let size = headers + size_of_val(&CODE) as u64;
    let mut file = IDENT.to_vec();
    half_words(&mut file, &[EXECUTABLE, AARCH64]);
    words(&mut file, &[1]);
    // Entry, program headers, no section headers.
    double_words(&mut file, &[BASE + headers, u64::from(ELF_HEADER), 0]);
    words(&mut file, &[0]);
    half_words(&mut file, &[ELF_HEADER, PROGRAM_HEADER, 1, 64, 0, 0]);
    words(&mut file, &[LOAD, READ_AND_EXECUTE]);
    // Offset, virtual and physical address, size in the file and in memory.
    double_words(&mut file, &[0, BASE, BASE, size, size, ALIGNMENT]);
    words(&mut file, &CODE);
    file
}

fn half_words(file: &mut Vec<u8>, values: &[u16]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn words(file: &mut Vec<u8>, values: &[u32]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn double_words(file: &mut Vec<u8>, values: &[u64]) {
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object as _, ObjectSegment as _};

    #[test]
    fn the_program_is_an_elf_file_that_starts_at_its_code() {
        let file = elf();
        let elf = object::File::parse(&file[..]).unwrap();
        assert_eq!(elf.architecture(), object::Architecture::Aarch64);
        let segment = elf.segments().next().unwrap();
        assert_eq!(segment.address(), BASE);
        assert_eq!(segment.size(), file.len() as u64);
        let entry = (elf.entry() - BASE) as usize;
        assert_eq!(file[entry..entry + 4], CODE[0].to_le_bytes());
    }

    #[test]
    fn letters_are_digits() {
        assert_eq!(counter("aaaaaaaaaaaaaabp"), Some(31));
        assert_eq!(counter("pppppppppppppppp"), Some(u64::MAX));
        assert_eq!(counter("aq"), None);
        assert_eq!(counter("ppppppppppppppppp"), None);
    }
}
