//! Everything of the hypervisor that needs no hardware.
//!
//! Algorithms and state machines that can be decided from values. They reach hardware through
//! small traits ([`uart::Registers`], page table memory), of which the image has the real
//! implementation and the tests a simulated one, so that all of it is tested on the host.
//!
//! | module | decides |
//! |---|---|
//! | [`cmdline`] | what the command line asks for |
//! | [`event`] | which port of which domain hears of what |
//! | [`grant`] | which pages a domain shares, who has mapped them |
//! | [`guest_memory`] | the RAM of a domain that is made at boot |
//! | [`gzip`] | what is in a packed file |
//! | [`hvm_params`] | which parameters a domain has |
//! | [`input`] | who gets what is typed |
//! | [`intx`] | which functions assert a line that domains share, and who hears of it |
//! | [`its`] | how devices' messages become LPIs, and whose each is |
//! | [`kernel`] | whether a file is a kernel, and where its pieces go |
//! | [`life`] | whether a domain may run, and how it has ended |
//! | [`log`] | which messages are logged, how a line looks, what is kept of them |
//! | [`memory`] | who owns each frame, which memory is free |
//! | [`p2m`] | what lies behind a guest's frames, and who may still reach it |
//! | [`paging`] | what the tables of a translation stage hold |
//! | [`panic_watch`] | whether the control domain's kernel has panicked |
//! | [`pci_devices`] | which PCI functions the control domain has found |
//! | [`psci`] | which vCPUs run, and what a guest's firmware call does to them |
//! | [`smccc`] | which workarounds of firmware a guest is told of |
//! | [`symbols`] | which function an address is in |
//! | [`syndrome`] | what an exception was |
//! | [`timers`] | what is due next |
//! | [`uart`] | how a byte gets out of a serial port |
//! | [`v2m`] | which message interrupts of a GICv2m frame are free |
//! | [`vgic`] | which interrupt a guest sees, and when |
//! | [`vpl011`] | what a guest's serial port answers |
//! | [`vits`] | which LPI a guest has mapped a device's message to |
//!
//! What comes from outside (a boot loader, a guest, a toolstack) is parsed into types that cannot
//! be wrong, at the border and once; what is refused is an error value that says why. Nothing here
//! panics on outside data, allocates where a guest decides how much, or waits without an end.

#![no_std]

pub mod cmdline;
pub mod event;
pub mod grant;
pub mod guest_memory;
pub mod gzip;
pub mod hvm_params;
pub mod input;
pub mod intx;
pub mod its;
pub mod kernel;
pub mod life;
pub mod log;
pub mod memory;
pub mod p2m;
pub mod paging;
pub mod panic_watch;
pub mod pci_devices;
pub mod psci;
pub mod sched;
pub mod smccc;
pub mod symbols;
pub mod syndrome;
pub mod timers;
pub mod uart;
pub mod v2m;
pub mod vgic;
pub mod vits;
pub mod vpl011;
