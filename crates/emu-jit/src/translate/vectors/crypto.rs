//! AES, SHA-1 and SHA-256 (manual C4.1.97, "Cryptographic AES", "two-register SHA", "three-register SHA"), by
//! the host's AES-NI and SHA extensions (Intel SDM volume 2), which hold the words of SHA in the opposite
//! order.

use super::form::Form;
use super::lanes::{SUB, XOR, lanes};
use crate::layout::{X0, X1, X2};
use crate::translate::{Isa, Lowered, ONE, Translator};
use crossdock_emu_x64::{Map, Prefix, Reg, Rm, Size, Xmm};

const AES_ENCRYPT: u8 = 0xdc;
const AES_ENCRYPT_LAST: u8 = 0xdd;
const AES_DECRYPT: u8 = 0xde;
const AES_DECRYPT_LAST: u8 = 0xdf;
const AES_INVERSE_MIX: u8 = 0xdb;
const SHA1_SCHEDULE_2: u8 = 0xca;
const SHA256_ROUNDS: u8 = 0xcb;
const SHA256_SCHEDULE_1: u8 = 0xcc;
const SHA256_SCHEDULE_2: u8 = 0xcd;

/// PSHUFD's and SHUFPS's operands that reverse four words, or take words 1, 0 and 3, 2.
const REVERSED: u8 = 0b00_01_10_11;
const WORDS_1_0: u8 = 0b00_01_00_01;
const WORDS_3_2: u8 = 0b10_11_10_11;

/// What the host's SHA1RNDS4 adds to each word by itself (FIPS 180-4, 4.2.1); the guest's words have it
/// already.
const SHA1_CONSTANTS: [u64; 3] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc];

