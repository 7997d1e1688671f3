//! Floating point in vectors, of single and double precision.
//!
//! The host signals invalid operations, and a comparison of each result with itself signals NaNs that came
//! from operands: then the interpreter goes on, from the element that vstart names. A wary instruction makes
//! such NaNs canonical itself. Elements that are not in the body become zeros before the host computes with
//! them, and divisors ones.

use super::chunk::{AND, AND_NOT, Code, OPERAND, OR, OTHER, XOR, element, packed, part, repeated};
use super::integer::MaskBits;
use super::operand::{Parts, Second};
use super::shape::{Body, Chunk, chunks};
use crate::layout::{VL, VSTART, X0, X1, X2, group};
use crate::translate::rv64::Translator;
use crossdock_emu_guest::rv64::action::VectorFloat;
use crossdock_emu_x64::{Alu, Cc, Map, Mem, Prefix, Rm, Size, Xmm};

/// VCMPPS's predicates: less, which signals all NaNs; unordered, which signals none that is quiet.
const LESS: u8 = 1;
const UNORDERED: u8 = 3;

/// Whether an instruction has one way for all values of vl.
pub(super) fn goes_by_elements(operation: VectorFloat) -> bool {
    use VectorFloat::{RedMax, RedMin, RedSum, WredSum};
    matches!(operation, RedSum | RedMin | RedMax | WredSum)
}

/// Whether there is code for an operation.
pub(super) fn has_lowering(parts: &Parts, operation: VectorFloat, is_wary: bool) -> bool {
    use VectorFloat::*;
    let sew = parts.shape.sew;
    match operation {
        Convert => conversion(parts).is_some_and(|conversion| !is_wary || !conversion.to_integer),
        Wadd | Wsub | WaddWide | WsubWide | Wmul => sew == 2,
        Wmacc | Wnmacc | Wmsac | Wnmsac | WredSum => sew == 2 && !is_wary,
        Add | Sub | Rsub | Mul | Div | Rdiv | Sqrt | Sgnj | Sgnjn | Sgnjx | Eq | Le | Lt | Ne | Gt | Ge
        | Merge => sew >= 2,
        Min | Max | Madd | Nmadd | Msub | Nmsub | Macc | Nmacc | Msac | Nmsac | RedSum | RedMin | RedMax => {
            sew >= 2 && !is_wary
        }
        Rsqrt7 | Rec7 | Class => false,
    }
}

/// A conversion that the host has.
#[derive(Clone, Copy)]
struct Conversion {
    /// The logarithms of the bytes of both elements.
    from: u8,
    to: u8,
    /// The elements are first extended to 32 bits, perhaps with their signs.
    extends: Option<bool>,
    code: Code,
    to_integer: bool,
    /// A NaN must become canonical.
    may_be_nan: bool,
}

fn conversion(parts: &Parts) -> Option<Conversion> {
    let (sew, code) = (parts.shape.sew, parts.v1);
    let of = |prefix: Prefix, opcode: u8| (prefix, Map::M0F, false, opcode);
    let plain = Conversion {
        from: sew,
        to: sew,
        extends: None,
        code: of(Prefix::None, 0x5b),
        to_integer: false,
        may_be_nan: false,
    };
    Some(match (code >> 3, code & 7, sew) {
        (0, 1, 2) => Conversion { code: of(Prefix::P66, 0x5b), to_integer: true, ..plain },
        (0, 7, 2) => Conversion { code: of(Prefix::F3, 0x5b), to_integer: true, ..plain },
        (0, 3, 2) => plain,
        (1, 4, 2) => Conversion { to: 3, code: of(Prefix::None, 0x5a), may_be_nan: true, ..plain },
        (1, 3, 2) => Conversion { to: 3, code: of(Prefix::F3, 0xe6), ..plain },
        (1, 2 | 3, 1) => Conversion { to: 2, extends: Some(code & 1 == 1), ..plain },
        (2, 4, 2) => Conversion { from: 3, code: of(Prefix::P66, 0x5a), may_be_nan: true, ..plain },
        (2, 1, 2) => Conversion { from: 3, code: of(Prefix::F2, 0xe6), to_integer: true, ..plain },
        (2, 7, 2) => Conversion { from: 3, code: of(Prefix::P66, 0xe6), to_integer: true, ..plain },
        _ => return None,
    })
}

