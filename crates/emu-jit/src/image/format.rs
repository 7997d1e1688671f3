//! The bytes of an image: what [`super::compile`] writes, and a process reads.
//!
//! Nothing here trusts a number of the file: a damaged image is refused, or gives wrong answers, but never an
//! access outside of it. Whether the code may be run is decided before, by whoever opens the file
//! ([`Image::is_whole`]).

use super::words;
use crate::flag_form::FlagForm;
use crate::layout::Assignment;
use crate::unit::{Mark, STANDARD};
use alloc::vec::Vec;

/// The first bytes of an image.
pub const MAGIC: [u8; 8] = *b"CDEMUIMG";
/// Bytes of the header.
pub const HEADER: usize = 256;
/// Bytes of a page: the code begins at a multiple.
pub const PAGE: usize = 4096;
/// Most bytes of an image.
pub const LENGTH_MAX: usize = 64 << 20;

/// Where the checksum stands in the header.
const CHECKSUM: usize = 72;
/// An empty slot of the table of entries.
const EMPTY: u32 = u32::MAX;

/// A guest file as an image knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Who makes the code: the build of the emulator, the guest, what the host's CPU has.
    pub version: [u8; 32],
    /// A digest of the code that was translated.
    pub text: [u8; 32],
    /// What the file's status says: number, size, times. Zeroes if it is not known.
    pub status: [u64; 6],
}

/// Which blocks of a file have run, by the offsets of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Where units begin that ran often, in the order in which they became hot.
    pub hot: Vec<u32>,
    /// The other blocks, ascending.
    pub cold: Vec<u32>,
}

/// An instruction for the interpreter: offsets of the block that it was read from, of its place, and of the
/// next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    /// See [`Replay`].
    pub block: u32,
    /// See [`Replay`].
    pub place: u32,
    /// See [`Replay`].
    pub next: u32,
}

/// A [`Mark`] of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageMark {
    /// Offset of the guest's instruction.
    pub guest: u32,
    /// Where the flags are.
    pub flags: FlagForm,
    /// The state of IT.
    pub context: u8,
    /// Where the registers are; `None` for the standard assignment.
    pub assignment: Option<Assignment>,
}

/// What an image consists of, before it is written.
#[derive(Default)]
pub(crate) struct Parts {
    pub code: Vec<u8>,
    /// Offsets of places, and where their code begins.
    pub entries: Vec<(u32, u32)>,
    /// Marks with offsets from the code's start, the guest's from the image's base.
    pub marks: Vec<Mark>,
    /// The assignments that the marks number from 1.
    pub assignments: Vec<Assignment>,
    pub records: Vec<Replay>,
    pub profile: Profile,
    /// The guest's code: offsets of its start and end.
    pub text: (u32, u32),
    pub identity: Identity,
}

const MARK: usize = 12;
const RECORD: usize = 12;
const ASSIGNMENT: usize = 24;

fn hash(key: u32, shift: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> shift) as usize
}

/// A checksum of 64 bits, for damage by accident. Each step is a bijection, so a changed word always changes
/// it.
pub fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = bytes.len() as u64;
    let mut step = |word: u64| sum = (sum ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|&word| step(u64::from_le_bytes(word)));
    rest.iter().for_each(|&byte| step(byte.into()));
    sum
}

/// The checksum of an image: of all bytes but itself.
fn checksum_of(image: &[u8]) -> u64 {
    let (before, rest) = image.split_at(CHECKSUM);
    checksum(before) ^ checksum(&rest[8..]).rotate_left(1)
}

impl Parts {
    /// The image's bytes; `None` if it would be too long.
    pub fn write(self) -> Option<Vec<u8>> {
        let words = words::RECORDS as usize + self.records.len();
        let code_start = (HEADER + words * words::SIZE as usize).next_multiple_of(PAGE);
        let mut image = alloc::vec![0; code_start];
        image.extend_from_slice(&self.code);
        let mut section = |bytes: &mut dyn Iterator<Item = u8>| {
            image.resize(image.len().next_multiple_of(64), 0);
            let start = image.len();
            image.extend(bytes);
            start as u32
        };
        let slots = (self.entries.len() * 2).next_power_of_two().max(16);
        let shift = 32 - slots.trailing_zeros();
        let mut table = alloc::vec![(EMPTY, 0u32); slots];
        for &(key, code) in &self.entries {
            let mut slot = hash(key, shift);
            while table[slot].0 != EMPTY {
                slot = (slot + 1) % slots;
            }
            table[slot] = (key, code);
        }
        let dwords = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let entries = section(&mut table.iter().flat_map(|&(key, code)| dwords(&[key, code])));
        let marks = section(&mut self.marks.iter().flat_map(|mark| {
            let [low, high] = mark.assignment.to_le_bytes();
            let mut bytes = dwords(&[mark.code, mark.guest as u32]);
            bytes.extend([low, high, flags_to_byte(mark.flags), mark.context]);
            bytes
        }));
        let assignments = section(
            &mut self
                .assignments
                .iter()
                .flat_map(|assignment| assignment.general().iter().chain(assignment.vector()).copied()),
        );
        let records = section(
            &mut self.records.iter().flat_map(|record| dwords(&[record.block, record.place, record.next])),
        );
        let profile =
            section(&mut self.profile.hot.iter().chain(&self.profile.cold).flat_map(|at| at.to_le_bytes()));
        if image.len() > LENGTH_MAX {
            return None;
        }
        let length = image.len() as u32;
        image[..8].copy_from_slice(&MAGIC);
        image[8..40].copy_from_slice(&self.identity.version);
        image[40..72].copy_from_slice(&self.identity.text);
        let numbers = [
            length,
            code_start as u32,
            self.code.len() as u32,
            entries,
            slots as u32,
            marks,
            self.marks.len() as u32,
            assignments,
            self.assignments.len() as u32,
            records,
            self.records.len() as u32,
            profile,
            self.profile.hot.len() as u32,
            self.profile.cold.len() as u32,
            self.text.0,
            self.text.1,
        ];
        image[80..144].copy_from_slice(&dwords(&numbers));
        for (i, word) in self.identity.status.iter().enumerate() {
            image[144 + 8 * i..152 + 8 * i].copy_from_slice(&word.to_le_bytes());
        }
        let sum = checksum_of(&image);
        image[CHECKSUM..CHECKSUM + 8].copy_from_slice(&sum.to_le_bytes());
        Some(image)
    }
}

