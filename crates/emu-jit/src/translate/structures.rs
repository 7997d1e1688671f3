//! Loads of one structure (manual C4.1.94).

use super::operands::sp;
use super::{Lowered, ONE, Translator, bit, bits};
use crossdock_emu_x64::Mem;

impl Translator<'_> {
    /// LD1R; single lanes go to the interpreter.
    pub(super) fn one_structure(&mut self, word: u32) -> Lowered {
        let replicate = word & 0xbf60_f000 == 0x0d40_c000;
        let post = bit(word, 23);
        if !replicate || !post && bits(word, 20, 16) != 0 {
            return Lowered::No;
        }
        let (rn, vt, log2) = (sp(word, 5), bits(word, 4, 0) as u8, bits(word, 11, 10));
        let base = self.base(rn);
        let t = self.vresult(vt);
        self.a.vbroadcast(log2 as u8, t, Mem::at(base, 0));
        self.finish(bit(word, 30), vt, t);
        if post {
            self.advance_structure(word, rn, base, 1 << log2);
        }
        ONE
    }
}
