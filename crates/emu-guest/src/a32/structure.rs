//! What VLD1 to VLD4 and VST1 to VST4 transfer (manual F6.1), for the interpreter and the translator.

/// Which elements an instruction transfers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elements {
    /// All elements of its registers.
    Multiple,
    /// One lane of each register.
    Lane(u32),
    /// One element, to all lanes of each register.
    AllLanes,
}

/// Structures in memory and the D registers that their elements are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Structure {
    /// Which elements.
    pub elements: Elements,
    /// Log2 of the bytes of an element.
    pub size: u32,
    /// Elements of a structure, 1 to 4.
    pub count: u32,
    /// Registers for each element of a structure, 1 to 4.
    pub registers: u32,
    /// From the register of an element to that of the next one, 1 or 2.
    pub spacing: u32,
    /// Log2 of the alignment of the address.
    pub alignment: u32,
}

impl Structure {
    /// Reads a word in A32's encoding; `None` if its fields are reserved. The registers may still be too
    /// many.
    pub fn of(word: u32) -> Option<Structure> {
        if word >> 23 & 1 == 0 {
            Self::multiple(word)
        } else if word >> 10 & 3 == 3 {
            Self::all_lanes(word)
        } else {
            Self::lane(word)
        }
    }

    fn multiple(word: u32) -> Option<Structure> {
        let (size, align) = (word >> 6 & 3, word >> 4 & 3);
        // Elements, registers, spacing, highest value of the alignment.
        let (count, registers, spacing, align_max) = match word >> 8 & 15 {
            0b0000 => (4, 1, 1, 3),
            0b0001 => (4, 1, 2, 3),
            0b0010 => (1, 4, 1, 3),
            0b0011 => (2, 2, 2, 3),
            0b0100 => (3, 1, 1, 1),
            0b0101 => (3, 1, 2, 1),
            0b0110 => (1, 3, 1, 1),
            0b0111 => (1, 1, 1, 1),
            0b1000 => (2, 1, 1, 2),
            0b1001 => (2, 1, 2, 2),
            0b1010 => (1, 2, 1, 2),
            _ => return None,
        };
        if align > align_max || size == 3 && count != 1 {
            return None;
        }
        let alignment = if align == 0 { 0 } else { align + 2 };
        Some(Structure { elements: Elements::Multiple, size, count, registers, spacing, alignment })
    }

    fn lane(word: u32) -> Option<Structure> {
        let (count, size, imm) = ((word >> 8 & 3) + 1, word >> 10 & 3, word >> 4 & 15);
        let spacing = if size != 0 && count > 1 { 1 + (imm >> size & 1) } else { 1 };
        // The bits below the lane; without the spacing they are the alignment.
        let hint = imm & ((1 << size) - 1) | if size == 0 { imm & 1 } else { 0 };
        let alignment = match (count, size, hint) {
            (_, _, 0) => 0,
            (1, 1, _) => 1,
            (1, 2, 3) => 2,
            (2, _, 1) => size + 1,
            (4, 0 | 1, _) => size + 2,
            (4, 2, 1 | 2) => hint + 2,
            _ => return None,
        };
        if count == 1 && size != 0 && imm >> size & 1 == 1 {
            return None;
        }
        let elements = Elements::Lane(imm >> (size + 1));
        Some(Structure { elements, size, count, registers: 1, spacing, alignment })
    }

    fn all_lanes(word: u32) -> Option<Structure> {
        let loads = word >> 21 & 1 == 1;
        if !loads {
            return None;
        }
        let (count, wide) = ((word >> 8 & 3) + 1, word >> 5 & 1);
        let (size, alignment) = match (count, word >> 6 & 3, word >> 4 & 1 == 1) {
            (4, 3, true) => (2, 4),
            (4, 2, true) => (2, 3),
            (_, 3, _) | (1, 0, true) | (3, _, true) => return None,
            (_, size, false) => (size, 0),
            (1, size, _) => (size, size),
            (2, size, _) => (size, size + 1),
            (_, size, _) => (size, size + 2),
        };
        let (registers, spacing) = if count == 1 { (1 + wide, 1) } else { (1, 1 + wide) };
        Some(Structure { elements: Elements::AllLanes, size, count, registers, spacing, alignment })
    }
}
