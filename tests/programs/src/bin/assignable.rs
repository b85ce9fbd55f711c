//! Functions that are given to `DOMID_IO` and taken from there, as Xen's tools do it: `assignable VERB
//! NAME …`, where the verb is `give` or `take`. Prints one line of outcome for each; `xrs` has our own
//! calls.

use std::env;
use std::io;

use anyhow::{Context as _, Result, bail};
use dom0_programs::privcmd::Privcmd;
use xen_abi::DomId;
use xen_abi::domctl::{self, AssignDevice, DEVICE_PCI, DomctlHeader, DomctlOp};
use xen_abi::hypercall::Hypercall;
use zerocopy::{FromZeros as _, IntoBytes as _};

fn main() -> Result<()> {
    let xen = Privcmd::open()?;
    let mut words = env::args().skip(1);
    let verb = words.next().context("a verb")?;
    let operation = match verb.as_str() {
        "give" => DomctlOp::AssignDevice,
        "take" => DomctlOp::DeassignDevice,
        _ => bail!("no verb {verb}"),
    };
    for name in words {
        match assign(&xen, operation, number(&name)?) {
            Ok(()) => println!("ASSIGNABLE: {verb} {name}: done"),
            Err(error) => println!("ASSIGNABLE: {verb} {name}: {:?}", error.raw_os_error()),
        }
    }
    Ok(())
}

/// `SSSS:BB:DD.F` as the ABI has it.
fn number(name: &str) -> Result<u32> {
    let digits = |text: &str| u32::from_str_radix(text, 16).context("hexadecimal digits");
    let parts: Vec<u32> = name.split([':', '.']).map(digits).collect::<Result<_>>()?;
    let [segment, bus, device, function] = parts[..] else {
        bail!("{name}: SSSS:BB:DD.F");
    };
    Ok(segment << 16 | bus << 8 | device << 3 | function)
}

fn assign(xen: &Privcmd, operation: DomctlOp, sbdf: u32) -> io::Result<()> {
    let header = DomctlHeader {
        cmd: operation.number(),
        interface_version: domctl::INTERFACE_VERSION,
        domain: DomId::IO,
        pad: [0; 3],
    };
    let request = AssignDevice {
        dev: DEVICE_PCI,
        flags: u32::from(operation == DomctlOp::AssignDevice),
        sbdf_or_size: sbdf,
        ..AssignDevice::new_zeroed()
    };
    xen.buffer().write(0, header.as_bytes());
    xen.buffer()
        .write(domctl::PAYLOAD_OFFSET as usize, request.as_bytes());
    let address = xen.buffer().address();
    xen.call(Hypercall::Domctl.number(), [address, 0, 0, 0, 0])
        .map(drop)
}
