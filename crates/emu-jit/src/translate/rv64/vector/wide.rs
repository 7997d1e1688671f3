//! Integer arithmetic with elements of two sizes: widening, narrowing, extension.

use super::chunk::{AND, AND_NOT, OPERAND, OTHER, XOR, p, p3a, p38, part, repeated};
use super::operand::{By, Parts, Second};
use super::shape::{Body, Chunk, chunks};
use crate::layout::{X0, X1, X2};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::Arithmetic;
use crossdock_emu_x64::{Rm, Xmm};

/// Whether there is code for an operation, which has two sizes.
pub(super) fn has_lowering(parts: &Parts, operation: Arithmetic) -> bool {
    use Arithmetic::*;
    match operation {
        Waddu | Wadd | Wsubu | Wsub | WadduWide | WaddWide | WsubuWide | WsubWide => true,
        Wmulu | Wmul | Wmaccu | Wmacc => true,
        // The host multiplies 32 bits that are both signed or both not.
        Wmulsu | Wmaccus | Wmaccsu => parts.shape.sew < 2,
        Zext8 | Sext8 | Zext4 | Sext4 | Zext2 | Sext2 => true,
        Nsrl | Nsra => parts.second() != Second::Vector,
        Nclipu | Nclip => parts.second() == Second::Immediate && parts.shape.sew <= 1,
        _ => false,
    }
}

/// Whether the first operand, vs2, and the second one are signed.
fn signs(operation: Arithmetic) -> [bool; 2] {
    use Arithmetic::*;
    match operation {
        Wadd | Wsub | WaddWide | WsubWide | Wmul | Wmacc | Sext8 | Sext4 | Sext2 => [true, true],
        Wmulsu | Wmaccus => [true, false],
        Wmaccsu => [false, true],
        _ => [false, false],
    }
}

