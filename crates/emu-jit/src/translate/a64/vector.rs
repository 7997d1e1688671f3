//! Advanced SIMD (manual C4.1.97): which class a word belongs to, and its [`Form`].

use super::float::{vd, vm, vn};
use super::{Lowered, Translator, bit, bits};
use crate::translate::vectors::form::Form;

/// The fields that all classes have; the operation has 5 bits.
fn form(word: u32) -> Form {
    Form {
        d: vd(word),
        n: vn(word),
        m: vm(word),
        lane: None,
        opcode: bits(word, 15, 11),
        unsigned: bit(word, 29),
        size: bits(word, 23, 22) as usize,
        q: bit(word, 30) && !bit(word, 28),
        scalar: bit(word, 28),
        imm: 0,
    }
}

/// The form of a word whose operation has 4 bits.
fn wide_form(word: u32) -> Form {
    Form { opcode: bits(word, 15, 12), ..form(word) }
}

/// The form of a word with two registers, or across lanes.
fn two_form(word: u32) -> Form {
    Form { opcode: bits(word, 16, 12), ..form(word) }
}

/// The register and the lane of an element of `8 << size` bits.
fn element_of(word: u32, size: u32) -> (u8, u8) {
    let (h, l, m) = (u8::from(bit(word, 11)), u8::from(bit(word, 21)), u8::from(bit(word, 20)));
    match size {
        1 => (vm(word) & 15, h << 2 | l << 1 | m),
        2 => (vm(word), h << 1 | l),
        _ => (vm(word), h),
    }
}

impl Translator<'_> {
    pub(super) fn vector(&mut self, word: u32) -> Lowered {
        let scalar = bit(word, 28);
        if bit(word, 31) || scalar && !bit(word, 30) {
            return Lowered::No;
        }
        match (bit(word, 24), bit(word, 21), bits(word, 11, 10)) {
            (true, _, 1 | 3) if bit(word, 23) => Lowered::No,
            (true, _, 1 | 3) if bits(word, 22, 19) == 0 && !scalar => self.vector_immediate(word),
            (true, _, 1 | 3) => self.vector_shift(word),
            (true, ..) => self.vector_element(word),
            (false, true, 1 | 3) => self.three_same(form(word)),
            (false, true, 0) => self.three_different(wide_form(word)),
            (false, true, _) => match bits(word, 21, 17) {
                0b1_0000 => self.two_registers(two_form(word)),
                0b1_1000 if scalar => self.scalar_pairwise(two_form(word)),
                0b1_1000 => self.across(two_form(word)),
                _ => Lowered::No,
            },
            (false, false, low) => self.permute_class(word, low),
        }
    }

    /// MOVI, MVNI, FMOV, ORR, BIC (immediate).
    fn vector_immediate(&mut self, word: u32) -> Lowered {
        if bit(word, 11) {
            return Lowered::No;
        }
        let imm = bits(word, 18, 16) << 5 | bits(word, 9, 5);
        self.modified_immediate(Form { imm, ..wide_form(word) })
    }

    /// Shifts by an immediate.
    fn vector_shift(&mut self, word: u32) -> Lowered {
        let immh = bits(word, 22, 19);
        if immh == 0 || !bit(word, 10) {
            return Lowered::No;
        }
        let size = (31 - immh.leading_zeros()) as usize;
        self.shift_immediate(Form { size, imm: bits(word, 22, 16), ..form(word) })
    }

    /// Instructions with an element of Vm.
    fn vector_element(&mut self, word: u32) -> Lowered {
        if bit(word, 10) {
            return Lowered::No;
        }
        let opcode = bits(word, 15, 12);
        let float = matches!(opcode, 0b0001 | 0b0101 | 0b1001);
        let size = bits(word, 23, 22);
        if float && (!bit(word, 23) || bit(word, 22) && bit(word, 21)) {
            return Lowered::No;
        }
        let (m, lane) = element_of(word, size);
        self.by_element(Form { m, lane: Some(lane), ..wide_form(word) })
    }

    /// The classes in which bits 24 and 21 are clear.
    fn permute_class(&mut self, word: u32, low: u32) -> Lowered {
        let (scalar, size) = (bit(word, 28), bits(word, 23, 22));
        if size == 0 && low & 1 == 1 && !bit(word, 15) {
            return self.copies(word);
        }
        if scalar {
            return Lowered::No;
        }
        if bits(word, 15, 10) == 0b10_0101 && size == 2 {
            return self.dot_product(form(word));
        }
        match (bit(word, 29), bit(word, 15), low) {
            (false, false, 0) if size == 0 => {
                let imm = 16 * (bits(word, 14, 13) + 1);
                self.table(Form { opcode: bits(word, 12, 12), imm, ..form(word) })
            }
            (false, false, 2) => self.permute(Form { opcode: bits(word, 14, 12), ..form(word) }),
            (true, false, 0 | 2) if size == 0 => self.vector_extract_word(word),
            _ => Lowered::No,
        }
    }

    /// EXT.
    fn vector_extract_word(&mut self, word: u32) -> Lowered {
        let (q, by) = (bit(word, 30), bits(word, 14, 11));
        if bit(word, 10) || bit(word, 11) && by == 0 || !q && by >= 8 || bit(word, 15) {
            return Lowered::No;
        }
        self.vector_extract(Form { imm: by, ..form(word) })
    }

    /// Whether a word belongs to the classes of cryptography.
    pub(super) fn is_cryptography(word: u32) -> bool {
        word & 0xff3e_0c00 == 0x4e28_0800
            || word & 0xff3e_0c00 == 0x5e28_0800
            || word & 0xff20_8c00 == 0x5e00_0000
    }

    pub(super) fn cryptography(&mut self, word: u32) -> Lowered {
        if bits(word, 23, 22) != 0 {
            return Lowered::No;
        }
        match word >> 24 {
            0x4e => {
                let (d, opcode) = (u32::from(vd(word)), bits(word, 16, 12));
                // AESMC or AESIMC of the same register.
                let mixed = 0x4e28_6800 | (opcode & 1) << 12 | d << 5 | d;
                let pair = self.items.get(1) == Some(&mixed);
                self.aes(two_form(word), pair)
            }
            _ if bit(word, 21) => self.sha_two(two_form(word)),
            _ => self.sha_three(Form { opcode: bits(word, 14, 12), ..form(word) }),
        }
    }
}
