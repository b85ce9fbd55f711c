// The vector table of EL2 (Arm ARM D1.3.1.5) and what saves and restores registers around
// `exception::handle`.

// Saves x0 to x29 and goes on in save_rest with x0 = the vector's number.
.macro save number
    stp     x0, x1, [sp, #0]
    stp     x2, x3, [sp, #16]
    mov     x0, #\number
    b       save_rest
.endm

// A vector of EL2 itself. Every stack lies so that bit 16 of its addresses is set and clear below
// it: seen without a free register, a stack that has no room left for a handler is caught before it
// is written to.
.macro checked_vector number
    .balign 128
    sub     sp, sp, #{reserve}
    sub     sp, sp, #{frame}
    add     sp, sp, x0
    sub     x0, sp, x0                  // x0 = the new stack pointer, sp = that + old x0
    tbz     x0, #16, stack_overflow
    sub     x0, sp, x0                  // x0 as it was
    sub     sp, sp, x0                  // sp = the new stack pointer
    add     sp, sp, #{reserve}
    save    \number
.endm

// A vector of a guest: the context is below the two registers saved here (switch.S).
.macro guest_vector number
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mov     x1, #\number
    b       guest_exit
.endm

.macro vector number
    .balign 128
    sub     sp, sp, #{frame}
    save    \number
.endm

.text
.balign 2048
.global exception_vectors
exception_vectors:
    // Current level with SP_EL0: never used.
    vector  {unexpected}
    vector  {unexpected}
    vector  {unexpected}
    vector  {unexpected}
    // Current level with SP_EL2.
    checked_vector {sync}
    checked_vector {irq}
    checked_vector {fiq}
    checked_vector {serror}
    // Lower level, AArch64.
    guest_vector {sync}
    guest_vector {irq}
    guest_vector {fiq}
    guest_vector {serror}
    // Lower level, AArch32.
    guest_vector {sync}
    guest_vector {irq}
    guest_vector {fiq}
    guest_vector {serror}

// There is no way back from here, so the guest's thread registers serve as scratch space.
stack_overflow:
    msr     tpidrro_el0, x0             // where the stack pointer would have been
    sub     x0, sp, x0
    msr     tpidr_el0, x0               // x0 as it was
    mrs     x0, tpidr_el2
    ldr     x0, [x0, #{emergency_stack}]
    sub     sp, x0, #{frame}
    mrs     x0, tpidr_el0
    save    {overflow}

save_rest:
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    add     x1, sp, #{frame}
    stp     x30, x1, [sp, #{frame_x30}]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x2, x3, [sp, #{frame_elr}]
    mrs     x4, esr_el2
    mrs     x5, far_el2
    stp     x4, x5, [sp, #{frame_esr}]
    mrs     x6, hpfar_el2
    stp     x6, x0, [sp, #{frame_hpfar}]
    mov     x0, sp
    bl      {handler}

    ldp     x2, x3, [sp, #{frame_elr}]
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #{frame_x30}]
    ldp     x0, x1, [sp], #{frame}
    eret
    // No speculation past the return (straight-line speculation).
    dsb     nsh
    isb
