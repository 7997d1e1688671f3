//! Copies between lanes and general registers (manual C4.1.97, "Advanced SIMD copy").

use super::float::{vd, vn};
use super::registers::{ZERO, destination, source};
use super::{Lowered, ONE, Translator, bit, bits};
use crate::layout::vector;
use crossdock_emu_x64::{Mem, Reg, Rm, Size};

/// Size and lane that imm5 names.
fn element(word: u32) -> Option<(u8, u8)> {
    let imm5 = bits(word, 20, 16);
    let size = imm5.trailing_zeros();
    (size < 4).then(|| (size as u8, (imm5 >> (size + 1)) as u8))
}

impl Translator<'_> {
    /// DUP, INS, SMOV, UMOV.
    pub(super) fn copies(&mut self, word: u32) -> Lowered {
        let Some((size, lane)) = element(word) else { return Lowered::No };
        let (scalar, q, d) = (bit(word, 28), bit(word, 30), vd(word));
        let wide = q && !scalar;
        if bit(word, 29) {
            return if q && !scalar { self.insert_element(word, size, lane) } else { Lowered::No };
        }
        match bits(word, 14, 11) {
            // DUP (element).
            0 if size < 3 || q => {
                if scalar {
                    self.element_to(Reg::RAX, size, vn(word), lane);
                    let t = self.vresult(d);
                    self.a.vmov_from(Size::Q, t, Reg::RAX);
                    self.vput_scalar(true, d, t, true);
                    return ONE;
                }
                let t = self.vresult(d);
                self.duplicate(size, t, vn(word), lane);
                self.finish(wide, d, t);
                ONE
            }
            _ if scalar => Lowered::No,
            // DUP (general).
            1 if size < 3 || q => {
                let t = self.vresult(d);
                if source(word, 5) == ZERO {
                    self.zero(t);
                } else {
                    self.a.vmov_from(Size::Q, t, self.rm(source(word, 5)));
                    if size < 3 || q {
                        self.a.vbroadcast(size, t, t);
                    }
                }
                self.finish(wide, d, t);
                ONE
            }
            // INS (general).
            3 if q => {
                let n = self.get(source(word, 5), Reg::RAX);
                self.insert(size, d, lane, n.into());
                ONE
            }
            // SMOV.
            5 if size < 2 + u8::from(q) => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                let operand_size = if q { Size::Q } else { Size::D };
                let from: Rm = match self.vector_host(vn(word)) {
                    Some(host) => {
                        self.extract_lane(size, Reg::RAX, host, lane);
                        Reg::RAX.into()
                    }
                    None => vector(vn(word)).plus(i32::from(lane) << size).into(),
                };
                match size {
                    0 => self.a.movsx8(operand_size, t, from),
                    1 => self.a.movsx16(operand_size, t, from),
                    _ => self.a.movsxd(t, from),
                }
                self.put(rd, t);
                ONE
            }
            // UMOV.
            7 if (size == 3) == q => {
                let rd = destination(word, 0);
                let t = self.result(rd, Reg::RAX);
                self.element_to(t, size, vn(word), lane);
                self.put(rd, t);
                ONE
            }
            _ => Lowered::No,
        }
    }

    /// INS (element).
    fn insert_element(&mut self, word: u32, size: u8, lane: u8) -> Lowered {
        let (d, n, from) = (vd(word), vn(word), (bits(word, 14, 11) >> size) as u8);
        let (Some(_), Some(source)) = (self.vector_host(d), self.vector_host(n)) else {
            if self.vector_host(d).is_some() {
                let mem: Mem = vector(n).plus(i32::from(from) << size);
                self.insert(size, d, lane, mem.into());
            } else {
                self.element_to(Reg::RAX, size, n, from);
                self.insert(size, d, lane, Reg::RAX.into());
            }
            return ONE;
        };
        let t = self.vresult(d);
        match size {
            // VINSERTPS.
            2 => self.a.vp3a(0x21, t, t, source, from << 6 | lane << 4),
            3 => match (from, lane) {
                // VPUNPCKLQDQ; VPBLENDW; VSHUFPD.
                (0, 1) => self.a.vp(0x6c, t, t, source),
                (1, 1) => self.a.vp3a(0x0e, t, t, source, 0xf0),
                (0, _) => self.a.vp3a(0x0e, t, t, source, 0x0f),
                _ => {
                    self.a.vpacked(true, 0xc6, t, source, t);
                    self.a.byte(3);
                }
            },
            _ => {
                self.element_to(Reg::RAX, size, n, from);
                self.insert(size, d, lane, Reg::RAX.into());
                return ONE;
            }
        }
        self.vput(d, t);
        ONE
    }
}
