//! What the bare-metal guests have in common: each is an arm64 `Image` that a hypervisor boots as
//! the kernel of its control domain, or of another with a serial port, says what it has to say on the
//! hypervisor's console or that port, and switches the machine off.
//!
//! - `micro` measures what the hypervisor's services cost.
//! - `fuzz` makes calls and accesses that no sane guest makes.
//!
//! A guest is a program with `guests::entry!(main)`. It runs at EL1 with an identity map of the
//! first 512 GiB ([`mmu`]), its vector table ([`exception`]) and interrupts masked.

#![no_std]

pub mod code;
pub mod console;
pub mod exception;
pub mod firmware;
pub mod gic;
pub mod hypercall;
pub mod its;
pub mod machine;
pub mod mmio;
pub mod mmu;
pub mod power;
pub mod random;
mod sysreg;
pub mod time;

/// Makes `$main`, a `fn(&'static Machine)`, what the guest runs. The machine is switched off when it returns.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        core::arch::global_asm!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/entry.S")),
            first = sym first_cpu_main,
            second = sym $crate::power::second_cpu_main,
        );

        extern "C" fn first_cpu_main(tree: *const u8) -> ! {
            // SAFETY: the boot protocol hands over a complete tree in x0, to which nobody writes.
            unsafe { $crate::start(tree, $main) }
        }

        #[panic_handler]
        fn panicked(info: &core::panic::PanicInfo) -> ! {
            $crate::println!("guest: panic: {info}");
            $crate::power::off()
        }
    };
}

/// What [`entry!`] enters.
///
/// # Safety
/// As [`machine::Machine::from_tree`].
pub unsafe fn start(tree: *const u8, main: fn(&'static machine::Machine)) -> ! {
    mmu::enable();
    exception::install();
    // SAFETY: as the caller says.
    let machine = unsafe { machine::Machine::from_tree(tree) };
    if let Some(uart) = machine.uart {
        console::use_uart(uart);
    }
    gic::set_up(&machine.gic);
    // SAFETY: this function does not return, so that its variables live as long as the guest.
    main(unsafe { &*core::ptr::from_ref(&machine) });
    power::off()
}
