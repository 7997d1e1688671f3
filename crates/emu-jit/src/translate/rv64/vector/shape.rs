//! What vtype says, and which elements an instruction goes through.

/// The size of elements and of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// The logarithm of the bytes of an element.
    pub(super) sew: u8,
    /// The logarithm of the registers of a group.
    pub(super) lmul: i8,
}

impl Shape {
    /// The shape that vtype stands for; `None` if it is reserved.
    pub(super) fn of(vtype: u32) -> Option<Shape> {
        let shape = Shape { sew: (vtype >> 3 & 7) as u8, lmul: ((vtype as u8) << 5).cast_signed() >> 5 };
        let fits = shape.lmul != -4 && i16::from(shape.sew) <= 3 + i16::from(shape.lmul.min(0));
        (vtype < 0x100 && fits).then_some(shape)
    }

    /// The elements of a group.
    pub(super) fn elements(self) -> u32 {
        let one = 16u32 >> self.sew;
        if self.lmul < 0 { one >> -self.lmul } else { one << self.lmul }
    }

    /// The bytes of a group.
    pub(super) fn bytes(self) -> u32 {
        self.elements() << self.sew
    }

    /// As many elements of another size.
    pub(super) fn with(self, sew: u8) -> Shape {
        Shape { sew, lmul: self.lmul + sew.cast_signed() - self.sew.cast_signed() }
    }

    /// As many elements of twice the size.
    pub(super) fn wide(self) -> Shape {
        self.with(self.sew + 1)
    }

    /// How many registers a group has.
    pub(super) fn registers(self) -> u32 {
        1 << self.lmul.max(0)
    }
}

/// The elements that an instruction goes through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    /// The elements of a group.
    pub(super) elements: u32,
    /// vl, if it is known.
    pub(super) vl: Option<u32>,
    /// Whether v0 leaves some out.
    pub(super) masked: bool,
}

impl Body {
    /// Whether they are all of the group.
    pub(super) fn is_whole(self) -> bool {
        self.vl == Some(self.elements) && !self.masked
    }

    /// The same without the mask.
    pub(super) fn unmasked(self) -> Body {
        Body { masked: false, ..self }
    }
}

/// A part of a group that one host register holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    /// Its first byte.
    pub(super) at: u32,
    /// Its bytes: 32, 16, 8, 4, 2 or 1.
    pub(super) bytes: u32,
}

impl Chunk {
    /// Whether a host register of 256 bits holds it.
    pub(super) fn long(self) -> bool {
        self.bytes > 16
    }

    /// The part with as many elements of another size.
    pub(super) fn scaled(self, from: u8, to: u8) -> Chunk {
        Chunk { at: self.at << to >> from, bytes: self.bytes << to >> from }
    }
}

/// The parts of a group of `bytes` bytes, a power of two.
pub(super) fn chunks(bytes: u32) -> impl Iterator<Item = Chunk> {
    let size = bytes.min(32);
    (0..bytes / size).map(move |i| Chunk { at: i * size, bytes: size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_those_of_vtype() {
        // e8, m1; e32, m8; e16, mf4; e64, mf2, which is reserved.
        assert_eq!(Shape::of(0).map(Shape::bytes), Some(16));
        assert_eq!(Shape::of(0o23).map(|shape| (shape.elements(), shape.bytes())), Some((32, 128)));
        assert_eq!(Shape::of(0o16).map(|shape| (shape.elements(), shape.registers())), Some((2, 1)));
        assert_eq!(Shape::of(0o37), None);
        assert_eq!(Shape::of(0o4), None);
    }
}