impl Translator<'_> {
    /// `d` = elements of `1 << from` bytes, extended to `1 << to` bytes.
    pub(super) fn extend_lanes(&mut self, long: bool, from: u8, to: u8, signed: bool, d: Xmm, source: Rm) {
        let kind = match (from, to) {
            (0, to) => to - 1,
            (1, to) => to + 1,
            _ => 5,
        };
        self.lanes_of_one(long, p38(if signed { 0x20 } else { 0x30 } + kind), d, source);
    }

    /// `d` = a part of elements of `1 << to` bytes, extended from the group at register `v`.
    pub(super) fn extend_part(&mut self, v: u32, chunk: Chunk, (from, to): (u8, u8), signed: bool, d: Xmm) {
        let source = chunk.scaled(to, from);
        let memory = part(v, source);
        if to - from == 1 && source.bytes >= 8 {
            return self.extend_lanes(chunk.long(), from, to, signed, d, memory.into());
        }
        // Not more than was stored is loaded.
        self.lanes_load(d, memory, source.bytes);
        self.extend_lanes(chunk.long(), from, to, signed, d, d.into());
    }

    pub(super) fn arithmetic_of_two_sizes(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::*;
        match operation {
            Zext8 | Sext8 => self.extension(parts, operation, body, 3),
            Zext4 | Sext4 => self.extension(parts, operation, body, 2),
            Zext2 | Sext2 => self.extension(parts, operation, body, 1),
            Nsrl | Nsra => self.narrowing(parts, operation, body),
            Nclipu | Nclip => self.clip(parts, operation, body),
            _ => self.widening(parts, operation, body),
        }
    }

    fn extension(&mut self, parts: &Parts, operation: Arithmetic, body: Body, by: u8) {
        let (to, from) = (parts.shape.sew, parts.shape.sew - by);
        if !body.is_whole() {
            self.find_tail(body, to);
        }
        for chunk in chunks(parts.shape.bytes()) {
            self.extend_part(parts.v2, chunk, (from, to), signs(operation)[0], X0);
            self.finish_part(parts.d, chunk, body, to);
        }
    }

    fn widening(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::*;
        let (from, wide) = (parts.shape.sew, parts.shape.wide());
        let signs = signs(operation);
        if !body.is_whole() {
            self.find_tail(body, wide.sew);
        }
        for chunk in chunks(wide.bytes()) {
            let long = chunk.long();
            if matches!(operation, WadduWide | WaddWide | WsubuWide | WsubWide) {
                self.lanes_load(X0, part(parts.v2, chunk), chunk.bytes);
            } else {
                self.extend_part(parts.v2, chunk, (from, wide.sew), signs[0], X0);
            }
            let b = if parts.second() == Second::Vector {
                self.extend_part(parts.v1, chunk, (from, wide.sew), signs[1], X1);
                X1
            } else {
                X2
            };
            match operation {
                Wmulu | Wmulsu | Wmul | Wmaccu | Wmacc | Wmaccus | Wmaccsu => {
                    let code = match (wide.sew, signs[0]) {
                        (1, _) => p(0xd5),
                        (2, _) => p38(0x40),
                        (_, true) => p38(0x28),
                        (_, false) => p(0xf4),
                    };
                    self.lanes(long, code, X0, X0, b);
                    if matches!(operation, Wmaccu | Wmacc | Wmaccus | Wmaccsu) {
                        self.compute_lanes(long, Add, wide.sew, part(parts.d, chunk).into());
                    }
                }
                _ => self.compute_lanes(long, operation, wide.sew, b.into()),
            }
            self.finish_part(parts.d, chunk, body, wide.sew);
        }
    }

    fn narrowing(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::{Nsra, Sra, Srl};
        let (to, wide) = (parts.shape.sew, parts.shape.wide());
        let by = match parts.second() {
            Second::Immediate => By::Immediate(parts.amount() & ((8 << wide.sew) - 1)),
            _ => By::Low,
        };
        if !body.is_whole() {
            self.find_tail(body, to);
        }
        for chunk in chunks(wide.bytes()) {
            let long = chunk.long();
            self.lanes_load(X0, part(parts.v2, chunk), chunk.bytes);
            self.shift_lanes(long, if operation == Nsra { Sra } else { Srl }, wide.sew, by);
            self.narrow_part(long, wide.sew);
            self.finish_part(parts.d, chunk.scaled(wide.sew, to), body, to);
        }
    }

    /// VNCLIPU.WI and VNCLIP.WI, which round up at halves.
    fn clip(&mut self, parts: &Parts, operation: Arithmetic, body: Body) {
        use Arithmetic::{Add, Nclip, Sra, Srl};
        let (to, wide) = (parts.shape.sew, parts.shape.wide());
        let signed = operation == Nclip;
        let shift = if signed { Sra } else { Srl };
        let amount = parts.amount() & ((8 << wide.sew) - 1);
        for chunk in chunks(wide.bytes()) {
            let (long, bytes) = (chunk.long(), chunk.bytes.max(16));
            self.lanes_load(X0, part(parts.v2, chunk), chunk.bytes);
            if amount > 0 {
                self.shift_lanes(long, shift, wide.sew, By::Immediate(amount - 1));
                self.splat_constant(long, X1, repeated(1, wide.sew));
                self.lanes(long, AND, X1, X1, X0);
                self.lanes_store(OTHER, X1, bytes);
                self.shift_lanes(long, shift, wide.sew, By::Immediate(1));
                self.compute_lanes(long, Add, wide.sew, OTHER.into());
            }
            self.lanes_store(OPERAND, X0, bytes);
            let bits = 8u32 << to;
            let (lowest, highest) =
                if signed { (u64::MAX << (bits - 1), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) };
            let is_half = wide.sew == 1;
            self.splat_constant(long, X1, repeated(highest, wide.sew));
            let least = match (signed, is_half) {
                (true, true) => p(0xea),
                (true, false) => p38(0x39),
                (false, true) => p38(0x3a),
                (false, false) => p38(0x3b),
            };
            self.lanes(long, least, X0, X0, X1);
            if signed {
                self.splat_constant(long, X1, repeated(lowest, wide.sew));
                self.lanes(long, if is_half { p(0xee) } else { p38(0x3d) }, X0, X0, X1);
            }
            self.lanes(long, XOR, X1, X0, OPERAND);
            if !body.is_whole() || chunk.bytes < 16 {
                // Only elements of the body count.
                self.lanes_store(OTHER, X1, bytes);
                if !body.is_whole() {
                    self.find_tail(body, wide.sew);
                }
                let inverse = self.inverse(body, wide.sew, chunk);
                self.lanes_load(X1, inverse, bytes);
                self.lanes(long, AND_NOT, X1, X1, OTHER);
            }
            self.set_saturated(long);
            self.narrow_part(long, wide.sew);
            if !body.is_whole() {
                self.find_tail(body, to);
            }
            self.finish_part(parts.d, chunk.scaled(wide.sew, to), body, to);
        }
    }

    /// xmm0 = the low halves of its elements of `1 << from` bytes, side by side. Changes xmm1.
    pub(super) fn narrow_part(&mut self, long: bool, from: u8) {
        match from {
            1 | 2 => {
                let low = if from == 1 { repeated(0xff, 1) } else { repeated(0xffff, 2) };
                self.splat_constant(long, X1, low);
                self.lanes(long, AND, X0, X0, X1);
                // VPACKUSWB, VPACKUSDW; VPERMQ.
                self.lanes(long, if from == 1 { p(0x67) } else { p38(0x2b) }, X0, X0, X0);
                self.join_quarters(long);
            }
            _ => {
                // VPSHUFD.
                self.a.vex_of_length(long, p(0x70), X0.0, 0, X0.into());
                self.a.byte(0x88);
                self.join_quarters(long);
            }
        }
    }

    /// The low quarters of both halves of xmm0 side by side, if it has 256 bits.
    pub(super) fn join_quarters(&mut self, long: bool) {
        if long {
            let (prefix, map, _, _) = p3a(0);
            // VPERMQ.
            self.a.vex_of_length(true, (prefix, map, true, 0x00), X0.0, 0, X0.into());
            self.a.byte(0x08);
        }
    }
}
