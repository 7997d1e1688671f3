//! The assembler's bytes, decoded by iced-x86.

// Tables of expected texts and of functions that write the code.
#![allow(clippy::type_complexity)]

use crossdock_emu_x64::{Alu, Assembler, Cc, Map, Mem, Prefix, Reg, Shift, Size, Xmm};
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};

/// The instructions written by `write`, as text.
fn text(write: impl FnOnce(&mut Assembler)) -> String {
    let mut assembler = Assembler::new();
    write(&mut assembler);
    let bytes = assembler.finish().to_vec();
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_uppercase_hex(false);
    let mut texts = Vec::new();
    for instruction in &mut Decoder::with_ip(64, &bytes, 0, DecoderOptions::NONE) {
        assert!(!instruction.is_invalid(), "{bytes:02x?}");
        let mut one = String::new();
        formatter.format(&instruction, &mut one);
        texts.push(one);
    }
    texts.join("; ")
}

const REGISTERS: [[&str; 4]; 16] = [
    ["al", "ax", "eax", "rax"],
    ["cl", "cx", "ecx", "rcx"],
    ["dl", "dx", "edx", "rdx"],
    ["bl", "bx", "ebx", "rbx"],
    ["spl", "sp", "esp", "rsp"],
    ["bpl", "bp", "ebp", "rbp"],
    ["sil", "si", "esi", "rsi"],
    ["dil", "di", "edi", "rdi"],
    ["r8b", "r8w", "r8d", "r8"],
    ["r9b", "r9w", "r9d", "r9"],
    ["r10b", "r10w", "r10d", "r10"],
    ["r11b", "r11w", "r11d", "r11"],
    ["r12b", "r12w", "r12d", "r12"],
    ["r13b", "r13w", "r13d", "r13"],
    ["r14b", "r14w", "r14d", "r14"],
    ["r15b", "r15w", "r15d", "r15"],
];

