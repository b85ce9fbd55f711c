//! What the hypervisor answers to SMCCC's calls about itself (`arch-arm/smccc.h`).

/// Revision of the hypervisor's services, major and minor.
pub const REVISION: (u32, u32) = (0, 1);

/// UID of the hypervisor's services, as SMCCC returns it in w0 to w3: bytes in order of the UUID,
/// the first in the lowest bits.
pub const UID: [u32; 4] = uid_registers(0xa71812dc_c698_4369_9acf_79d18ddee667);

/// Splits a UUID, written as one number, into the registers of SMCCC's UID call.
const fn uid_registers(uuid: u128) -> [u32; 4] {
    [
        ((uuid >> 96) as u32).swap_bytes(),
        ((uuid >> 64) as u32).swap_bytes(),
        ((uuid >> 32) as u32).swap_bytes(),
        (uuid as u32).swap_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uid_is_in_byte_order() {
        assert_eq!(UID[0].to_le_bytes(), [0xa7, 0x18, 0x12, 0xdc]);
        assert_eq!(UID[3].to_le_bytes(), [0x8d, 0xde, 0xe6, 0x67]);
    }
}
