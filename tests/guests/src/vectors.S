// The vector table of EL1 (Arm ARM D1.3.1.5). Each vector saves what Rust may change, reads the
// counter as its first act, and calls `handle(kind, frame)`.

.macro vector kind
    .balign 128
    sub     sp, sp, #192
    stp     x0, x1, [sp, #0]
    mrs     x1, cntvct_el0
    mov     x0, #\kind
    b       save
.endm

.text
.balign 2048
.global vectors
vectors:
    .rept 4
    vector  {unexpected}
    .endr
    vector  {synchronous}
    vector  {irq}
    vector  {unexpected}
    vector  {system_error}
    .rept 8
    vector  {unexpected}
    .endr

save:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x30, [sp, #144]
    mrs     x2, elr_el1
    stp     x1, x2, [sp, #160]
    mrs     x2, spsr_el1
    str     x2, [sp, #176]
    add     x1, sp, #160
    bl      {handle}
    ldr     x2, [sp, #176]
    msr     spsr_el1, x2
    ldr     x2, [sp, #168]
    msr     elr_el1, x2
    ldp     x18, x30, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp, #0]
    add     sp, sp, #192
    eret
