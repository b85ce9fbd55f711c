// Entry of a guest: the arm64 Image header (Linux, Documentation/arch/arm64/booting.rst) and the
// code up to the first line of Rust. Entered at EL1 with the MMU off, x0 = the device tree.

.section .head, "ax"
.global _start
_start:
    b       first_cpu                   // code0
    .long   0                           // code1
    .quad   0                           // text_offset
    .quad   _image_size                 // image_size
    .quad   0xa                         // flags: little endian, 4 KiB pages, anywhere in memory
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"                   // magic
    .long   0                           // no PE header

.text

.macro address reg, symbol
    adrp    \reg, \symbol
    add     \reg, \reg, :lo12:\symbol
.endm

first_cpu:
    msr     daifset, #0xf
    mov     x19, x0
    // The only relocations that the link leaves are R_AARCH64_RELATIVE (ELF for the Arm 64-bit
    // architecture, 5.7.16): offset, type, addend.
    adrp    x1, _image_start
    address x2, _rela_start
    address x3, _rela_end
1:  cmp     x2, x3
    b.hs    2f
    ldp     x4, x5, [x2], #16
    ldr     x6, [x2], #8
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       1b
2:  address x1, _boot_stack_top
    mov     sp, x1
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x19
    bl      {first}

// Entered by PSCI CPU_ON, x0 = the top of its stack.
.global second_cpu
second_cpu:
    msr     daifset, #0xf
    mov     sp, x0
    mov     x29, xzr
    mov     x30, xzr
    bl      {second}
