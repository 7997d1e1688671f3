//! A small assembler for classic BPF as seccomp runs it: loads from `struct seccomp_data`, comparisons,
//! forward jumps.
//!
//! Conditional jumps reach only 255 instructions, so a far one goes through an unconditional jump, which
//! reaches further.

use libc::sock_filter;

// Operation codes of linux/bpf_common.h.
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

/// A word of `struct seccomp_data`.
#[derive(Clone, Copy)]
pub enum Field {
    /// Number of the call.
    Number,
    /// Its ABI.
    Arch,
    /// Lower half of an argument; the filtered calls use no more.
    Argument(u32),
}

impl Field {
    fn offset(self) -> u32 {
        match self {
            Field::Number => 0,
            Field::Arch => 4,
            // Behind the instruction pointer, 8 bytes each, the lower half first on little-endian machines.
            Field::Argument(n) => 16 + 8 * n,
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The call is made.
    Allow,
    /// The call is not made and returns this error; 0 is success.
    Errno(i32),
    /// EPERM if the argument has one of the bits.
    RefuseBits { argument: u32, bits: u32 },
    /// EPERM if the argument is one of the values.
    RefuseValues { argument: u32, values: &'static [u32] },
    /// EPERM unless the argument is one of the values.
    AllowValues { argument: u32, values: &'static [u32] },
}

/// A jump whose target is not known yet.
#[must_use]
pub struct Jump(usize);

/// Collects instructions.
#[derive(Default)]
pub struct Assembler(Vec<sock_filter>);

impl Assembler {
    fn push(&mut self, code: u16, k: u32, jt: u8, jf: u8) {
        self.0.push(sock_filter { code, jt, jf, k });
    }

    /// Loads a field for the comparisons that follow.
    pub fn load(&mut self, field: Field) {
        self.push(LOAD_WORD, field.offset(), 0, 0);
    }

    /// Goes on if the loaded word is the value, otherwise jumps.
    pub fn jump_unless_equal(&mut self, value: u32) -> Jump {
        self.push(JUMP_EQUAL, value, 1, 0);
        self.jump()
    }

    /// Goes on if the loaded word is below the value, otherwise jumps.
    pub fn jump_if_at_least(&mut self, value: u32) -> Jump {
        self.push(JUMP_AT_LEAST, value, 0, 1);
        self.jump()
    }

    fn jump(&mut self) -> Jump {
        self.push(JUMP, 0, 0, 0);
        Jump(self.0.len() - 1)
    }

    /// Makes the jump lead here.
    pub fn land(&mut self, jump: Jump) {
        self.0[jump.0].k = (self.0.len() - jump.0 - 1) as u32;
    }

    /// Finds the range of the loaded word by binary search and decides.
    pub fn search(&mut self, ranges: &[(u32, Decision)]) {
        match ranges {
            [] => self.decide(&Decision::Allow),
            [(_, decision)] => self.decide(decision),
            _ => {
                let (below, above) = ranges.split_at(ranges.len() / 2);
                let right = self.jump_if_at_least(above[0].0);
                self.search(below);
                self.land(right);
                self.search(above);
            }
        }
    }

    /// Decides, and ends the program.
    pub fn decide(&mut self, decision: &Decision) {
        const REFUSE: Decision = Decision::Errno(libc::EPERM);
        match decision {
            Decision::Allow => self.push(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0),
            Decision::Errno(errno) => self.push(RETURN, libc::SECCOMP_RET_ERRNO | *errno as u32, 0, 0),
            Decision::RefuseBits { argument, bits } => {
                self.load(Field::Argument(*argument));
                self.push(JUMP_BITS, *bits, 0, 1);
                self.decide(&REFUSE);
                self.decide(&Decision::Allow);
            }
            Decision::RefuseValues { argument, values } => {
                self.load(Field::Argument(*argument));
                for value in *values {
                    self.push(JUMP_EQUAL, *value, 0, 1);
                    self.decide(&REFUSE);
                }
                self.decide(&Decision::Allow);
            }
            Decision::AllowValues { argument, values } => {
                self.load(Field::Argument(*argument));
                for value in *values {
                    self.push(JUMP_EQUAL, *value, 0, 1);
                    self.decide(&Decision::Allow);
                }
                self.decide(&REFUSE);
            }
        }
    }

    /// The program.
    pub fn finish(self) -> Vec<sock_filter> {
        self.0
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Runs a filter as the kernel would and returns its action.
    pub fn evaluate(program: &[sock_filter], number: u32, arch: u32, arguments: [u64; 6]) -> u32 {
        let word = |offset: u32| match offset {
            0 => number,
            4 => arch,
            _ => arguments[(offset as usize - 16) / 8] as u32,
        };
        let (mut pc, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[pc];
            let branch = |taken: bool| if taken { usize::from(jt) } else { usize::from(jf) };
            pc += 1 + match code {
                LOAD_WORD => {
                    accumulator = word(k);
                    0
                }
                JUMP => k as usize,
                JUMP_EQUAL => branch(accumulator == k),
                JUMP_AT_LEAST => branch(accumulator >= k),
                JUMP_BITS => branch(accumulator & k != 0),
                RETURN => return k,
                other => panic!("unknown instruction {other:#x}"),
            };
        }
    }

    #[test]
    fn a_search_finds_every_range() {
        let ranges: Vec<_> = (0..100).map(|n| (n * 3, Decision::Errno(n as i32))).collect();
        let mut assembler = Assembler::default();
        assembler.load(Field::Number);
        assembler.search(&ranges);
        let program = assembler.finish();
        for number in 0..400 {
            let expect = libc::SECCOMP_RET_ERRNO | (number / 3).min(99);
            assert_eq!(evaluate(&program, number, 0, [0; 6]), expect, "{number}");
        }
    }
}
