// Entry of the image: the arm64 Image header and the code up to the first line of Rust.
//
// Follows the Linux arm64 boot protocol (Documentation/arch/arm64/booting.rst): entered at EL2
// with the MMU off, the image cleaned to the point of coherency, x0 = the device tree.

.section .head, "ax"
.global _start
_start:
    b       primary_entry               // code0
    .long   0                           // code1
    .quad   0                           // text_offset
    .quad   _image_size                 // image_size; the build makes it cover the symbol table
    .quad   0xa                         // flags: little endian, 4 KiB pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"                   // magic
    .long   0                           // no PE header

// What the build tool fills in: `image::Config` is its Rust side.
.global image_config
image_config:
    .ascii  "XRSCONF1"
    .quad   0                           // offset of the symbol table from _image_start
    .quad   0                           // its size in bytes
    .long   0                           // fallback console: kind
    .byte   0, 0                        //   register shift, register width
    .short  0
    .quad   0                           //   address
    .fill   24, 1, 0

.text

// Clean and invalidate, or invalidate, [x0, x1) to the point of coherency. Clobbers x0-x3.
.macro dcache_range op
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4             // DminLine: log2 of words in the smallest line
    mov     x3, #4
    lsl     x2, x3, x2
    sub     x3, x2, #1
    bic     x0, x0, x3
1:  dc      \op, x0
    add     x0, x0, x2
    cmp     x0, x1
    b.lo    1b
    dsb     sy
.endm

// Maps pages to themselves from x4 up to `end`; x1 walks the table. Clobbers x5-x7.
.macro map_until end, attributes
    address x5, \end
    ldr     x6, =\attributes
1:  orr     x7, x4, x6
    str     x7, [x1], #8
    add     x4, x4, #4096
    cmp     x4, x5
    b.lo    1b
.endm

// Address of an image symbol, MMU on or off.
.macro address reg, symbol
    adrp    \reg, \symbol
    add     \reg, \reg, :lo12:\symbol
.endm

primary_entry:
    msr     daifset, #0xf
    mov     x21, x0                     // the device tree
    adrp    x22, _image_start           // the load address

    // What is written below with the MMU off must not meet older lines of the same addresses:
    // before, lines that a boot loader left dirty would overwrite it; after, clean lines that were
    // fetched meanwhile would hide it (Arm ARM D7.5.11 and B2.8.1).
    address x0, _rodata_start
    address x1, _image_end
    dcache_range civac
    bl      relocate

    mrs     x0, CurrentEL
    lsr     x0, x0, #2
    cmp     x0, #2
    b.ne    wrong_exception_level

    bl      build_entry_tables
    address x0, _rodata_start
    address x1, _image_end
    dcache_range ivac

    bl      prepare_el2
    adrp    x0, entry_l0
    bl      enable_mmu

    address x0, _boot_stack_top
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x21
    b       {primary}

// Entered elsewhere: say so with what the device tree gives as a console, MMU off.
wrong_exception_level:
    address x1, _boot_stack_top
    mov     sp, x1
    mov     x29, xzr
    mov     x1, x21
    b       {wrong_level}

// Applies the R_AARCH64_RELATIVE relocations (ELF for the Arm 64-bit architecture, 5.7.16): the
// only kind that the link leaves. x22 = the load address.
relocate:
    address x0, _rela_start
    address x1, _rela_end
1:  cmp     x0, x1
    b.hs    3f
    ldp     x2, x3, [x0], #16
    ldr     x4, [x0], #8
    cmp     w3, #1027
    b.ne    2f
    add     x4, x4, x22
    str     x4, [x2, x22]
2:  b       1b
3:  dsb     sy
    ret

// Tables for the way from here to Rust's own: the image alone, each page with its final
// permissions, at its load address. A 2 MiB-aligned image below 2 MiB needs one table a level.
build_entry_tables:
    adrp    x0, entry_l0
    adrp    x1, entry_l1
    orr     x2, x1, #{table}
    ubfx    x3, x22, #39, #9
    str     x2, [x0, x3, lsl #3]
    adrp    x0, entry_l2
    orr     x2, x0, #{table}
    ubfx    x3, x22, #30, #9
    str     x2, [x1, x3, lsl #3]
    adrp    x1, entry_l3
    orr     x2, x1, #{table}
    ubfx    x3, x22, #21, #9
    str     x2, [x0, x3, lsl #3]

    mov     x4, x22
    map_until _rodata_start, {code}
    map_until _data_start, {read_only}
    map_until _image_end, {read_write}
    ret

// EL2 as this hypervisor runs it, traps of the lower levels aside: no host extensions, AArch64
// below, stage 1 of EL2 described by the one range of TTBR0_EL2. Clobbers x0-x2.
prepare_el2:
    ldr     x0, ={hcr}
    msr     hcr_el2, x0                 // first: E2H decides the layout of what follows
    isb
    ldr     x0, ={sctlr_off}
    msr     sctlr_el2, x0
    ldr     x0, ={mair}
    msr     mair_el2, x0
    ldr     x0, ={tcr}
    mrs     x1, id_aa64mmfr0_el1
    and     x1, x1, #0xf                // PARange
    cmp     x1, #5                      // at most 48 bits: beyond needs LPA
    mov     x2, #5
    csel    x1, x2, x1, hi
    orr     x0, x0, x1, lsl #16         // TCR_EL2.PS
    msr     tcr_el2, x0
    ldr     x0, ={cptr}
    msr     cptr_el2, x0
    mrs     x0, mdcr_el2
    and     x0, x0, #0x1f               // HPMN stays: it may not be 0 without FEAT_HPMN0
    msr     mdcr_el2, x0
    address x0, exception_vectors
    msr     vbar_el2, x0
    isb
    ret

// Turns on the MMU and the caches with the root table x0. Identity mapped, so the next
// instruction is where this one expects it.
enable_mmu:
    msr     ttbr0_el2, x0
    dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x0, ={sctlr_on}
    msr     sctlr_el2, x0
    isb
    ret

// Where PSCI or a spin table sends another CPU. Finds its own record among `smp::BOOT_RECORDS` with
// the MMU off (they were cleaned to memory), and parks if there is none.
.global secondary_entry
secondary_entry:
    msr     daifset, #0xf
    mrs     x0, CurrentEL
    cmp     x0, #(2 << 2)
    b.ne    park
    mrs     x1, mpidr_el1
    ldr     x2, =0xff00ffffff
    and     x1, x1, x2
    address x20, {boot_records}
    mov     x3, #{max_cpus}
1:  ldr     x0, [x20, #{record_stack}]
    cbz     x0, park                    // the first unused record: no CPU was meant
    ldr     x0, [x20, #{record_affinity}]
    cmp     x0, x1
    b.eq    2f
    add     x20, x20, #{record_size}
    subs    x3, x3, #1
    b.ne    1b
    b       park
2:  bl      prepare_el2
    adrp    x0, entry_l0
    bl      enable_mmu
    ldr     x0, [x20, #{record_stack}]
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    ldr     x0, [x20, #{record_cpu}]
    b       {secondary}

.global park
park:
    wfi
    b       park

// fn call_on_stack(stack_top: usize, function: extern "C" fn() -> !) -> !
.global call_on_stack
call_on_stack:
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    br      x1

.ltorg

.section .bss.entry_tables, "aw", @nobits
.balign 4096
.global entry_l0
entry_l0: .skip 4096
entry_l1: .skip 4096
entry_l2: .skip 4096
entry_l3: .skip 4096
