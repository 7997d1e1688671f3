//! Build attributes of 32-bit Arm: "Addenda to, and Errata in, the ABI for the Arm Architecture", section 3.

/// The floating-point calling convention of 32-bit Arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatAbi {
    /// Arguments in integer registers (`armel`).
    Soft,
    /// Arguments in VFP registers (`armhf`).
    Hard,
}

/// The attributes that matter for images.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Architecture version 4 to 8, from `Tag_CPU_arch`.
    pub version: Option<u8>,
    /// From `Tag_ABI_VFP_args`.
    pub float_abi: Option<FloatAbi>,
}

const TAG_FILE: u64 = 1;
const TAG_CPU_RAW_NAME: u64 = 4;
const TAG_CPU_NAME: u64 = 5;
const TAG_CPU_ARCH: u64 = 6;
const TAG_ABI_VFP_ARGS: u64 = 28;
const TAG_COMPATIBILITY: u64 = 32;

/// Reads a section of type `SHT_ARM_ATTRIBUTES`; what cannot be understood is left out.
pub(crate) fn attributes(section: &[u8], little_endian: bool) -> Attributes {
    let mut found = Attributes::default();
    let Some(mut rest) = section.strip_prefix(b"A") else { return found };
    while let Some((vendor, after)) = sized(rest, little_endian) {
        if let Some(mut file) = vendor.strip_prefix(b"aeabi\0") {
            // Sub-subsections: tag, size (counting both), attributes.
            while let [tag, body @ ..] = file {
                let Some(size) = number(body, little_endian).filter(|size| *size >= 5 && *size <= file.len())
                else {
                    break;
                };
                if u64::from(*tag) == TAG_FILE {
                    read_file(&file[5..size], &mut found);
                }
                file = &file[size..];
            }
        }
        rest = after;
    }
    found
}

fn number(bytes: &[u8], little_endian: bool) -> Option<usize> {
    let four = bytes.get(..4)?.try_into().ok()?;
    Some(if little_endian { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) } as usize)
}

/// Splits off a part that begins with its own size in four bytes; returns its content and the rest.
fn sized(bytes: &[u8], little_endian: bool) -> Option<(&[u8], &[u8])> {
    let size = number(bytes, little_endian).filter(|size| *size >= 4)?;
    Some((bytes.get(4..size)?, &bytes[size..]))
}

fn read_file(mut rest: &[u8], found: &mut Attributes) {
    while let Some(tag) = uleb128(&mut rest) {
        let is_text =
            matches!(tag, TAG_CPU_RAW_NAME | TAG_CPU_NAME) || (tag > TAG_COMPATIBILITY && tag % 2 == 1);
        if tag == TAG_COMPATIBILITY && uleb128(&mut rest).is_none() {
            return;
        }
        if is_text || tag == TAG_COMPATIBILITY {
            let Some(end) = rest.iter().position(|b| *b == 0) else { return };
            rest = &rest[end + 1..];
            continue;
        }
        let Some(value) = uleb128(&mut rest) else { return };
        match tag {
            TAG_CPU_ARCH => {
                // 0 pre-v4, 1 v4, 2 v4T, 3 v5T, 4 v5TE, 5 v5TEJ, 6 v6, 7 v6KZ, 8 v6T2, 9 v6K, 10 v7, 11 v6-M,
                // 12 v6S-M, 13 v7E-M, 14 v8-A, later ones v8 and above.
                found.version = Some(match value {
                    0..=2 => 4,
                    3..=5 => 5,
                    6..=9 | 11 | 12 => 6,
                    10 | 13 => 7,
                    _ => 8,
                });
            }
            TAG_ABI_VFP_ARGS => {
                found.float_abi = Some(if value == 1 { FloatAbi::Hard } else { FloatAbi::Soft });
            }
            _ => {}
        }
    }
}

fn uleb128(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn armhf_attributes() {
        let mut file = vec![TAG_CPU_NAME as u8];
        file.extend(b"7-A\0");
        file.extend([TAG_CPU_ARCH as u8, 10, TAG_ABI_VFP_ARGS as u8, 1]);
        let mut sub = vec![TAG_FILE as u8];
        sub.extend((file.len() as u32 + 5).to_le_bytes());
        sub.extend(&file);
        let mut section = vec![b'A'];
        section.extend((sub.len() as u32 + 10).to_le_bytes());
        section.extend(b"aeabi\0");
        section.extend(&sub);
        let found = attributes(&section, true);
        assert_eq!((found.version, found.float_abi), (Some(7), Some(FloatAbi::Hard)));
        for end in 0..section.len() {
            attributes(&section[..end], true);
        }
    }
}
