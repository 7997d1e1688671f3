//! Prints the nanoseconds per guest instruction of small loops in the interpreter. Run it with `--release`.
//! With an argument, only the loops whose names contain it run: so a profiler that counts instructions sees
//! one loop.

use crossdock_emu_guest::a64::{Exit, Host, Interpreter, Invalidations, State};
use crossdock_emu_guest::memory::Memory;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

fn main() {
    // Each body runs between "loop:" and "subs x1, x1, #1; b.ne loop".
    let bodies: &[(&str, &[u32])] = &[
        // add x0,x0,x1; eor x2,x0,x1,lsl#3; and x3,x2,#0xff; madd x4,x3,x0,x4; csel x5,x4,x3,ne; ubfx
        // x6,x5,#3,#7
        ("integer", &[0x8b01_0000, 0xca01_0c02, 0x9240_1c43, 0x9b00_1064, 0x9a83_1085, 0xd343_24a6]),
        // ldr x0,[x9]; ldrb w2,[x9,#3]; str x0,[x9,#8]; ldp x3,x4,[x9,#16]; stp x3,x4,[x9,#32]; ldr
        // x5,[x9,x10,lsl#3]
        ("loads and stores", &[0xf940_0120, 0x3940_0d22, 0xf900_0520, 0xa941_1123, 0xa902_1123, 0xf86a_7925]),
        // fadd d0,d0,d1; fmul d2,d0,d1; fsub d3,d2,d1; fdiv d4,d3,d1; fmul d5,d4,d1; fadd d6,d5,d1
        (
            "double arithmetic",
            &[0x1e61_2800, 0x1e61_0802, 0x1e61_3843, 0x1e61_1864, 0x1e61_0885, 0x1e61_28a6],
        ),
        // fmadd d2,d0,d1,d3 and fsqrt d4,d2
        ("fused multiply-add, square root", &[0x1f41_0c02, 0x1e61_c044]),
        // add v0.16b,v0.16b,v1.16b; eor v2.16b,v0.16b,v1.16b; cmeq v3.16b,v2.16b,v1.16b; add
        // v4.4s,v3.4s,v0.4s
        ("vectors of integers", &[0x4e21_8400, 0x6e21_1c02, 0x6e21_8c43, 0x4ea0_8464]),
        // fmla v0.4s,v1.4s,v2.4s; fadd v3.4s,v0.4s,v1.4s
        ("vectors of floats", &[0x4e22_cc20, 0x4e21_d403]),
        // fadd d2,d0,d1; fmul d3,d0,d1; fdiv d4,d0,d1; fsqrt d5,d1; fmadd d6,d0,d1,d3
        ("double arithmetic, flushing", &[0x1e61_2802, 0x1e61_0803, 0x1e61_1804, 0x1e61_c025, 0x1f41_0c06]),
        // fcmp d0,d1; fmax d2,d0,d1; fminnm d3,d2,d1
        ("double comparisons", &[0x1e61_2000, 0x1e61_4802, 0x1e61_7843]),
        // fcvtzs x2,d1; scvtf d4,x2; frinta d5,d1; fcvt s6,d1
        ("double conversions", &[0x9e78_0022, 0x9e62_0044, 0x1e66_4025, 0x1e62_4026]),
        // fcmgt v3.4s,v0.4s,v1.4s; fmax v4.4s,v0.4s,v1.4s
        ("vectors of floats, comparisons", &[0x6ea1_e403, 0x4e21_f404]),
        // fcvtzs v5.4s,v1.4s; scvtf v6.4s,v5.4s; fcvtl v18.2d,v1.2s
        ("vectors of floats, conversions", &[0x4ea1_b825, 0x4e21_d8a6, 0x0e61_7832]),
        // frecpe v7.4s,v1.4s; frecps v16.4s,v7.4s,v1.4s; fmulx v17.4s,v0.4s,v1.4s
        ("vectors of floats, reciprocals", &[0x4ea1_d827, 0x4e21_fcf0, 0x4e21_dc11]),
        // bl to the ret; b over the ret; ret: a call and its return
        ("calls", &[0x9400_0002, 0x1400_0002, 0xd65f_03c0]),
    ];
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, body) in bodies.iter().filter(|(name, _)| name.contains(&wanted)) {
        let mut code = body.to_vec();
        code.push(0xf100_0421);
        code.push(0x5400_0001 | ((-(code.len() as i32)) as u32 & 0x7_ffff) << 5);
        code.push(0xd400_0001);
        let mut words = vec![0u32; 2048];
        words[..code.len()].copy_from_slice(&code);
        let start = words.as_mut_ptr() as u64;
        // SAFETY: the window is the buffer, which nobody else uses while the interpreter runs.
        let memory = unsafe { Memory::new(start, start + words.len() as u64 * 4) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let log = Invalidations::new();
        let mut interpreter = Interpreter::new(&log);
        let mut state = State::default();
        let count = 1_000_000u64;
        state.pc = start;
        state.set_x(1, count);
        state.set_x(9, start + 4096);
        state.set_x(10, 5);
        state.v[1] = u128::from(1.000_000_1f64.to_bits());
        if name.contains("floats") {
            state.v[1] = 0x3f80_0001_3f80_0001_3f80_0001_3f80_0001;
        }
        state.v[2] = state.v[1];
        state.v[3] = state.v[1];
        state.v[0] = state.v[1];
        if name.contains("flushing") {
            // FZ.
            state.fpcr = 1 << 24;
        }
        let begin = Instant::now();
        let exit = interpreter.run(&mut state, &host, &AtomicU32::new(0), u64::MAX);
        let time = begin.elapsed();
        assert_eq!(exit, Exit::Syscall(0));
        let instructions = count * (body.len() as u64 + 2);
        println!("{name:32} {:6.2} ns", time.as_nanos() as f64 / instructions as f64);
    }
}