fn registers() -> impl Iterator<Item = (Reg, [&'static str; 4])> {
    (0..16).map(|n| (Reg(n), REGISTERS[n as usize]))
}

/// Memory operands of every form, with their text.
fn memories() -> Vec<(Mem, String)> {
    let mut all = Vec::new();
    for (base, [.., name]) in registers() {
        for (disp, text) in
            [(0, String::new()), (8, "+8".into()), (-128, "-80h".into()), (1000, "+3e8h".into())]
        {
            all.push((Mem::at(base, disp), format!("[{name}{text}]")));
            for (index, [.., index_name]) in registers().filter(|&(index, _)| index != Reg::RSP) {
                for shift in 0..4 {
                    let scaled = match shift {
                        0 => format!("+{index_name}"),
                        _ => format!("+{index_name}*{}", 1 << shift),
                    };
                    let mem = Mem { base, index: Some((index, shift)), disp };
                    all.push((mem, format!("[{name}{scaled}{text}]")));
                }
            }
        }
    }
    all
}

#[test]
fn memory_operands() {
    for (mem, expected) in memories() {
        assert_eq!(text(|a| a.mov(Size::Q, Reg::R9, mem)), format!("mov r9,{expected}"));
        assert_eq!(text(|a| a.vload(Xmm(9), mem)), format!("vmovdqu xmm9,{expected}"));
        assert_eq!(text(|a| a.vp38(0x00, Xmm(3), Xmm(12), mem)), format!("vpshufb xmm3,xmm12,{expected}"));
    }
}

#[test]
fn register_operands() {
    for (a, [a8, a16, a32, a64]) in registers() {
        for (b, [b8, b16, b32, b64]) in registers() {
            for (op, name) in [
                (Alu::Add, "add"),
                (Alu::Or, "or"),
                (Alu::Adc, "adc"),
                (Alu::Sbb, "sbb"),
                (Alu::And, "and"),
                (Alu::Sub, "sub"),
                (Alu::Xor, "xor"),
                (Alu::Cmp, "cmp"),
            ] {
                assert_eq!(text(|x| x.alu(op, Size::Q, a, b)), format!("{name} {a64},{b64}"));
                assert_eq!(text(|x| x.alu_to(op, Size::D, a, b)), format!("{name} {a32},{b32}"));
            }
            let cases: [(String, &dyn Fn(&mut Assembler)); 26] = [
                (format!("test {a64},{b64}"), &|x| x.test(Size::Q, a, b)),
                (format!("mov {a32},{b32}"), &|x| x.mov(Size::D, a, b)),
                (format!("mov {a64},{b64}"), &|x| x.mov_to(Size::Q, a, b)),
                (format!("movzx {a32},{b8}"), &|x| x.movzx8(a, b)),
                (format!("movzx {a32},{b16}"), &|x| x.movzx16(a, b)),
                (format!("movsx {a64},{b8}"), &|x| x.movsx8(Size::Q, a, b)),
                (format!("movsx {a32},{b16}"), &|x| x.movsx16(Size::D, a, b)),
                (format!("movsxd {a64},{b32}"), &|x| x.movsxd(a, b)),
                (format!("imul {a64},{b64}"), &|x| x.imul(Size::Q, a, b)),
                (format!("lzcnt {a32},{b32}"), &|x| x.lzcnt(Size::D, a, b)),
                (format!("tzcnt {a32},{b32}"), &|x| x.tzcnt(Size::D, a, b)),
                (format!("popcnt {a64},{b64}"), &|x| x.popcnt(Size::Q, a, b)),
                (format!("crc32 {a32},{b8}"), &|x| x.crc32(a, b, 0)),
                (format!("crc32 {a32},{b16}"), &|x| x.crc32(a, b, 1)),
                (format!("crc32 {a64},{b64}"), &|x| x.crc32(a, b, 3)),
                (format!("cmovle {a64},{b64}"), &|x| x.cmov(Cc::Le, Size::Q, a, b)),
                (format!("shrd {a64},{b64},5"), &|x| x.shrd(Size::Q, a, b, 5)),
                (format!("shlx {a64},{b64},{a64}"), &|x| x.shiftx(Shift::Shl, Size::Q, a, b, a)),
                (format!("shrx {a32},{b32},{b32}"), &|x| x.shiftx(Shift::Shr, Size::D, a, b, b)),
                (format!("sarx {a64},{b64},{a64}"), &|x| x.shiftx(Shift::Sar, Size::Q, a, b, a)),
                (format!("rorx {a64},{b64},63"), &|x| x.rorx(Size::Q, a, b, 63)),
                (format!("andn {a64},{b64},{a64}"), &|x| x.andn(Size::Q, a, b, a)),
                (format!("mulx {a64},{b64},{b64}"), &|x| x.mulx(Size::Q, a, b, b)),
                (format!("mov [{a64}],{b8}").replace("r12]", "r12]"), &|x| x.store8(Mem::at(a, 0), b)),
                (format!("mov [{a64}],{b16}"), &|x| x.store16(Mem::at(a, 0), b)),
                (format!("mov [{a64}],{b64}"), &|x| x.mov_to(Size::Q, Mem::at(a, 0), b)),
            ];
            for (expected, write) in cases {
                // NASM writes numbers above 9 in hexadecimal.
                assert_eq!(text(write), expected.replace(",63", ",3fh"));
            }
        }
        let cases: [(String, &dyn Fn(&mut Assembler)); 19] = [
            (format!("push {a64}; pop {a64}"), &|x| {
                x.push(a);
                x.pop(a);
            }),
            (format!("bswap {a32}"), &|x| x.bswap(Size::D, a)),
            (format!("bswap {a64}"), &|x| x.bswap(Size::Q, a)),
            (format!("setb {a8}"), &|x| x.set(Cc::B, a)),
            (format!("not {a32}"), &|x| x.not(Size::D, a)),
            (format!("neg {a64}"), &|x| x.neg(Size::Q, a)),
            (format!("mul {a64}"), &|x| x.mul(Size::Q, a)),
            (format!("imul {a64}"), &|x| x.imul_wide(Size::Q, a)),
            (format!("div {a32}"), &|x| x.div(Size::D, a)),
            (format!("idiv {a64}"), &|x| x.idiv(Size::Q, a)),
            (format!("bt {a64},21h"), &|x| x.bit_test(Size::Q, a, 33)),
            (format!("ror {a64},cl"), &|x| x.shift_cl(Shift::Ror, Size::Q, a)),
            (format!("sar {a32},7"), &|x| x.shift_imm(Shift::Sar, Size::D, a, 7)),
            (format!("rol {a16},8"), &|x| x.rol16(a, 8)),
            (format!("test {a8},80h"), &|x| x.test_imm8(a, 0x80)),
            (format!("jmp {a64}"), &|x| x.jump_indirect(a)),
            (format!("call {a64}"), &|x| x.call_indirect(a)),
            (format!("mov {a32},12345678h"), &|x| x.mov_imm(a, 0x1234_5678)),
            (format!("mov {a64},123456789abcdef0h"), &|x| x.mov_imm(a, 0x1234_5678_9abc_def0)),
        ];
        for (expected, write) in cases {
            assert_eq!(text(write), expected);
        }
    }
}

#[test]
fn the_rest() {
    let m = Mem::at(Reg::RBP, 16);
    let cases: [(&str, &dyn Fn(&mut Assembler)); 46] = [
        ("lock xadd [rbp+10h],cl", &|x| x.lock_xadd(0, m, Reg::RCX)),
        ("lock xadd [rbp+10h],sil", &|x| x.lock_xadd(0, m, Reg::RSI)),
        ("lock xadd [rbp+10h],r9w", &|x| x.lock_xadd(1, m, Reg::R9)),
        ("lock cmpxchg [rbp+10h],ecx", &|x| x.lock_cmpxchg(2, m, Reg::RCX)),
        ("lock cmpxchg [rbp+10h],r9", &|x| x.lock_cmpxchg(3, m, Reg::R9)),
        ("xchg rax,[rbp+10h]", &|x| x.xchg(3, m, Reg::RAX)),
        ("mov qword [rbp+10h],0ffffffffffffffffh", &|x| x.mov_imm32(Size::Q, m, -1)),
        ("cmp dword [rbp+10h],0", &|x| x.alu_imm(Alu::Cmp, Size::D, m, 0)),
        ("and rcx,0fffffffffffff000h", &|x| x.alu_imm(Alu::And, Size::Q, Reg::RCX, -4096)),
        ("test dword [rbp+10h],100h", &|x| x.test_imm(Size::D, m, 256)),
        ("lahf; seto al; mov [rbp+10h],eax", &|x| x.store_lahf_seto(m)),
        ("sahf; cmc; ret", &|x| {
            x.sahf();
            x.cmc();
            x.ret();
        }),
        ("add al,7fh", &|x| x.add_al(0x7f)),
        ("cdq; cqo", &|x| {
            x.sign_to_rdx(Size::D);
            x.sign_to_rdx(Size::Q);
        }),
        ("mfence; pause", &|x| {
            x.mfence();
            x.pause();
        }),
        ("ldmxcsr [rbp+10h]; stmxcsr [rbp+10h]", &|x| {
            x.ldmxcsr(m);
            x.stmxcsr(m);
        }),
        ("lea r13d,[rbp+10h]", &|x| x.lea(Size::D, Reg::R13, m)),
        ("vmovaps xmm9,xmm10", &|x| x.vload(Xmm(9), Xmm(10))),
        ("vmovdqu [rbp+10h],xmm8", &|x| x.vstore(m, Xmm(8))),
        ("vmovq xmm1,xmm9", &|x| x.vmovq(Xmm(1), Xmm(9))),
        ("vmovddup xmm9,[rbp+10h]", &|x| x.vmovddup(Xmm(9), m)),
        ("vmovq [rbp+10h],xmm9", &|x| x.vstore_q(m, Xmm(9))),
        ("vmovq xmm9,rax", &|x| x.vmov_from(Size::Q, Xmm(9), Reg::RAX)),
        ("vmovd xmm9,[rbp+10h]", &|x| x.vmov_from(Size::D, Xmm(9), m)),
        ("vmovd r9d,xmm1", &|x| x.vmov_to(Size::D, Reg::R9, Xmm(1))),
        ("vaddsd xmm1,xmm9,xmm10", &|x| x.vscalar(true, 0x58, Xmm(1), Xmm(9), Xmm(10))),
        ("vdivss xmm1,xmm9,[rbp+10h]", &|x| x.vscalar(false, 0x5e, Xmm(1), Xmm(9), m)),
        ("vmulpd xmm11,xmm9,xmm10", &|x| x.vpacked(true, 0x59, Xmm(11), Xmm(9), Xmm(10))),
        ("vucomisd xmm9,xmm10", &|x| x.vucomis(true, Xmm(9), Xmm(10))),
        ("vcomiss xmm1,xmm2", &|x| x.vcomis(false, Xmm(1), Xmm(2))),
        ("vpslld xmm9,xmm10,5", &|x| x.vshift_imm(0x72, 6, Xmm(9), Xmm(10), 5)),
        ("vfmadd231sd xmm1,xmm2,xmm9", &|x| x.vex(Prefix::P66, Map::M0F38, true, 0xb9, 1, 2, Xmm(9))),
        ("vcvtsi2sd xmm9,xmm1,rax", &|x| x.vconvert(true, Size::Q, 0x2a, 9, 1, Reg::RAX)),
        ("vcvttss2si eax,xmm9", &|x| x.vconvert(false, Size::D, 0x2c, 0, 0, Xmm(9))),
        ("vfnmadd231ss xmm9,xmm1,[rbp+10h]", &|x| x.vfused(false, 0xbd, Xmm(9), Xmm(1), m)),
        ("sha256rnds2 xmm1,xmm15,xmm0", &|x| x.sha(0xcb, Xmm(1), Xmm(15))),
        ("sha256msg2 xmm12,xmm3", &|x| x.sha(0xcd, Xmm(12), Xmm(3))),
        ("sha1rnds4 xmm15,xmm0,2", &|x| x.sha1_rounds(Xmm(15), Xmm(0), 2)),
        ("vpshufd xmm9,xmm10,0eeh", &|x| x.vpshufd(Xmm(9), Xmm(10), 0xee)),
        ("vpaddd ymm9,ymm10,[rbp+10h]", &|x| {
            x.vex_of_length(true, (Prefix::P66, Map::M0F, false, 0xfe), 9, 10, m.into());
        }),
        ("vpsllvq ymm1,ymm2,ymm3", &|x| {
            x.vex_of_length(true, (Prefix::P66, Map::M0F38, true, 0x47), 1, 2, Xmm(3).into());
        }),
        ("bt [rbp+10h],rcx", &|x| x.bit_test_by(Size::Q, m, Reg::RCX)),
        ("vpbroadcastb xmm9,[rbp+10h]", &|x| x.vbroadcast(0, Xmm(9), m)),
        ("vpbroadcastq xmm1,xmm10", &|x| x.vbroadcast(3, Xmm(1), Xmm(10))),
        ("vpaddb xmm9,xmm10,[rel 9]; ret", &|x| {
            let label = x.label();
            x.vp(0xfc, Xmm(9), Xmm(10), label);
            x.ret();
            x.bind(label);
        }),
        ("vucomisd xmm1,[rel 8]", &|x| {
            let label = x.label();
            x.vucomis(true, Xmm(1), label);
            x.bind(label);
        }),
    ];
    for (expected, write) in cases {
        assert_eq!(text(write), expected);
    }
}

#[test]
fn jumps_land_where_they_should() {
    let jumps = |a: &mut Assembler| {
        let (back, ahead) = (a.label(), a.label());
        a.bind(back);
        let skip = a.skip_if(Cc::Ne);
        a.jump(ahead);
        a.land(skip);
        a.jump_if(Cc::G, back);
        a.bind(ahead);
        a.call(back);
        a.lea_label(Reg::R9, back);
        a.jump_rel(-5);
        a.mov_imm32_and_jump_rel(Reg::RBP, 0x300, -2, 0x10);
        assert_eq!(a.aligned_jump(), 48);
    };
    // A NOP of two bytes is XCHG of a register with itself.
    assert_eq!(
        text(jumps),
        "jne short 7; jmp 000000000000000dh; jg near 0; call 0; lea r9,[rel 0]; jmp 0000000000000019h; \
         mov dword [rbp+300h],0fffffffeh; jmp 000000000000003dh; xchg ax,ax; jmp 0000000000000034h"
    );
}

#[test]
#[should_panic(expected = "not bound")]
fn a_label_that_is_not_bound_is_a_bug() {
    let mut a = Assembler::new();
    let label = a.label();
    a.jump(label);
    a.finish();
}
