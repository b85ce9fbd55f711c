//! What domains talk by: ports, pages and consoles.

use xen_abi::DomId;
use xen_abi::domctl::{self as dom, DomctlOp};
use xen_abi::event_channel::{AllocUnbound, EventChannelOp};
use xen_abi::hvm::{HvmOp, HvmParam, Param};
use xen_abi::hypercall::Hypercall;

use super::Xen;
use crate::hypervisor::{Result, Wiring};

impl Wiring for Xen {
    fn allocate_port(&self, domain: DomId, remote: DomId) -> Result<u32> {
        let argument = AllocUnbound {
            dom: domain,
            remote_dom: remote,
            port: 0,
        };
        let op = EventChannelOp::AllocUnbound.number();
        let (made, _) = self.with_buffer("alloc_unbound", |buffer| {
            buffer.operate(Hypercall::EventChannelOp, op, argument)
        })?;
        Ok(made.port)
    }

    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()> {
        let argument = HvmParam {
            domid: domain,
            pad: 0,
            index: param.number(),
            value,
        };
        let op = HvmOp::SetParam.number();
        self.with_buffer("set_param", |buffer| {
            buffer.operate(Hypercall::HvmOp, op, argument).map(drop)
        })
    }

    fn param(&self, domain: DomId, param: Param) -> Result<u64> {
        let argument = HvmParam {
            domid: domain,
            pad: 0,
            index: param.number(),
            value: 0,
        };
        let op = HvmOp::GetParam.number();
        let (answer, _) = self.with_buffer("get_param", |buffer| {
            buffer.operate(Hypercall::HvmOp, op, argument)
        })?;
        Ok(answer.value)
    }

    fn init_vuart(&self, domain: DomId, frame: u64, console: DomId) -> Result<u32> {
        let argument = dom::VuartOp {
            cmd: dom::VuartCommand::Init.number(),
            kind: dom::VUART_VPL011,
            gfn: frame,
            console_domid: console,
            pad: 0,
            evtchn: 0,
        };
        let made = self.domctl("vuart_op", DomctlOp::VuartOp, domain, argument)?;
        Ok(made.evtchn)
    }
}
