//! Indexes of tables of encodings: for the bits of two ranges the rows that may match, in the order of the
//! table, so that a search looks at few of them.

/// Two ranges of bits that choose a bucket of an index: their lowest bits and widths, the high range first.
pub(crate) type Key = [(u32, u32); 2];

/// Mask and value of a row: the words that equal the value under the mask belong to it.
pub(crate) type Words = [(u32, u32)];

/// The bucket of a word.
#[inline(always)]
pub(crate) const fn bucket(key: Key, word: u32) -> usize {
    let [(high, high_width), (low, low_width)] = key;
    ((word >> high & ((1 << high_width) - 1)) << low_width | word >> low & ((1 << low_width) - 1)) as usize
}

/// The length of [`Index::start`].
pub(crate) const fn starts(key: Key) -> usize {
    (1 << (key[0].1 + key[1].1)) + 1
}

/// How many entries an index has.
pub(crate) const fn length(key: Key, rows: &Words) -> usize {
    let (mut length, mut i) = (0, 0);
    while i < rows.len() {
        // Every subset of the bits of a bucket that the row leaves open.
        length += 1 << bucket(key, !rows[i].0).count_ones();
        i += 1;
    }
    length
}

/// For each bucket the rows that may match, in the order of the table.
pub(crate) struct Index<const START: usize, const LENGTH: usize> {
    pub(crate) start: [u16; START],
    pub(crate) rows: [u16; LENGTH],
}

impl<const START: usize, const LENGTH: usize> Index<START, LENGTH> {
    /// The index of a table; the lengths are those of [`starts`] and [`length`].
    pub(crate) const fn new(key: Key, rows: &Words) -> Self {
        let mut index = Index { start: [0; START], rows: [0; LENGTH] };
        assert!(LENGTH <= u16::MAX as usize, "the index is too long");
        // At first the length of each bucket; then, while the buckets are filled, the place of the next row.
        let mut next = [0u16; START];
        let mut filling = false;
        loop {
            let mut i = 0;
            while i < rows.len() {
                let (mask, value) = rows[i];
                let (fixed, open) = (bucket(key, value), bucket(key, !mask));
                let mut some = 0;
                loop {
                    let bucket = fixed | some;
                    if filling {
                        index.rows[next[bucket] as usize] = i as u16;
                    }
                    next[bucket] += 1;
                    if some == open {
                        break;
                    }
                    // The next of the subsets of `open`.
                    some = some.wrapping_sub(open) & open;
                }
                i += 1;
            }
            if filling {
                return index;
            }
            filling = true;
            let mut bucket = 0;
            while bucket + 1 < START {
                index.start[bucket + 1] = index.start[bucket] + next[bucket];
                next[bucket] = index.start[bucket];
                bucket += 1;
            }
        }
    }
}

/// The first row of a table that `word` belongs to; `start` and `index` are those of the table's [`Index`].
#[inline(always)]
pub(crate) fn find(key: Key, start: &[u16], index: &[u16], rows: &Words, word: u32) -> Option<usize> {
    let bucket = bucket(key, word);
    let candidates = usize::from(start[bucket])..usize::from(start[bucket + 1]);
    index[candidates].iter().map(|&row| usize::from(row)).find(|&row| {
        let (mask, value) = rows[row];
        word & mask == value
    })
}
