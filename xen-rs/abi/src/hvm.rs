//! Parameters of domains (`hvm/hvm_op.h`, `hvm/params.h`).

use crate::DomId;

numbers! {
    /// Sub-operations of `hvm_op` that arm64 has (`HVMOP_…`).
    pub enum HvmOp: u64 {
        /// [`HvmParam`].
        SetParam = 0,
        /// [`HvmParam`].
        GetParam = 1,
    }

    /// Parameters that arm64 domains have (`HVM_PARAM_…`).
    pub enum Param: u32 {
        /// How events reach the domain: see [`callback_by_ppi`].
        CallbackIrq = 0,
        /// Guest frame of the xenstore ring.
        StorePfn = 1,
        /// Port of xenstore; 0 in a control domain means that it runs the store itself.
        StoreEvtchn = 2,
        /// Guest frame of the console ring.
        ConsolePfn = 17,
        /// Port of the console.
        ConsoleEvtchn = 18,
        /// Guest frame of the monitor ring.
        MonitorRingPfn = 28,
    }
}

layout! {
    /// `xen_hvm_param`.
    pub struct HvmParam: 16 {
        /// Whose.
        0 domid: DomId,
        /// Padding.
        2 pad: u16,
        /// A [`Param`].
        4 index: u32,
        /// Its value; out for [`HvmOp::GetParam`].
        8 value: u64,
    }
}

/// `HVM_PARAM_CALLBACK_TYPE_PPI`, in bits 63:56.
const CALLBACK_TYPE_PPI: u64 = 2 << 56;
/// `HVM_PARAM_CALLBACK_TYPE_PPI_FLAG_LOW_LEVEL`, in bits 15:8.
const CALLBACK_LOW_LEVEL: u64 = 2 << 8;

/// The value of [`Param::CallbackIrq`] that says: events come by this PPI, level-triggered and
/// active low.
pub const fn callback_by_ppi(intid: u8) -> u64 {
    CALLBACK_TYPE_PPI | CALLBACK_LOW_LEVEL | intid as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ppi_31_is_the_value_that_xen_reports() {
        assert_eq!(callback_by_ppi(31), 0x0200_0000_0000_021f);
    }
}