const FLAG_FORMS: [FlagForm; 7] = [
    FlagForm::Memory,
    FlagForm::Borrow,
    FlagForm::Carry,
    FlagForm::Logical { carry: false },
    FlagForm::Logical { carry: true },
    FlagForm::Compare { swapped: false },
    FlagForm::Compare { swapped: true },
];

fn flags_to_byte(form: FlagForm) -> u8 {
    FLAG_FORMS.iter().position(|&other| other == form).unwrap_or(0) as u8
}

/// The numbers of a header.
#[derive(Clone, Copy, Debug)]
struct Numbers([u32; 16]);

impl Numbers {
    const LENGTH: usize = 0;
    const CODE: usize = 1;
    const ENTRIES: usize = 3;
    const MARKS: usize = 5;
    const ASSIGNMENTS: usize = 7;
    const RECORDS: usize = 9;
    const PROFILE: usize = 11;
    const TEXT: usize = 14;

    fn get(&self, number: usize) -> usize {
        self.0[number] as usize
    }
}

/// An image in memory.
#[derive(Clone, Copy, Debug)]
pub struct Image<'b> {
    numbers: Numbers,
    entries: &'b [[u8; 8]],
    marks: &'b [[u8; MARK]],
    assignments: &'b [[u8; ASSIGNMENT]],
    records: &'b [[u8; RECORD]],
    profile: &'b [[u8; 4]],
}

fn dword(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes)
}

/// The identity in the header of an image; `None` if there is no header.
pub fn identity(header: &[u8]) -> Option<Identity> {
    if header.len() < HEADER || header[..8] != MAGIC {
        return None;
    }
    let mut identity = Identity::default();
    identity.version.copy_from_slice(&header[8..40]);
    identity.text.copy_from_slice(&header[40..72]);
    for (i, word) in identity.status.iter_mut().enumerate() {
        *word = u64::from(dword(header, 144 + 8 * i)) | u64::from(dword(header, 148 + 8 * i)) << 32;
    }
    Some(identity)
}

/// The checksum that the header of an image names.
pub fn named_checksum(header: &[u8]) -> u64 {
    u64::from(dword(header, CHECKSUM)) | u64::from(dword(header, CHECKSUM + 4)) << 32
}

/// Whether an image's bytes are those that were written.
pub fn is_whole(image: &[u8]) -> bool {
    image.len() >= HEADER
        && dword(image, 80) as usize == image.len()
        && checksum_of(image) == named_checksum(image)
}

