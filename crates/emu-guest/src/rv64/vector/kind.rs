//! How large the elements of an instruction's operands are beside each other.

use super::element::Shape;

/// How large the elements of the destination and of vs2 are beside those of vs1.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All the same.
    Same,
    /// The destination is twice as large.
    Wide,
    /// The destination and vs2 are.
    WideBoth,
    /// vs2 is.
    Narrow,
    /// The destination is a mask.
    Compare,
    /// Element 0 of the destination and of vs1, all elements of vs2.
    Reduction,
    /// The same, with a destination of twice the size.
    WideReduction,
    /// vs2 is smaller by this shift; there is no vs1.
    Extension(u32),
    /// There is no vs1.
    Unary,
}

impl Kind {
    /// The shapes of the destination, of vs2 and of vs1, where vtype has `shape`. The caller has checked that
    /// there are such.
    pub(super) fn shapes(self, shape: Shape) -> (Shape, Shape, Shape) {
        let wide = shape.wide();
        let one = |sew| Shape { sew, lmul: 0 };
        match self {
            Kind::Same | Kind::Unary => (shape, shape, shape),
            Kind::Wide => (wide, shape, shape),
            Kind::WideBoth => (wide, wide, shape),
            Kind::Narrow => (shape, wide, shape),
            Kind::Compare => (one(0), shape, shape),
            Kind::Reduction => (one(shape.sew), shape, one(shape.sew)),
            Kind::WideReduction => (one(shape.sew + 1), shape, one(shape.sew + 1)),
            Kind::Extension(by) => {
                (shape, Shape { sew: shape.sew - by, lmul: shape.lmul - by as i32 }, shape)
            }
        }
    }
}
