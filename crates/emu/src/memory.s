# memcpy and memmove in one, memset, memcmp and strlen (ISO C), by the System V ABI. Any x86-64 CPU.
#
# Short pieces are copied from both ends, which may overlap, so there is no loop. All bytes are read before
# any is written, except in the loops, which go in the direction that is safe. REP is quick for long pieces
# only.

.pushsection .text.crossdock_emu_memory,"ax",@progbits
.irp name,memcpy,memset,memcmp,strlen
.globl crossdock_emu_\name
.hidden crossdock_emu_\name
.type crossdock_emu_\name, @function
.endr

.p2align 5
crossdock_emu_memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb 2f
    cmp rdx, 32
    ja 5f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret
2:
    cmp edx, 8
    jb 3f
    mov rcx, [rsi]
    mov rsi, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], rsi
    ret
3:
    cmp edx, 4
    jb 4f
    mov ecx, [rsi]
    mov esi, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], esi
    ret
4:
    test edx, edx
    jz 1f
    mov r9, rdx
    shr r9
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    movzx esi, byte ptr [rsi + r9]
    mov [rdi], cl
    mov [rdi + r9], sil
    mov [rdi + rdx - 1], r8b
1:
    ret
5:
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm6, [rsi + rdx - 32]
    movups xmm7, [rsi + rdx - 16]
    cmp rdx, 64
    ja 6f
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + rdx - 32], xmm6
    movups [rdi + rdx - 16], xmm7
    ret
6:
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    movups xmm4, [rsi + rdx - 64]
    movups xmm5, [rsi + rdx - 48]
    mov rcx, rdi
    sub rcx, rsi
    cmp rdx, 128
    jbe 9f
    # Backwards, down to the first 64 bytes, if the destination begins inside the source.
    cmp rcx, rdx
    jb 8f
    lea r8, [rdi + rdx - 64]
    cmp rdx, 2048
    jb 7f
    mov rcx, rdx
    rep movsb
    ret
    # Forwards, up to the last 64 bytes.
7:
    movups xmm0, [rsi]
    movups xmm1, [rsi + 16]
    movups xmm2, [rsi + 32]
    movups xmm3, [rsi + 48]
    add rsi, 64
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    add rdi, 64
    cmp rdi, r8
    jb 7b
    movups [r8], xmm4
    movups [r8 + 16], xmm5
    movups [r8 + 32], xmm6
    movups [r8 + 48], xmm7
    ret
8:
    movups xmm4, [rsi + rdx - 64]
    movups xmm5, [rsi + rdx - 48]
    movups xmm6, [rsi + rdx - 32]
    movups xmm7, [rsi + rdx - 16]
    movups [rdi + rdx - 64], xmm4
    movups [rdi + rdx - 48], xmm5
    movups [rdi + rdx - 32], xmm6
    movups [rdi + rdx - 16], xmm7
    sub rdx, 64
    cmp rdx, 64
    ja 8b
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    ret
9:
    movups [rdi], xmm0
    movups [rdi + 16], xmm1
    movups [rdi + 32], xmm2
    movups [rdi + 48], xmm3
    movups [rdi + rdx - 64], xmm4
    movups [rdi + rdx - 48], xmm5
    movups [rdi + rdx - 32], xmm6
    movups [rdi + rdx - 16], xmm7
    ret

.p2align 5
crossdock_emu_memset:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    movq xmm0, rax
    cmp rdx, 16
    jb 2f
    punpcklqdq xmm0, xmm0
    lea r9, [rdi + rdx - 16]
    cmp rdx, 2048
    jb 1f
    mov rcx, rdx
    rep stosb
    mov rax, r8
    ret
1:
    movups [rdi], xmm0
    add rdi, 16
    cmp rdi, r9
    jb 1b
    movups [r9], xmm0
    mov rax, r8
    ret
2:
    cmp edx, 8
    jb 3f
    mov [rdi], rax
    mov [rdi + rdx - 8], rax
    mov rax, r8
    ret
3:
    cmp edx, 4
    jb 4f
    mov [rdi], eax
    mov [rdi + rdx - 4], eax
    mov rax, r8
    ret
4:
    test edx, edx
    jz 5f
    mov [rdi], al
    mov [rdi + rdx - 1], al
    shr edx
    mov [rdi + rdx], al
5:
    mov rax, r8
    ret

.p2align 5
crossdock_emu_memcmp:
    xor ecx, ecx
    sub rdx, 16
    jb 3f
1:
    movups xmm0, [rdi + rcx]
    movups xmm1, [rsi + rcx]
    pcmpeqb xmm0, xmm1
    pmovmskb eax, xmm0
    xor eax, 0xffff
    jnz 2f
    # The last 16 bytes may overlap bytes that are already compared.
    cmp rcx, rdx
    jae 5f
    add rcx, 16
    cmp rcx, rdx
    cmova rcx, rdx
    jmp 1b
2:
    bsf eax, eax
    add rcx, rax
    movzx eax, byte ptr [rdi + rcx]
    movzx edx, byte ptr [rsi + rcx]
    sub eax, edx
    ret
3:
    add rdx, 16
    jz 5f
4:
    movzx eax, byte ptr [rdi + rcx]
    movzx r8d, byte ptr [rsi + rcx]
    sub eax, r8d
    jnz 6f
    inc rcx
    cmp rcx, rdx
    jb 4b
5:
    xor eax, eax
6:
    ret

.p2align 5
crossdock_emu_strlen:
    mov rax, rdi
1:
    cmp byte ptr [rax], 0
    je 2f
    inc rax
    jmp 1b
2:
    sub rax, rdi
    ret
.popsection
