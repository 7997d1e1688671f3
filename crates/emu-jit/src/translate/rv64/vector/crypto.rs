//! Cryptography on groups of four elements, and products without carries: by the host's instructions for
//! them, if it has them.

use super::chunk::{Code, XOR, p, p3a, p38, part};
use super::operand::{Parts, Second};
use super::shape::{Body, Chunk};
use crate::layout::{X0, X1, X2, group};
use crate::translate::Features;
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::{Arithmetic, Crypto};
use crossdock_emu_x64::Xmm;

const AES_ENCRYPT: Code = p38(0xdc);
const AES_ENCRYPT_LAST: Code = p38(0xdd);
const AES_DECRYPT_LAST: Code = p38(0xdf);
/// AESIMC.
const AES_MIX_INVERSE: Code = p38(0xdb);

/// Whether there is code for an operation.
pub(super) fn has_lowering(parts: &Parts, operation: Crypto, features: Features) -> bool {
    match operation {
        Crypto::AesEncrypt | Crypto::AesEncryptLast | Crypto::AesDecrypt | Crypto::AesDecryptLast => {
            features.aes
        }
        Crypto::AesAdd => true,
        Crypto::Sha2Schedule | Crypto::Sha2High | Crypto::Sha2Low => features.sha && parts.shape.sew == 2,
        _ => false,
    }
}

fn quadwords(bytes: u32) -> impl Iterator<Item = Chunk> {
    (0..bytes / 16).map(|i| Chunk { at: 16 * i, bytes: 16 })
}

impl Translator<'_> {
    /// An instruction for SHA of the host, which has no form with VEX. Where 256-bit operations have left
    /// upper halves in use, each of them takes 25 times as long on Intel's CPUs (Sapphire Rapids).
    fn sha(&mut self, opcode: u8, d: Xmm, b: Xmm) {
        self.a.vzeroupper();
        self.a.sha(opcode, d, b);
    }

    /// All groups of elements; vl is what the registers have.
    pub(super) fn vector_crypto(&mut self, parts: &Parts, operation: Crypto) {
        // One round key for all groups.
        let is_scalar = parts.item.code >> 26 == 0b10_1001;
        for chunk in quadwords(parts.shape.bytes()) {
            let (d, v1, v2) = (part(parts.d, chunk), part(parts.v1, chunk), part(parts.v2, chunk));
            let key = if is_scalar { group(parts.v2) } else { v2 };
            match operation {
                Crypto::Sha2High | Crypto::Sha2Low => {
                    // The host has the registers a to h where the guest has them, and takes words from xmm0.
                    self.a.vload(X0, v1);
                    if operation == Crypto::Sha2High {
                        // VPSRLDQ.
                        self.a.vshift_imm(0x73, 3, X0, X0, 8);
                    }
                    self.a.vload(X1, d);
                    self.a.vload(X2, v2);
                    self.sha(0xcb, X1, X2);
                    self.a.vstore(d, X1);
                    continue;
                }
                Crypto::Sha2Schedule => {
                    // The words 4, 9, 10, 11 and 12, -, 14, 15 of the schedule.
                    self.a.vload(X1, v2);
                    self.a.vload(X2, v1);
                    self.a.vload(X0, d);
                    self.sha(0xcc, X0, X1);
                    // VPALIGNR: the words 9 to 12.
                    self.lanes_imm(false, p3a(0x0f), X1, X2, X1, 4);
                    self.lanes(false, p(0xfe), X0, X0, X1);
                    self.sha(0xcd, X0, X2);
                }
                _ => {
                    self.a.vload(X0, d);
                    let code = match operation {
                        Crypto::AesEncrypt => AES_ENCRYPT,
                        Crypto::AesEncryptLast => AES_ENCRYPT_LAST,
                        Crypto::AesAdd => XOR,
                        _ => AES_DECRYPT_LAST,
                    };
                    self.lanes(false, code, X0, X0, key);
                    if operation == Crypto::AesDecrypt {
                        // The guest adds the key before it mixes columns.
                        self.lanes_of_one(false, AES_MIX_INVERSE, X0, X0);
                    }
                }
            }
            self.a.vstore(d, X0);
        }
    }

    /// VCLMUL and VCLMULH.
    pub(super) fn carryless_products(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        if !body.is_whole() {
            self.find_tail(body, 3);
        }
        for chunk in quadwords(parts.shape.bytes()) {
            let is_vector = parts.second() == Second::Vector;
            self.a.vload(X0, part(parts.v2, chunk));
            if is_vector {
                self.a.vload(X2, part(parts.v1, chunk));
            }
            // VPCLMULQDQ of the low elements, and of the high ones.
            self.lanes_imm(false, p3a(0x44), X1, X0, X2, 0x00);
            self.lanes_imm(false, p3a(0x44), X0, X0, X2, 0x11);
            // VPUNPCKLQDQ, VPUNPCKHQDQ.
            let halves = if operation == Arithmetic::Clmul { 0x6c } else { 0x6d };
            self.lanes(false, p(halves), X0, X1, X0);
            self.finish_part(parts.d, chunk, body, 3);
        }
    }
}
