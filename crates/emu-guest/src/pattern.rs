//! Patterns of encodings: which bits are fixed, and which letters name the others.

/// Bits of an encoding that belong together, and the letter that names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) letter: u8,
    pub(crate) low: u8,
    pub(crate) width: u8,
}

impl Field {
    /// The value of the field in `code`.
    #[inline]
    pub(crate) const fn of(self, code: u32) -> u32 {
        code >> self.low & ((1u64 << self.width) - 1) as u32
    }
}

/// A pattern with at most `N` fields. Those that it does not have come last, with the letter 0.
#[derive(Clone, Copy)]
pub(crate) struct Pattern<const N: usize> {
    /// Bits that are fixed.
    pub(crate) mask: u32,
    /// Their values.
    pub(crate) value: u32,
    /// Bits in the encoding, 16 or 32.
    pub(crate) width: u8,
    /// From the highest bit to the lowest.
    pub(crate) fields: [Field; N],
}

/// A list made of something of each row: `column!(ROWS, row => row.0)`. Tables are kept as such lists, since
/// the more a reader skips, the more pages it touches.
macro_rules! column {
    ($rows:expr, $row:ident => $value:expr) => {{
        let (mut list, mut at) = (
            [{
                let $row = &$rows[0];
                $value
            }; $rows.len()],
            1,
        );
        while at < list.len() {
            let $row = &$rows[at];
            list[at] = $value;
            at += 1;
        }
        list
    }};
}
pub(crate) use column;

/// Reads a pattern of 16 or 32 characters, high bit first. `0` and `1` are fixed; a letter names the field
/// that the bit belongs to; `x` is open and has no name; spaces are ignored. The bits of a field lie side by
/// side.
pub(crate) const fn read<const N: usize>(pattern: &str) -> Pattern<N> {
    let bytes = pattern.as_bytes();
    let mut width = 0;
    let mut i = 0;
    while i < bytes.len() {
        width += (bytes[i] != b' ') as u8;
        i += 1;
    }
    assert!(width == 16 || width == 32, "a pattern has 16 or 32 digits");
    let mut read = Pattern { mask: 0, value: 0, width, fields: [Field { letter: 0, low: 0, width: 0 }; N] };
    let (mut bit, mut count, mut i) = (width, 0, 0);
    while i < bytes.len() {
        let digit = bytes[i];
        i += 1;
        if digit == b' ' {
            continue;
        }
        bit -= 1;
        match digit {
            b'0' => read.mask |= 1 << bit,
            b'1' => {
                read.mask |= 1 << bit;
                read.value |= 1 << bit;
            }
            b'x' => {}
            letter => {
                let last = if count == 0 { 0 } else { read.fields[count - 1].letter };
                if last == letter && read.fields[count - 1].low == bit + 1 {
                    read.fields[count - 1].low = bit;
                    read.fields[count - 1].width += 1;
                } else {
                    let mut other = 0;
                    while other < count {
                        assert!(read.fields[other].letter != letter, "a field is in one piece");
                        other += 1;
                    }
                    read.fields[count] = Field { letter, low: bit, width: 1 };
                    count += 1;
                }
            }
        }
    }
    read
}
