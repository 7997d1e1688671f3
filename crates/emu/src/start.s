# _start: relocates the executable (System V ABI for x86-64, "Relocation"; generic ABI, DT_RELR), then calls
# crossdock_emu_main(stack), where `stack` is the kernel's initial stack: count and vectors.
#
# rbx: the load address minus the address in the file. r12, r13: DT_RELA and its size, then its end. r14, r15:
# the same for DT_RELR. rbp: the stack.

.pushsection .text.crossdock_emu_start,"ax",@progbits
.globl _start
.hidden _DYNAMIC
.hidden __ehdr_start
_start:
    mov rbp, rsp
    and rsp, -16
    lea rbx, [rip + __ehdr_start]
    lea rdx, [rip + _DYNAMIC]
    xor r13d, r13d
    xor r15d, r15d
2:
    mov rax, [rdx]
    mov rcx, [rdx + 8]
    add rdx, 16
    cmp rax, 7  # DT_RELA
    cmove r12, rcx
    cmp rax, 8  # DT_RELASZ
    cmove r13, rcx
    cmp rax, 36  # DT_RELR
    cmove r14, rcx
    cmp rax, 35  # DT_RELRSZ
    cmove r15, rcx
    test rax, rax
    jnz 2b

    # DT_RELA: triples of offset, type and addend. Types other than R_X86_64_RELATIVE are for functions that
    # the C library would choose. Nobody calls these; a call would fault at a place whose name says so.
    add r12, rbx
    add r13, r12
    jmp 4f
3:
    mov rdx, [r12]
    mov rax, [r12 + 16]
    add rax, rbx
    lea rcx, [rip + crossdock_emu_function_not_chosen]
    cmp dword ptr [r12 + 8], 8
    cmovne rax, rcx
    mov [rbx + rdx], rax
    add r12, 24
4:
    cmp r12, r13
    jb 3b

    # Populates all pages that are written, at once (madvise, MADV_POPULATE_WRITE): from the first relocation
    # to the end of the data in the file.
    mov rdi, [rbx + r14]
    and rdi, -4096
    add rdi, rbx
    lea rsi, [rip + _edata + 4095]
    and rsi, -4096
    sub rsi, rdi
    mov edx, 23
    mov eax, 28
    syscall

    # DT_RELR: an even word is the address of a relocation; an odd word has a bit for each of the next 63
    # words.
    add r14, rbx
    add r15, r14
    jmp 9f
5:
    mov rax, [r14]
    add r14, 8
    test al, 1
    jnz 6f
    add rax, rbx
    add [rax], rbx
    lea rdx, [rax + 8]
    jmp 9f
6:
    shr rax
    mov rsi, rdx
    jmp 8f
7:
    # TZCNT, which is BSF on a host that does not have it: the word is not zero, so both find the same bit, but
    # BSF takes several times as long on some hosts.
    rep bsf rcx, rax
    add [rsi + 8 * rcx], rbx
    lea rcx, [rax - 1]
    and rax, rcx
8:
    test rax, rax
    jnz 7b
    add rdx, 8 * 63
9:
    cmp r14, r15
    jb 5b

    mov rdi, rbp
    xor ebp, ebp
    call crossdock_emu_main
crossdock_emu_function_not_chosen:
    hlt
.popsection
