//! Encodings that this CPU does not have, and the extension that each belongs to: for messages.

use crate::pattern::{self, Pattern, column};
use crate::short::Short;

/// Encodings that are refused on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    mask: u32,
    value: u32,
    /// Bits of the encoding.
    width: u8,
    name: Short<12>,
    extension: Short<40>,
}

impl Refused {
    /// The mnemonic; `...` ends a prefix that several mnemonics share.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The extension, or another reason for refusing it.
    pub fn extension(&self) -> &str {
        self.extension.as_str()
    }
}

const fn row(pattern: &str, name: &str, extension: &str) -> Refused {
    let Pattern { mask, value, width, .. } = pattern::read::<1>(pattern);
    Refused { mask, value, width, name: Short::new(name), extension: Short::new(extension) }
}

/// The refused encoding that an instruction of 16 or 32 bits belongs to, if any.
pub fn refused(code: u32) -> Option<&'static Refused> {
    let width = if code & 3 == 3 { 32 } else { 16 };
    REFUSED.iter().find(|row| row.width == width && code & row.mask == row.value)
}

static REFUSED: [Refused; ROWS.len()] = column!(ROWS, row => *row);

/// The more specific ones first.
#[rustfmt::skip]
const ROWS: &[Refused] = &[
    row("010010x xxxxx 11101 001 xxxxx 1010111", "VFNCVTBF16", "Zvfbfmin"),
    row("010010x xxxxx 01101 001 xxxxx 1010111", "VFWCVTBF16", "Zvfbfmin"),
    row("111011x xxxxx xxxxx x01 xxxxx 1010111", "VFWMACCBF16", "Zvfbfwma"),
    row("xxxxxxx xxxxx xxxxx xxx xxxxx 1010111", "V...", "reserved"),
    row("xxxxxxx xxxxx xxxxx xxx xxxxx 1110111", "V...", "reserved"),
    row("xxxxxxx xxxxx xxxxx 100 xxxxx 0000111", "FLQ", "Q"),
    row("xxxxxxx xxxxx xxxxx 100 xxxxx 0100111", "FSQ", "Q"),
    row("xxxxx11 xxxxx xxxxx xxx xxxxx 100xx11", "F...", "Q"),
    row("xxxxx11 xxxxx xxxxx xxx xxxxx 1010011", "F...", "Q"),
    row("01000xx 00011 xxxxx xxx xxxxx 1010011", "FCVT...", "Q"),
    row("0100010 01000 xxxxx xxx xxxxx 1010011", "FCVT.BF16.S", "Zfbfmin"),
    row("0100000 00110 xxxxx xxx xxxxx 1010011", "FCVT.S.BF16", "Zfbfmin"),
    row("1110001 00001 xxxxx 000 xxxxx 1010011", "FMVH.X.D", "RV32 only"),
    row("1011001 xxxxx xxxxx 000 xxxxx 1010011", "FMVP.D.X", "RV32 only"),
    row("0000000 00000 xxxxx 010 00000 0001111", "CBO.INVAL", "not for programs"),
    row("0000000 00010 00000 000 00000 1110011", "URET", "not for programs"),
    row("0001000 00010 00000 000 00000 1110011", "SRET", "not for programs"),
    row("0011000 00010 00000 000 00000 1110011", "MRET", "not for programs"),
    row("0111000 00010 00000 000 00000 1110011", "MNRET", "not for programs"),
    row("0111101 10010 00000 000 00000 1110011", "DRET", "not for programs"),
    row("0001000 00100 00000 000 00000 1110011", "SCTRCLR", "not for programs"),
    row("0001000 00101 00000 000 00000 1110011", "WFI", "not for programs"),
    row("0001001 xxxxx xxxxx 000 00000 1110011", "SFENCE.VMA", "not for programs"),
    row("00x1011 xxxxx xxxxx 000 00000 1110011", "SINVAL...", "not for programs"),
    row("0001100 xxxxx xxxxx 000 00000 1110011", "SFENCE...", "not for programs"),
    row("0x10001 xxxxx xxxxx 000 00000 1110011", "HFENCE...", "not for programs"),
    row("0x10011 xxxxx xxxxx 000 00000 1110011", "HINVAL...", "not for programs"),
    row("0110xxx xxxxx xxxxx 100 xxxxx 1110011", "H...", "not for programs"),
    row("01001xx xxxxx xxxxx 010 xxxxx 0101111", "SSAMOSWAP.W", "Zicfiss"),
    row("01001xx xxxxx xxxxx 011 xxxxx 0101111", "SSAMOSWAP.D", "Zicfiss"),
    row("0000100 xxxxx xxxxx 100 xxxxx 0110011", "PACK", "Zbkb"),
    row("0000100 xxxxx xxxxx 111 xxxxx 0110011", "PACKH", "Zbkb"),
    row("0000100 xxxxx xxxxx 100 xxxxx 0111011", "PACKW", "Zbkb"),
    row("0110100 00111 xxxxx 101 xxxxx 0010011", "BREV8", "Zbkb"),
    row("0010100 xxxxx xxxxx 100 xxxxx 0110011", "XPERM8", "Zbkx"),
    row("0010100 xxxxx xxxxx 010 xxxxx 0110011", "XPERM4", "Zbkx"),
    row("0011xx1 xxxxx xxxxx 000 xxxxx 0110011", "AES64...", "Zknd or Zkne"),
    row("0111111 xxxxx xxxxx 000 xxxxx 0110011", "AES64KS2", "Zknd or Zkne"),
    row("0011000 xxxxx xxxxx 001 xxxxx 0010011", "AES64...", "Zknd or Zkne"),
    row("0001000 00xxx xxxxx 001 xxxxx 0010011", "SHA...", "Zknh"),
    row("0001000 0100x xxxxx 001 xxxxx 0010011", "SM3...", "Zksh"),
    row("xx110xx xxxxx xxxxx 000 xxxxx 0110011", "SM4...", "Zksed"),
];
