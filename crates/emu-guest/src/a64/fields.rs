//! Decoded instructions from the fields that most A64 encodings share.

use crate::op::{Handler, Op};
use crate::state::{SINK, ZERO};

/// An instruction with the usual register fields; register 31 is the zero register.
pub(crate) fn op(run: Handler, code: u32) -> Op {
    let field = |low: u32| (code >> low & 31) as u8;
    let source = |register: u8| if register == 31 { ZERO as u8 } else { register };
    let rd = field(0);
    Op {
        run,
        imm: 0,
        code,
        rd: if rd == 31 { SINK as u8 } else { rd },
        rn: source(field(5)),
        rm: source(field(16)),
        ra: source(field(10)),
    }
}

impl Op {
    /// The same instruction with this immediate.
    pub(crate) fn imm(self, imm: u64) -> Op {
        Op { imm, ..self }
    }

    /// With register 31 in Rn standing for SP.
    pub(crate) fn rn_sp(self) -> Op {
        Op { rn: (self.code >> 5 & 31) as u8, ..self }
    }

    /// With register 31 in Rd standing for SP.
    pub(crate) fn rd_sp(self) -> Op {
        Op { rd: (self.code & 31) as u8, ..self }
    }

    /// With Rd as a source or a vector register: register 31 is the zero register.
    pub(crate) fn rd_source(self) -> Op {
        let rd = (self.code & 31) as u8;
        Op { rd: if rd == 31 { ZERO as u8 } else { rd }, ..self }
    }

    /// With Rd and Ra as vector registers.
    pub(crate) fn rd_vector(self) -> Op {
        Op { rd: (self.code & 31) as u8, ra: (self.code >> 10 & 31) as u8, ..self }
    }
}
