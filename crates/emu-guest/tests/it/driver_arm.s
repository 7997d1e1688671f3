@ Runs the cases of the differ for 32-bit Arm. Assembled with arm-linux-gnueabihf-as; `cases_arm.rs` has the
@ words from `vars` on. Offsets in a record: 0 r0 to r14, 60 APSR, 64 FPSCR, 68 mark, 72 the next case,
@ 76 the snippet's place, 128 d0 to d31.
 .syntax unified
 .arch armv8-a
 .fpu crypto-neon-fp-armv8
 .arm
 .text
 .space 0xf80
vars:
current: .word 0
snippet: .word 0
saved: .word 0
first: .word 0
records: .word 0
records_size: .word 0
data: .word 0
data_size: .word 0
act: .word 0 @ handler
 .word 0x48000004 @ SA_SIGINFO | SA_ONSTACK | SA_NODEFER
 .word 0
 .word 0
 .word 0
altstack: .word 0 @ address
 .word 0
 .word 0x10000
 .org 0x1000
_start:
 mov r0,#4
 bl install
 mov r0,#5
 bl install
 mov r0,#7
 bl install
 mov r0,#11
 bl install
 adr r0,altstack
 mov r1,#0
 mov r7,#186
 svc #0
 ldr r0,first
 bx r0
install:
 adr r1,act
 mov r2,#0
 mov r3,#8
 mov r7,#174
 svc #0
 bx lr
handler:
 adr r3,save1
 str r3,[r2,#92]
 ldr r3,[r2,#96]
 bic r3,r3,#0x06000000
 bic r3,r3,#0x0000fe00
 bic r3,r3,#0x20
 str r3,[r2,#96]
 bx lr
finish:
 ldr r8,records
 ldr r9,records_size
 bl put
 ldr r8,data
 ldr r9,data_size
 bl put
 mov r0,#0
 mov r7,#248
 svc #0
put:
 mov r0,#1
 mov r1,r8
 mov r2,r9
 mov r7,#4
 svc #0
 cmp r0,#0
 ble fail
 add r8,r8,r0
 subs r9,r9,r0
 bne put
 bx lr
fail:
 mov r0,#9
 mov r7,#248
 svc #0
load:
 clrex
 str r0,current
 add r2,r0,#128
 vldmia r2!,{d0-d15}
 vldmia r2,{d16-d31}
 ldr r1,[r0,#64]
 vmsr fpscr,r1
 ldr r1,[r0,#76]
 str r1,snippet
 ldr r1,[r0,#60]
 msr APSR_nzcvqg,r1
 ldmib r0,{r1-r14}
 ldr r0,[r0]
 ldr pc,snippet
save0:
 str r0,saved
 ldr r0,current
 stmib r0,{r1-r14}
 mrs r1,cpsr
 str r1,[r0,#60]
 mov r1,#0
 b save
save1:
 str r0,saved
 ldr r0,current
 stmib r0,{r1-r14}
 mrs r1,cpsr
 str r1,[r0,#60]
 mov r1,#1
save:
 str r1,[r0,#68]
 ldr r1,saved
 str r1,[r0]
 vmrs r1,fpscr
 str r1,[r0,#64]
 mov r1,#0
 vmsr fpscr,r1
 add r2,r0,#128
 vstmia r2!,{d0-d15}
 vstmia r2,{d16-d31}
 ldr r1,[r0,#72]
 bx r1
 .thumb
save0_thumb:
 bx pc
 nop
 .arm
 b save0
 .thumb
save1_thumb:
 bx pc
 nop
 .arm
 b save1
