//! Machine code that enters the image in ways that QEMU's own boot loader does not.

/// `ldr xN, label`: a word 4 bytes long, the label at a distance in bytes.
const fn ldr(register: u32, distance: u32) -> u32 {
    0x5800_0000 | (distance / 4) << 5 | register
}

/// `br x1`
const BR_X1: u32 = 0xd61f_0020;
/// `nop`
const NOP: u32 = 0xd503_201f;
/// `b .+64`
const B_PAST_HEADER: u32 = 0x1400_0000 | (64 / 4);

/// Code that jumps to `entry`, with `x0` as it is or as given. It can be anywhere.
#[must_use]
pub fn jump(entry: u64, x0: Option<u64>) -> Vec<u8> {
    let set_x0 = if x0.is_some() { ldr(0, 20) } else { NOP };
    let mut code = Vec::new();
    for word in [ldr(1, 16), set_x0, BR_X1, NOP] {
        code.extend(word.to_le_bytes());
    }
    code.extend(entry.to_le_bytes());
    code.extend(x0.unwrap_or(0).to_le_bytes());
    code
}

/// Makes code an arm64 `Image`, by the boot protocol of Linux.
#[must_use]
pub fn image(code: &[u8]) -> Vec<u8> {
    /// 4 KiB pages, anywhere in memory.
    const FLAGS: u64 = 0b1010;
    const SIZE: u64 = 4096;
    let mut image = Vec::new();
    image.extend(B_PAST_HEADER.to_le_bytes());
    image.extend(NOP.to_le_bytes());
    for field in [0, SIZE, FLAGS, 0, 0, 0] {
        image.extend(field.to_le_bytes());
    }
    image.extend(b"ARM\x64");
    image.extend([0; 4]);
    image.extend(code);
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_what_an_assembler_makes() {
        let code = jump(0x1_8000_0000, Some(0x4000_0000));
        // ldr x1, .+16; ldr x0, .+20; br x1; nop; .quad; .quad
        assert_eq!(
            code,
            [
                0x81, 0, 0, 0x58, 0xa0, 0, 0, 0x58, 0x20, 0, 0x1f, 0xd6, 0x1f, 0x20, 0x03,
                0xd5, //
                0, 0, 0, 0x80, 1, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0, 0
            ]
        );
        assert_eq!(jump(0, None)[4..8], NOP.to_le_bytes());
    }

    #[test]
    fn the_header_is_64_bytes_with_its_magic() {
        let image = image(&[1, 2, 3]);
        assert_eq!(image[56..60], *b"ARM\x64");
        assert_eq!(image[64..], [1, 2, 3]);
        assert_eq!(image[..4], [0x10, 0, 0, 0x14]);
    }
}