impl<'b> Image<'b> {
    /// Opens an image; the error says why it is none.
    ///
    /// # Errors
    ///
    /// The bytes are no image of this `version`.
    pub fn open(image: &'b [u8], version: &[u8; 32]) -> Result<Image<'b>, &'static str> {
        let header = image.get(..HEADER).ok_or("it is cut off")?;
        if header[..8] != MAGIC {
            return Err("it is no image");
        }
        if header[8..40] != *version {
            return Err("it is of another build of the emulator, or for another CPU");
        }
        let numbers = Numbers(core::array::from_fn(|i| dword(header, 80 + 4 * i)));
        if numbers.get(Numbers::LENGTH) != image.len() || image.len() > LENGTH_MAX {
            return Err("it is cut off");
        }
        const DAMAGED: &str = "it is damaged";
        let section = |start: usize, count: usize, size: usize| {
            let length = count.checked_mul(size)?;
            image.get(start..start.checked_add(length)?)
        };
        let part = |number: usize, size: usize| section(numbers.get(number), numbers.get(number + 1), size);
        let code = part(Numbers::CODE, 1).ok_or(DAMAGED)?;
        let entries = part(Numbers::ENTRIES, 8).ok_or(DAMAGED)?.as_chunks().0;
        let records = part(Numbers::RECORDS, RECORD).ok_or(DAMAGED)?.as_chunks().0;
        let profile = numbers.get(Numbers::PROFILE + 1).checked_add(numbers.get(Numbers::PROFILE + 2));
        let profile =
            profile.and_then(|count| section(numbers.get(Numbers::PROFILE), count, 4)).ok_or(DAMAGED)?;
        let words = (words::RECORDS as usize + records.len()) * words::SIZE as usize;
        let (start, slots) = (numbers.get(Numbers::CODE), entries.len());
        let able = start.is_multiple_of(PAGE)
            && start >= HEADER + words
            && !code.is_empty()
            && slots.is_power_of_two()
            && slots >= 2
            && numbers.get(Numbers::TEXT) < numbers.get(Numbers::TEXT + 1);
        if !able {
            return Err(DAMAGED);
        }
        Ok(Image {
            numbers,
            entries,
            marks: part(Numbers::MARKS, MARK).ok_or(DAMAGED)?.as_chunks().0,
            assignments: part(Numbers::ASSIGNMENTS, ASSIGNMENT).ok_or(DAMAGED)?.as_chunks().0,
            records,
            profile: profile.as_chunks().0,
        })
    }

    /// Where the code lies in the image, and its length.
    pub fn code(&self) -> (u32, u32) {
        (self.numbers.0[Numbers::CODE], self.numbers.0[Numbers::CODE + 1])
    }

    /// Offsets of the guest's code: start and end.
    pub fn text(&self) -> (u32, u32) {
        (self.numbers.0[Numbers::TEXT], self.numbers.0[Numbers::TEXT + 1])
    }

    /// Where the code for a place begins, by the place's offset.
    #[inline]
    pub fn entry(&self, place: u32) -> Option<u32> {
        let slots = self.entries.len();
        let mut slot = hash(place, 32 - slots.trailing_zeros());
        for _ in 0..slots {
            let entry = self.entries.get(slot)?;
            match dword(entry, 0) {
                EMPTY => return None,
                key if key == place => {
                    return Some(dword(entry, 4)).filter(|&code| code < self.code().1);
                }
                _ => slot = (slot + 1) % slots,
            }
        }
        None
    }

    /// The number of blocks that can be entered.
    pub fn entries(&self) -> usize {
        self.entries.iter().filter(|entry| dword(&entry[..], 0) != EMPTY).count()
    }

    /// Where the first mark at or behind an offset of the code lies.
    pub fn mark_behind(&self, code: u32) -> Option<u32> {
        let at = self.marks.partition_point(|mark| dword(mark, 0) < code);
        Some(dword(self.marks.get(at)?, 0)).filter(|&code| code < self.code().1)
    }

    /// The mark of the guest instruction whose code holds an offset.
    pub fn mark(&self, code: u32) -> Option<ImageMark> {
        let at = self.marks.partition_point(|mark| dword(mark, 0) <= code);
        let mark = self.marks.get(at.checked_sub(1)?)?;
        let number = u16::from_le_bytes([mark[8], mark[9]]);
        let assignment = match number {
            STANDARD => None,
            number => {
                let bytes = self.assignments.get(usize::from(number) - 1)?;
                Some(Assignment::from_bytes(bytes)?)
            }
        };
        let flags = *FLAG_FORMS.get(usize::from(mark[10]))?;
        Some(ImageMark { guest: dword(mark, 4), flags, context: mark[11], assignment })
    }

    /// The record that belongs to a word in front of the code.
    pub fn record(&self, word: u32) -> Option<Replay> {
        let record = self.records.get(word.checked_sub(words::RECORDS)? as usize)?;
        Some(Replay { block: dword(record, 0), place: dword(record, 4), next: dword(record, 8) })
    }

    /// Which blocks the image was made of.
    pub fn profile(&self) -> Profile {
        let hot = self.numbers.get(Numbers::PROFILE + 1);
        let (hot, cold) = self.profile.split_at(hot.min(self.profile.len()));
        let numbers = |list: &[[u8; 4]]| list.iter().map(|&at| u32::from_le_bytes(at)).collect();
        Profile { hot: numbers(hot), cold: numbers(cold) }
    }
}

impl Profile {
    /// Adds the blocks of another profile. Returns whether any was new.
    pub fn add(&mut self, other: &Profile) -> bool {
        use alloc::collections::BTreeSet;
        let mut hot: BTreeSet<u32> = self.hot.iter().copied().collect();
        let mut cold: BTreeSet<u32> = self.cold.iter().copied().collect();
        let before = (hot.len(), hot.union(&cold).count());
        self.hot.extend(other.hot.iter().filter(|&&at| hot.insert(at)));
        cold.extend(&other.cold);
        self.cold = cold.difference(&hot).copied().collect();
        before != (hot.len(), hot.union(&cold).count())
    }
}
