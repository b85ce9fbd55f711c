//! The list of assignable PCI functions: `assignable VERB NAME …`, one line of outcome for each.
//!
//! Verbs: `add` and `remove` change the list, `give` and `take` do the same by Xen's own calls for
//! `DOMID_IO`, `get` prints a state; `list`, without names, prints all.

use std::env;
use std::io;

use anyhow::{Context as _, Result, bail};
use dom0_programs::privcmd::Privcmd;
use xen_abi::assignable::{
    Assignable, AssignableCommand, AssignableEntry, FunctionState, SYSCTL_ASSIGNABLE,
};
use xen_abi::domctl::{self, AssignDevice, DEVICE_PCI, DomctlHeader, DomctlOp};
use xen_abi::hypercall::Hypercall;
use xen_abi::sysctl::{self, SysctlHeader};
use xen_abi::{DomId, GuestHandle};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Where entries go, from the start of the buffer.
const ENTRIES: usize = 1024;
/// How many at once.
const ROOM: u32 = 16;

fn main() -> Result<()> {
    let xen = Privcmd::open()?;
    let mut words = env::args().skip(1);
    let verb = words.next().context("a verb")?;
    if verb == "list" {
        return list(&xen);
    }
    for name in words {
        let sbdf = number(&name)?;
        let outcome = match verb.as_str() {
            "add" => set(&xen, sbdf, FunctionState::Assignable),
            "remove" => set(&xen, sbdf, FunctionState::ControlDomain),
            "give" => assign(&xen, DomctlOp::AssignDevice, sbdf),
            "take" => assign(&xen, DomctlOp::DeassignDevice, sbdf),
            "get" => get(&xen, sbdf).map(|state| println!("ASSIGNABLE: {name} is {state:?}")),
            _ => bail!("no verb {verb}"),
        };
        match outcome {
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

fn name(sbdf: u32) -> String {
    let (segment, bus, device, function) = (sbdf >> 16, sbdf >> 8 & 0xff, sbdf >> 3 & 31, sbdf & 7);
    format!("{segment:04x}:{bus:02x}:{device:02x}.{function}")
}

fn operate(xen: &Privcmd, request: &mut Assignable) -> io::Result<()> {
    let header = SysctlHeader {
        cmd: SYSCTL_ASSIGNABLE,
        interface_version: sysctl::INTERFACE_VERSION,
    };
    let payload = sysctl::PAYLOAD_OFFSET as usize;
    xen.buffer().write(0, header.as_bytes());
    xen.buffer().write(payload, request.as_bytes());
    let address = xen.buffer().address();
    xen.call(Hypercall::Sysctl.number(), [address, 0, 0, 0, 0])?;
    let bytes = xen.buffer().read(payload, size_of::<Assignable>());
    if let Ok(changed) = Assignable::read_from_bytes(&bytes) {
        *request = changed;
    }
    Ok(())
}

fn set(xen: &Privcmd, sbdf: u32, state: FunctionState) -> io::Result<()> {
    let mut request = Assignable {
        command: AssignableCommand::Set.number(),
        sbdf,
        state: state.number(),
        ..Assignable::new_zeroed()
    };
    operate(xen, &mut request)
}

fn get(xen: &Privcmd, sbdf: u32) -> io::Result<Option<FunctionState>> {
    let mut request = Assignable {
        command: AssignableCommand::Get.number(),
        sbdf,
        ..Assignable::new_zeroed()
    };
    operate(xen, &mut request)?;
    Ok(FunctionState::from_number(request.state))
}

fn list(xen: &Privcmd) -> Result<()> {
    let mut first = 0;
    loop {
        let mut request = Assignable {
            command: AssignableCommand::List.number(),
            count: ROOM,
            first,
            entries: GuestHandle::new(xen.buffer().address() + ENTRIES as u64),
            ..Assignable::new_zeroed()
        };
        operate(xen, &mut request)?;
        let here = request.count.saturating_sub(first).min(ROOM);
        for place in 0..here as usize {
            let size = size_of::<AssignableEntry>();
            let bytes = xen.buffer().read(ENTRIES + place * size, size);
            let Ok(entry) = AssignableEntry::read_from_bytes(&bytes) else {
                bail!("an entry of {} bytes", bytes.len());
            };
            let state = FunctionState::from_number(entry.state);
            println!("ASSIGNABLE: {} is {state:?}", name(entry.sbdf));
        }
        first += here;
        if here < ROOM {
            println!("ASSIGNABLE: {first} functions");
            return Ok(());
        }
    }
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