impl<I: Isa> Translator<'_, I> {
    /// AESE and AESD end with their permutation, whose order does not matter. The host's instructions end
    /// with a key, here zero. A mixing of columns after one of them makes an ordinary round of the host.
    ///
    /// `pair` says that the next instruction is AESMC or AESIMC, likewise, of the result, in place.
    pub(in crate::translate) fn aes(&mut self, f: Form, pair: bool) -> Lowered {
        let (d, n, opcode) = (f.d, f.n, f.opcode);
        if !self.features.aes {
            return Lowered::No;
        }
        let t = self.vresult(d);
        match opcode {
            0b00100 | 0b00101 => {
                let decrypt = opcode & 1 == 1;
                let a = self.vget(d, X0);
                let key = self.vrm(n);
                self.a.vp(XOR, X0, a, key);
                self.zero(X1);
                let round = match (decrypt, pair) {
                    (false, false) => AES_ENCRYPT_LAST,
                    (false, true) => AES_ENCRYPT,
                    (true, false) => AES_DECRYPT_LAST,
                    (true, true) => AES_DECRYPT,
                };
                self.a.vp38(round, t, X0, X1);
                self.vput(d, t);
                Lowered::Words(1 + usize::from(pair))
            }
            // AESMC: undo a last round, then do a whole one.
            0b00110 => {
                let from = self.vget(n, X0);
                self.zero(X1);
                self.a.vp38(AES_DECRYPT_LAST, X0, from, X1);
                self.a.vp38(AES_ENCRYPT, t, X0, X1);
                self.vput(d, t);
                ONE
            }
            0b00111 => {
                let from = self.vrm(n);
                self.a.vex(Prefix::P66, Map::M0F38, false, AES_INVERSE_MIX, t.0, 0, from);
                self.vput(d, t);
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// SHA1H, SHA1SU1, SHA256SU0.
    pub(in crate::translate) fn sha_two(&mut self, f: Form) -> Lowered {
        let (d, n, opcode) = (f.d, f.n, f.opcode);
        if !self.features.sha {
            return Lowered::No;
        }
        match opcode {
            0b00000 => {
                let from = self.vget(n, X0);
                self.a.vmov_to(Size::D, Reg::RAX, from);
                self.a.rorx(Size::D, Reg::RAX, Reg::RAX, 2);
                let t = self.vresult(d);
                self.a.vmov_from(Size::D, t, Reg::RAX);
                self.vput_scalar(false, d, t, true);
            }
            0b00001 => {
                let (from, old) = (self.vget(n, X0), self.vget(d, X1));
                self.a.vpshufd(X0, from, REVERSED);
                self.a.vpshufd(X1, old, REVERSED);
                self.a.sha(SHA1_SCHEDULE_2, X1, X0);
                self.put_reversed(d, X1);
            }
            0b00010 => {
                let (from, old) = (self.vget(n, X0), self.vget(d, X1));
                let t = if d == n { self.copied(X1, old) } else { old };
                self.a.sha(SHA256_SCHEDULE_1, t, from);
                self.vput(d, t);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// Copies `from` to `to`, and returns `to`.
    fn copied(&mut self, to: Xmm, from: Xmm) -> Xmm {
        if to != from {
            self.a.vload(to, from);
        }
        to
    }

    fn put_reversed(&mut self, d: u8, from: Xmm) {
        let t = self.vresult(d);
        self.a.vpshufd(t, from, REVERSED);
        self.vput(d, t);
    }

    pub(in crate::translate) fn sha_three(&mut self, f: Form) -> Lowered {
        if !self.features.sha {
            return Lowered::No;
        }
        match f.opcode {
            0b000..=0b010 => self.sha1_rounds(f, f.opcode),
            // SHA1SU0.
            0b011 => {
                let (d, n, m) = (f.d, f.n, f.m);
                let old = self.vget(d, X1);
                let behind = self.vrm(n);
                // VSHUFPD: the high half of Vd, the low one of Vn.
                self.a.vex(Prefix::P66, Map::M0F, false, 0xc6, X0.0, old.0, behind);
                self.a.byte(1);
                self.a.vp(XOR, X0, X0, old);
                let (t, third) = (self.vresult(d), self.vrm(m));
                self.a.vp(XOR, t, X0, third);
                self.vput(d, t);
            }
            0b100 => self.sha256_rounds(f, false),
            0b101 => self.sha256_rounds(f, true),
            // SHA256SU1.
            0b110 => {
                let (d, n, m) = (f.d, f.n, f.m);
                let third = self.vget(m, X1);
                let behind = self.vget(n, X0);
                // VPALIGNR by one word.
                self.a.vp3a(0x0f, X0, third, behind, 4);
                let old = self.vrm(d);
                self.a.vp(0xfe, X0, X0, old);
                self.a.sha(SHA256_SCHEDULE_2, X0, third);
                self.vput(d, X0);
            }
            _ => return Lowered::No,
        }
        ONE
    }

    /// SHA1C, SHA1P, SHA1M: the host's function has the same number.
    fn sha1_rounds(&mut self, f: Form, function: u32) {
        let (d, n, m) = (f.d, f.n, f.m);
        let state = self.vget(d, X1);
        self.a.vpshufd(X1, state, REVERSED);
        let added = self.vget(m, X0);
        self.a.vpshufd(X0, added, REVERSED);
        let constant = self.constant(lanes(2, SHA1_CONSTANTS[function as usize]));
        self.a.vp(SUB[2] as u8, X0, X0, constant);
        let e = self.vget(n, X2);
        // VPSLLDQ by 12.
        self.a.vshift_imm(0x73, 7, X2, e, 12);
        self.a.vp(0xfe, X0, X0, X2);
        self.a.sha1_rounds(X1, X0, function as u8);
        self.put_reversed(d, X1);
    }

    /// SHA256H, SHA256H2: four rounds; the former takes a to d from them, the latter e to h.
    fn sha256_rounds(&mut self, f: Form, second: bool) {
        let (d, n, m) = (f.d, f.n, f.m);
        let (abcd, efgh) = if second { (n, d) } else { (d, n) };
        let low = self.vget(efgh, X0);
        let high: Rm = self.vrm(abcd);
        // Registers of the host hold c, d, g, h and a, b, e, f, from the top.
        self.shuffle_words(X1, low, high, WORDS_3_2);
        self.shuffle_words(X2, low, high, WORDS_1_0);
        let added = self.vget(m, X0);
        self.copied(X0, added);
        self.a.sha(SHA256_ROUNDS, X1, X2);
        self.a.vpshufd(X0, X0, 0b11_10_11_10);
        self.a.sha(SHA256_ROUNDS, X2, X1);
        let t = self.vresult(d);
        self.shuffle_words(t, X2, X1.into(), if second { WORDS_1_0 } else { WORDS_3_2 });
        self.vput(d, t);
    }

    /// VSHUFPS: two words of `a` below two of `b`.
    fn shuffle_words(&mut self, d: Xmm, a: Xmm, b: Rm, order: u8) {
        self.a.vex(Prefix::None, Map::M0F, false, 0xc6, d.0, a.0, b);
        self.a.byte(order);
    }
}