/// The packed instruction of 0F that is an operation.
fn opcode(operation: VectorFloat) -> u8 {
    use VectorFloat::*;
    match operation {
        Add | Wadd | WaddWide => 0x58,
        Mul | Wmul => 0x59,
        Sub | Rsub | Wsub | WsubWide => 0x5c,
        Min | RedMin => 0x5d,
        Div | Rdiv => 0x5e,
        Max | RedMax => 0x5f,
        _ => 0x51,
    }
}

/// VFMADD213PS and its kin: whether the product and the addend are negated.
fn fused(operation: VectorFloat) -> Option<u8> {
    use VectorFloat::*;
    Some(match operation {
        Madd | Macc | Wmacc => 0xa8,
        Msub | Msac | Wmsac => 0xaa,
        Nmsub | Nmsac | Wnmsac => 0xac,
        Nmadd | Nmacc | Wnmacc => 0xae,
        _ => return None,
    })
}

fn is_wide(operation: VectorFloat) -> bool {
    use VectorFloat::*;
    matches!(operation, Wadd | Wsub | WaddWide | WsubWide | Wmul | Wmacc | Wnmacc | Wmsac | Wnmsac)
}

impl Translator<'_> {
    pub(super) fn vector_float(&mut self, parts: &Parts, operation: VectorFloat, body: Body) {
        use VectorFloat::*;
        match operation {
            RedSum | RedMin | RedMax | WredSum => self.reduce_floats(parts, operation, body),
            Eq | Le | Lt | Ne | Gt | Ge => self.compare_float_lanes(parts, operation, body),
            Convert => self.convert_lanes(parts, body),
            _ if is_wide(operation) => self.widening_floats(parts, operation, body),
            _ => self.float_lanes(parts, operation, body),
        }
    }

    /// Makes NaNs in xmm0 canonical, or lets the interpreter do it. Changes xmm1.
    fn check_nans(&mut self, long: bool, double: bool) {
        let compare = packed(double, 0xc2);
        if !self.wary {
            return self.lanes_imm(long, compare, X1, X0, X0, LESS);
        }
        self.lanes_imm(long, compare, X1, X0, X0, UNORDERED);
        self.lanes(long, AND_NOT, X0, X1, X0);
        // The canonical NaN: ones shifted right and left again.
        let (opcode, right) = if double { (0x73, 52) } else { (0x72, 23) };
        self.lanes_shift(long, (opcode, 2), X1, X1, right);
        self.lanes_shift(long, (opcode, 6), X1, X1, right - 1);
        self.lanes(long, OR, X0, X0, X1);
    }

    /// `d` = an operand, with zeros instead of the elements that are not in the body. `d` is not `from`.
    fn load_active(&mut self, d: Xmm, from: Rm, body: Body, sew: u8, chunk: Chunk) {
        let bytes = chunk.bytes.max(16);
        if body.is_whole() && chunk.bytes >= 16 {
            return match from {
                Rm::M(mem) => self.lanes_load(d, mem, bytes),
                _ => self.lanes(chunk.long(), OR, d, X2, from),
            };
        }
        let inverse = self.inverse(body, sew, chunk);
        self.lanes_load(d, inverse, bytes);
        self.lanes(chunk.long(), AND_NOT, d, d, from);
    }

    /// Says that the interpreter is to begin at a part, if one of its operands is overwritten part by part.
    fn begin_at(&mut self, first: u32, restarts: bool) {
        if restarts && first > 0 {
            self.a.mov_imm32(Size::Q, VSTART, first as i32);
        }
    }

    fn end_parts(&mut self, restarts: bool) {
        if restarts {
            self.a.mov_imm32(Size::Q, VSTART, 0);
        }
    }

    fn float_lanes(&mut self, parts: &Parts, operation: VectorFloat, body: Body) {
        use VectorFloat::*;
        let sew = parts.shape.sew;
        let double = sew == 3;
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        let is_vector = parts.second() == Second::Vector && operation != Sqrt;
        let overwrites =
            fused(operation).is_some() || parts.d == parts.v2 || is_vector && parts.d == parts.v1;
        let restarts = Self::is_float(operation) && overwrites && parts.shape.bytes() > 32;
        for chunk in chunks(parts.shape.bytes()) {
            self.begin_at(chunk.at >> sew, restarts);
            let long = chunk.long();
            let b: Rm = if is_vector { part(parts.v1, chunk).into() } else { X2.into() };
            let first: Rm = part(parts.v2, chunk).into();
            match operation {
                Sgnj | Sgnjn | Sgnjx => self.copy_signs(parts, operation, chunk, b),
                Merge => self.merge_floats(parts, body, chunk),
                Sqrt => {
                    self.load_active(X0, first, body, sew, chunk);
                    self.lanes_of_one(long, packed(double, 0x51), X0, X0);
                    self.check_nans(long, double);
                }
                _ if fused(operation).is_some() => self.fuse_lanes(parts, operation, body, chunk, b),
                _ => {
                    // xmm1 = the second operand, which is the divisor of VFDIV.
                    match operation {
                        Div => self.load_divisor(b, body, sew, chunk),
                        _ => self.load_active(X1, b, body, sew, chunk),
                    }
                    match operation {
                        Rdiv => {
                            self.lanes_store(OTHER, X1, chunk.bytes.max(16));
                            self.load_divisor(first, body, sew, chunk);
                            self.lanes_load(X0, OTHER, chunk.bytes.max(16));
                        }
                        _ if body.is_whole() && chunk.bytes >= 16 => {
                            self.load_active(X0, first, body, sew, chunk)
                        }
                        _ => {
                            // The mask needs xmm1 for itself.
                            self.lanes_store(OTHER, X1, chunk.bytes.max(16));
                            self.load_active(X0, first, body, sew, chunk);
                            self.lanes_load(X1, OTHER, chunk.bytes.max(16));
                        }
                    }
                    let code = packed(double, opcode(operation));
                    match operation {
                        Min | Max => {
                            // Both orders, which differ in the sign of zero.
                            self.lanes_store(OPERAND, X0, chunk.bytes.max(16));
                            self.lanes(long, code, X0, X0, X1);
                            self.lanes(long, code, X1, X1, OPERAND);
                            self.lanes(long, if operation == Min { OR } else { AND }, X0, X0, X1);
                        }
                        Rsub => self.lanes(long, code, X0, X1, X0),
                        _ => self.lanes(long, code, X0, X0, X1),
                    }
                    if !matches!(operation, Min | Max) {
                        self.check_nans(long, double);
                    }
                }
            }
            self.finish_part(parts.d, chunk, body, sew);
        }
        self.end_parts(restarts);
    }

    /// xmm1 = a divisor, with ones instead of the elements that are not in the body. Changes xmm0.
    fn load_divisor(&mut self, from: Rm, body: Body, sew: u8, chunk: Chunk) {
        if body.is_whole() && chunk.bytes >= 16 {
            return self.load_active(X1, from, body, sew, chunk);
        }
        let (long, bytes) = (chunk.long(), chunk.bytes.max(16));
        let inverse = self.inverse(body, sew, chunk);
        self.lanes_load(X1, inverse, bytes);
        let one = if sew == 3 { 1.0f64.to_bits() } else { 1.0f32.to_bits().into() };
        self.splat_constant(long, X0, repeated(one, sew));
        self.lanes(long, AND, X0, X0, X1);
        self.lanes(long, AND_NOT, X1, X1, from);
        self.lanes(long, OR, X1, X1, X0);
    }

    /// VFMACC and its kin: xmm0 = the result of a part.
    fn fuse_lanes(&mut self, parts: &Parts, operation: VectorFloat, body: Body, chunk: Chunk, b: Rm) {
        use VectorFloat::{Madd, Msub, Nmadd, Nmsub};
        let sew = parts.shape.sew;
        let double = sew == 3;
        let (long, bytes) = (chunk.long(), chunk.bytes.max(16));
        let (d, v2) = (part(parts.d, chunk), part(parts.v2, chunk));
        let by_d = matches!(operation, Madd | Msub | Nmadd | Nmsub);
        let (factor, addend) = if by_d { (d, v2) } else { (v2, d) };
        let code = (Prefix::P66, Map::M0F38, double, fused(operation).unwrap_or(0));
        if body.is_whole() && chunk.bytes >= 16 {
            let b = match b {
                Rm::M(mem) => {
                    self.lanes_load(X1, mem, bytes);
                    X1
                }
                _ => X2,
            };
            self.lanes_load(X0, factor, bytes);
            self.lanes(long, code, X0, b, addend);
        } else {
            self.load_active(X0, addend.into(), body, sew, chunk);
            self.lanes_store(OTHER, X0, bytes);
            self.load_active(X0, factor.into(), body, sew, chunk);
            self.load_active(X1, b, body, sew, chunk);
            self.lanes(long, code, X0, X1, OTHER);
        }
        self.check_nans(long, double);
    }

    /// VFSGNJ, VFSGNJN, VFSGNJX: xmm0 = the result of a part.
    fn copy_signs(&mut self, parts: &Parts, operation: VectorFloat, chunk: Chunk, b: Rm) {
        let (sew, long) = (parts.shape.sew, chunk.long());
        let sign = repeated(1 << ((8 << sew) - 1), sew);
        let first = part(parts.v2, chunk);
        self.splat_constant(long, X0, sign);
        self.lanes(long, AND, X1, X0, b);
        if operation == VectorFloat::Sgnjn {
            self.lanes(long, XOR, X1, X1, X0);
        }
        if operation == VectorFloat::Sgnjx {
            self.lanes(long, XOR, X0, X1, first);
        } else {
            self.lanes(long, AND_NOT, X0, X0, first);
            self.lanes(long, OR, X0, X0, X1);
        }
    }

    /// VFMERGE.VFM and VFMV.V.F: xmm0 = the result of a part.
    fn merge_floats(&mut self, parts: &Parts, body: Body, chunk: Chunk) {
        let long = chunk.long();
        if !parts.has_mask() {
            return self.lanes(long, OR, X0, X2, X2);
        }
        let all = Body { vl: Some(body.elements), masked: true, ..body };
        let inverse = self.inverse(all, parts.shape.sew, chunk);
        self.lanes_load(X1, inverse, chunk.bytes.max(16));
        self.lanes_blend(long, X0, X2, part(parts.v2, chunk), X1);
    }

    /// VMFEQ and its kin.
    fn compare_float_lanes(&mut self, parts: &Parts, operation: VectorFloat, body: Body) {
        use VectorFloat::{Eq, Ge, Gt, Le, Ne};
        let sew = parts.shape.sew;
        if !body.is_whole() {
            self.find_tail(body, sew);
        }
        let predicate = match operation {
            Eq => 0,
            Ne => 4,
            Le => 2,
            Gt => 0x0e,
            Ge => 0x0d,
            _ => LESS,
        };
        // The mask may be a source, which must stay while an element may signal.
        let mut bits = MaskBits::through_room(parts.d, body);
        for chunk in chunks(parts.shape.bytes()) {
            let (long, bytes) = (chunk.long(), chunk.bytes.max(16));
            let b = self.second_operand(parts, chunk);
            self.load_active(X1, b, body, sew, chunk);
            self.lanes_store(OTHER, X1, bytes);
            self.load_active(X0, part(parts.v2, chunk).into(), body, sew, chunk);
            self.lanes_imm(long, packed(sew == 3, 0xc2), X0, X0, OTHER, predicate);
            self.put_mask_bits(&mut bits, chunk, sew, false);
        }
        self.end_mask_bits(&bits);
    }

    /// VFCVT and its kin.
    fn convert_lanes(&mut self, parts: &Parts, body: Body) {
        let Some(conversion) = conversion(parts) else { return };
        let Conversion { from, to, extends, code, may_be_nan, .. } = conversion;
        let wide = parts.shape.with(from.max(to));
        let overlaps = parts.d < parts.v2 + parts.shape.with(from).registers()
            && parts.v2 < parts.d + parts.shape.with(to).registers();
        let restarts = overlaps && wide.bytes() > 32;
        for chunk in chunks(wide.bytes()) {
            let (source, result) = (chunk.scaled(wide.sew, from), chunk.scaled(wide.sew, to));
            self.begin_at(chunk.at >> wide.sew, restarts);
            if !body.is_whole() {
                self.find_tail(body, from);
            }
            self.load_active(X0, part(parts.v2, source).into(), body, from, source);
            if let Some(signed) = extends {
                self.extend_lanes(chunk.long(), from, 2, signed, X0, X0.into());
            }
            self.lanes_of_one(chunk.long(), code, X0, X0);
            if may_be_nan {
                self.check_nans(result.long(), to == 3);
            }
            if !body.is_whole() {
                self.find_tail(body, to);
            }
            self.finish_part(parts.d, result, body, to);
        }
        self.end_parts(restarts);
    }

    /// VFWADD and its kin: singles that are computed with as doubles.
    fn widening_floats(&mut self, parts: &Parts, operation: VectorFloat, body: Body) {
        use VectorFloat::{WaddWide, WsubWide};
        let wide = parts.shape.wide();
        let to_double = packed(false, 0x5a);
        let is_vector = parts.second() == Second::Vector;
        let both = matches!(operation, WaddWide | WsubWide);
        // Wide destinations may overlap their sources' ends, and those that are added to are sources.
        let restarts = wide.bytes() > 32;
        for chunk in chunks(wide.bytes()) {
            let (long, bytes) = (chunk.long(), chunk.bytes.max(16));
            let source = chunk.scaled(3, 2);
            self.begin_at(chunk.at >> 3, restarts);
            if !body.is_whole() {
                self.find_tail(body, 2);
            }
            let b: Rm = if is_vector { part(parts.v1, source).into() } else { X2.into() };
            self.load_active(X1, b, body, 2, source);
            self.lanes_of_one(long, to_double, X1, X1);
            self.lanes_store(OTHER, X1, bytes);
            if both {
                if !body.is_whole() {
                    self.find_tail(body, 3);
                }
                self.load_active(X0, part(parts.v2, chunk).into(), body, 3, chunk);
            } else {
                self.load_active(X0, part(parts.v2, source).into(), body, 2, source);
                self.lanes_of_one(long, to_double, X0, X0);
                if !body.is_whole() {
                    self.find_tail(body, 3);
                }
            }
            match fused(operation) {
                Some(opcode) => {
                    self.lanes_store(OPERAND, X0, bytes);
                    self.load_active(X0, part(parts.d, chunk).into(), body, 3, chunk);
                    self.lanes_load(X1, OTHER, bytes);
                    // The form that adds to its destination: VFMADD231PD and its kin.
                    self.lanes(long, (Prefix::P66, Map::M0F38, true, opcode + 0x10), X0, X1, OPERAND);
                }
                None => self.lanes(long, packed(true, opcode(operation)), X0, X0, OTHER),
            }
            self.check_nans(long, true);
            self.finish_part(parts.d, chunk, body, 3);
        }
        self.end_parts(restarts);
    }

    /// VFREDUSUM and its kin, in the order of the elements.
    fn reduce_floats(&mut self, parts: &Parts, operation: VectorFloat, body: Body) {
        use VectorFloat::{RedMax, RedMin, WredSum};
        let from = parts.shape.sew;
        let sew = from + u8::from(operation == WredSum);
        let double = sew == 3;
        let end = self.a.label();
        match body.vl {
            Some(0) => return,
            Some(_) => {}
            None => {
                self.a.alu_imm(Alu::Cmp, Size::D, VL, 0);
                self.a.jump_if(Cc::E, end);
            }
        }
        self.lanes_load(X0, group(parts.v1), 1 << sew);
        self.for_elements(
            body,
            |this| {
                let next: Mem = element(parts.v2, from);
                match operation {
                    RedMin | RedMax => {
                        let code = opcode(operation);
                        this.lanes_load(X1, next, 1 << sew);
                        this.a.vscalar(double, code, X2, X0, X1);
                        this.a.vscalar(double, code, X0, X1, X0);
                        this.lanes(false, if operation == RedMin { OR } else { AND }, X0, X0, X2);
                    }
                    WredSum => {
                        this.a.vscalar(false, 0x5a, X1, X1, next);
                        this.a.vscalar(true, 0x58, X0, X0, X1);
                    }
                    _ => this.a.vscalar(double, 0x58, X0, X0, next),
                }
            },
            |_| {},
        );
        // Signals a NaN.
        self.a.vcomis(double, X0, X0);
        self.lanes_store(group(parts.d), X0, 1 << sew);
        self.a.bind(end);
    }
}
