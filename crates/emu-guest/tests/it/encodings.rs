//! The table against Arm's own list of A64 encodings: what is implemented, what is refused on purpose.

use aarchmrs_instructions::A64;
use crossdock_emu_guest::a64::{self, Support, TABLE, classify};
use std::collections::BTreeMap;

/// One encoding of Arm's list.
struct Encoding {
    group: &'static str,
    name: &'static str,
    mask: u32,
    value: u32,
}

macro_rules! encodings {
    ($($class:ident::$group:ident::$name:ident,)*) => {
        const ENCODINGS: &[Encoding] = &[$(Encoding {
            group: stringify!($group),
            name: A64::$class::$group::$name::NAME,
            mask: A64::$class::$group::$name::OPCODE_MASK,
            value: A64::$class::$group::$name::OPCODE,
        }),*];
    };
}
include!("encodings_list.rs");

/// Refused encodings, by group of the list and mnemonic, and their features. `*` ends a prefix.
const REFUSED: &[(&str, &str, &str)] = &[
    ("addsub_immtags", "*", "FEAT_MTE"),
    ("ldsttags", "*", "FEAT_MTE"),
    ("dp_2src", "SUBP*", "FEAT_MTE"),
    ("dp_2src", "IRG", "FEAT_MTE"),
    ("dp_2src", "GMI", "FEAT_MTE"),
    ("ldstpair_off", "STGP", "FEAT_MTE"),
    ("ldstpair_pre", "STGP", "FEAT_MTE"),
    ("ldstpair_post", "STGP", "FEAT_MTE"),
    ("branch_reg", "BRA*", "FEAT_PAuth"),
    ("branch_reg", "BLRA*", "FEAT_PAuth"),
    ("branch_reg", "RETA*", "FEAT_PAuth"),
    ("branch_reg", "ERETA*", "FEAT_PAuth"),
    ("dp_1src", "PAC*", "FEAT_PAuth"),
    ("dp_1src", "AUT*", "FEAT_PAuth"),
    ("dp_1src", "XPAC*", "FEAT_PAuth"),
    ("dp_2src", "PACGA", "FEAT_PAuth"),
    ("ldst_pac", "*", "FEAT_PAuth"),
    ("dp_1src_imm", "*", "FEAT_PAuth_LR"),
    ("miscbranch", "*", "FEAT_PAuth_LR"),
    ("branch_reg", "RETABSPPCR", "FEAT_PAuth_LR"),
    ("branch_reg", "ERET", "not for EL0"),
    ("branch_reg", "DRPS", "not for EL0"),
    ("branch_reg", "TEXIT", "FEAT_TEV"),
    ("exception", "HVC", "not for EL0"),
    ("exception", "SMC", "not for EL0"),
    ("exception", "HLT", "external debugger"),
    ("exception", "DCPS*", "external debugger"),
    ("exception", "FLT", "newer than Armv9.6"),
    ("exception", "TENTER", "FEAT_TEV"),
    ("tchange_imm", "*", "FEAT_TEV"),
    ("tchange_reg", "*", "FEAT_TEV"),
    ("testfault", "*", "newer than Armv9.6"),
    ("compfault_imm", "*", "newer than Armv9.6"),
    ("compfault_regs", "*", "newer than Armv9.6"),
    ("extendedhints", "*", "newer than Armv9.6"),
    ("compbranch_imm", "*", "FEAT_CMPBR"),
    ("compbranch_regs", "*", "FEAT_CMPBR"),
    ("compbranch_regs2", "*", "FEAT_CMPBR"),
    ("condbranch", "BC", "FEAT_HBC"),
    ("barriers", "SB", "FEAT_SB"),
    ("barriers", "DSB_BOn*", "FEAT_XS"),
    ("pstate", "CFINV", "FEAT_FlagM"),
    ("pstate", "XAFLAG", "FEAT_FlagM2"),
    ("pstate", "AXFLAG", "FEAT_FlagM2"),
    ("pstate", "MSR", "not for EL0"),
    ("rmif", "*", "FEAT_FlagM"),
    ("setf", "*", "FEAT_FlagM"),
    ("systeminstrs", "SYSL", "no instruction for EL0"),
    ("systeminstrswithreg", "*", "FEAT_WFxT"),
    ("syspairinstrs", "*", "FEAT_SYSINSTR128"),
    ("systemmovepr", "*", "FEAT_SYSREG128"),
    ("minmax_imm", "*", "FEAT_CSSC"),
    ("dp_1src", "CTZ", "FEAT_CSSC"),
    ("dp_1src", "CNT", "FEAT_CSSC"),
    ("dp_1src", "ABS", "FEAT_CSSC"),
    ("dp_2src", "SMAX", "FEAT_CSSC"),
    ("dp_2src", "UMAX", "FEAT_CSSC"),
    ("dp_2src", "SMIN", "FEAT_CSSC"),
    ("dp_2src", "UMIN", "FEAT_CSSC"),
    ("dp_3src", "MADDPT", "FEAT_CPA"),
    ("dp_3src", "MSUBPT", "FEAT_CPA"),
    ("addsub_pt", "*", "FEAT_CPA"),
    ("memcms", "*", "FEAT_MOPS"),
    ("memset_go", "*", "FEAT_MOPS"),
    ("memop", "ST64B*", "FEAT_LS64"),
    ("memop", "LD64B", "FEAT_LS64"),
    ("memop", "LDA64B", "newer than Armv9.6"),
    ("memop", "STL64B*", "newer than Armv9.6"),
    ("ldst_regoff", "RPRFM", "FEAT_RPRFM: a hint that does nothing"),
    ("memop", "RCW*", "FEAT_THE"),
    ("memop", "LDB*", "FEAT_LSFE"),
    ("memop", "STB*", "FEAT_LSFE"),
    ("memop", "LDF*", "FEAT_LSFE"),
    ("memop", "STF*", "FEAT_LSFE"),
    ("memop_128", "*", "FEAT_LSE128"),
    ("memop_unpriv", "*", "FEAT_LSUI"),
    ("comswap_unpriv", "*", "FEAT_LSUI"),
    ("comswappr_unpriv", "*", "FEAT_LSUI"),
    ("ldstexclr_unpriv", "*", "FEAT_LSUI"),
    ("ldstnapair_offs", "STTNP", "FEAT_LSUI"),
    ("ldstnapair_offs", "LDTNP", "FEAT_LSUI"),
    ("ldstpair_off", "STTP", "FEAT_LSUI"),
    ("ldstpair_off", "LDTP", "FEAT_LSUI"),
    ("ldstpair_pre", "STTP", "FEAT_LSUI"),
    ("ldstpair_pre", "LDTP", "FEAT_LSUI"),
    ("ldstpair_post", "STTP", "FEAT_LSUI"),
    ("ldstpair_post", "LDTP", "FEAT_LSUI"),
    ("rcwcomswap", "*", "FEAT_THE"),
    ("rcwcomswappr", "*", "FEAT_THE"),
    ("ldst_gcs", "*", "FEAT_GCS"),
    ("ldapstl_unscaled", "*", "FEAT_LRCPC2"),
    ("ldapstl_simd", "*", "FEAT_LRCPC3"),
    ("ldapstl_writeback", "*", "FEAT_LRCPC3"),
    ("ldiappstilp", "*", "FEAT_LRCPC3"),
    ("asisdlso", "STL1", "FEAT_LRCPC3"),
    ("asisdlso", "LDAP1", "FEAT_LRCPC3"),
    ("asimdmiscfp16", "*", "FEAT_FP16"),
    ("asimdsamefp16", "*", "FEAT_FP16"),
    ("asisdmiscfp16", "*", "FEAT_FP16"),
    ("asisdsamefp16", "*", "FEAT_FP16"),
    ("asimdsame", "FMLAL*", "FEAT_FHM"),
    ("asimdsame", "FMLSL*", "FEAT_FHM"),
    ("asimdelem", "FMLSL*", "FEAT_FHM"),
    ("asimdelem", "FMLAL", "FEAT_FHM"),
    ("asimdelem", "FMLAL2", "FEAT_FHM"),
    ("asimdelem", "FMLAL*", "FEAT_FP8FMA"),
    ("asimdsame2", "FMLAL*", "FEAT_FP8FMA"),
    ("asimdsame", "FAMAX", "FEAT_FAMINMAX"),
    ("asimdsame", "FAMIN", "FEAT_FAMINMAX"),
    ("asimdsame", "FSCALE", "FEAT_FP8"),
    ("asimdmisc", "F1CVTL", "FEAT_FP8"),
    ("asimdmisc", "F2CVTL", "FEAT_FP8"),
    ("asimdmisc", "BF1CVTL", "FEAT_FP8"),
    ("asimdmisc", "BF2CVTL", "FEAT_FP8"),
    ("asimdsame2", "FCVTN", "FEAT_FP8"),
    ("asimdsame2", "FDOT", "FEAT_FP8DOT2, FEAT_FP8DOT4, FEAT_F16F32DOT"),
    ("asimdelem", "FDOT", "FEAT_FP8DOT2, FEAT_FP8DOT4, FEAT_F16F32DOT"),
    ("asimdsame2", "FMMLA", "FEAT_F8F16MM and relatives"),
    ("asimdsame2", "BF*", "FEAT_BF16"),
    ("asimdelem", "BF*", "FEAT_BF16"),
    ("asimdmisc", "BFCVTN", "FEAT_BF16"),
    ("floatdp1", "BFCVT", "FEAT_BF16"),
    ("asimdsame2", "USDOT", "FEAT_I8MM"),
    ("asimdsame2", "SMMLA", "FEAT_I8MM"),
    ("asimdsame2", "UMMLA", "FEAT_I8MM"),
    ("asimdsame2", "USMMLA", "FEAT_I8MM"),
    ("asimdelem", "USDOT", "FEAT_I8MM"),
    ("asimdelem", "SUDOT", "FEAT_I8MM"),
    ("asimdsame2", "FCMLA", "FEAT_FCMA"),
    ("asimdsame2", "FCADD", "FEAT_FCMA"),
    ("asimdelem", "FCMLA", "FEAT_FCMA"),
    ("asimdmisc", "FRINT32*", "FEAT_FRINTTS"),
    ("asimdmisc", "FRINT64*", "FEAT_FRINTTS"),
    ("floatdp1", "FRINT32*", "FEAT_FRINTTS"),
    ("floatdp1", "FRINT64*", "FEAT_FRINTTS"),
    ("floatcmp", "FCMTL*", "newer than Armv9.6"),
    ("floatdp2", "FMAX?*", "newer than Armv9.6"),
    ("floatdp2", "FMIN?*", "newer than Armv9.6"),
    ("asimdtbl", "LUTI*", "FEAT_LUT"),
    ("crypto3_imm2", "*", "FEAT_SM3"),
    ("crypto4", "SM3SS1", "FEAT_SM3"),
    ("cryptosha512_3", "SM3*", "FEAT_SM3"),
    ("cryptosha512_2", "SM4E", "FEAT_SM4"),
    ("cryptosha512_3", "SM4EKEY", "FEAT_SM4"),
    ("crypto3_imm6", "*", "FEAT_SHA3"),
    ("crypto4", "EOR3", "FEAT_SHA3"),
    ("crypto4", "BCAX", "FEAT_SHA3"),
    ("cryptosha512_3", "RAX1", "FEAT_SHA3"),
    ("cryptosha512_2", "SHA512*", "FEAT_SHA512"),
    ("cryptosha512_3", "SHA512*", "FEAT_SHA512"),
    ("perm_undef", "UDF", "permanently undefined"),
];

fn mnemonic(encoding: &Encoding) -> &'static str {
    encoding.name.split('_').next().unwrap_or(encoding.name)
}

/// The feature for which an encoding is refused.
fn refused(encoding: &Encoding) -> Option<&'static str> {
    let name = mnemonic(encoding);
    // Half precision and conversions within the vector registers share groups and mnemonics with the rest.
    let parts: Vec<&str> = encoding.name.split('_').collect();
    if encoding.group.starts_with("float") {
        if parts.contains(&"sisd") {
            return Some("FEAT_FPRCVT");
        }
        if ["H", "HZ", "H32", "H64", "32H", "64H"].contains(&parts[1]) {
            return Some("FEAT_FP16");
        }
    }
    let half = match encoding.group {
        "asimdall" | "asisdpair" => encoding.name.ends_with("_only_H"),
        "asimdelem" | "asisdelem" => encoding.name.ends_with("_RH_H"),
        "asimdimm" => encoding.name.ends_with("_H_h"),
        _ => false,
    };
    if half {
        return Some("FEAT_FP16");
    }
    REFUSED
        .iter()
        .find(|(group, pattern, _)| {
            *group == encoding.group
                && match pattern.strip_suffix('*') {
                    // `?` demands another letter.
                    Some(prefix) => match prefix.strip_suffix('?') {
                        Some(prefix) => {
                            name.strip_prefix(prefix).is_some_and(|rest| !["", "NM"].contains(&rest))
                        }
                        None => encoding.name.starts_with(prefix),
                    },
                    None => name == *pattern,
                }
        })
        .map(|(_, _, feature)| *feature)
}

/// DC ZVA, and MSR NZCV: few system instructions and registers exist, and random words would miss them.
const RARE: [u32; 2] = [0xd50b_7420, 0xd51b_4200];

/// Words of an encoding, whose other bits are all zero, all one, or random.
fn words(encoding: &Encoding) -> impl Iterator<Item = u32> + use<> {
    let (mask, value) = (encoding.mask, encoding.value);
    (0u64..64)
        .map(move |i| {
            let fill = match i {
                0 => 0,
                1 => u32::MAX,
                _ => {
                    (i.wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        .rotate_left(29)
                        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
                        >> 32) as u32
                }
            };
            value | fill & !mask
        })
        .chain(RARE.into_iter().filter(move |word| word & mask == value))
}

/// Whether another, more specific encoding of the list claims `word`.
fn claimed_by_another(encoding: &Encoding, word: u32) -> bool {
    ENCODINGS
        .iter()
        .any(|other| word & other.mask == other.value && other.mask.count_ones() > encoding.mask.count_ones())
}

#[test]
fn every_encoding_is_implemented_or_refused_on_purpose() {
    let (mut implemented, mut missing) = (0, Vec::new());
    let mut features: BTreeMap<&str, usize> = BTreeMap::new();
    for encoding in ENCODINGS {
        let mut own = words(encoding).filter(|&word| !claimed_by_another(encoding, word));
        let found = own.any(|word| {
            Support::of(word) == Support::Implemented
                && classify(word).is_some_and(|row| row.name() == mnemonic(encoding))
        });
        match (found, refused(encoding)) {
            (true, None) => implemented += 1,
            (false, Some(feature)) => *features.entry(feature).or_default() += 1,
            (true, Some(feature)) => panic!("{} is implemented and refused for {feature}", encoding.name),
            (false, None) => missing.push(encoding.name),
        }
    }
    println!("{} encodings: {implemented} implemented, {} missing", ENCODINGS.len(), missing.len());
    for (feature, count) in &features {
        println!("  {count:4} refused: {feature}");
    }
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(implemented > 1000);
}

#[test]
fn refused_encodings_decode_to_nothing() {
    for encoding in ENCODINGS.iter().filter(|encoding| refused(encoding).is_some()) {
        // Half-precision immediates and hints share words with encodings that exist.
        for word in words(encoding).filter(|&word| !claimed_by_another(encoding, word)) {
            let row = classify(word);
            assert!(
                Support::of(word) != Support::Implemented
                    || row.is_some_and(|row| row.name() != mnemonic(encoding)),
                "{word:08x} {} decodes to {:?}",
                encoding.name,
                row.map(|row| row.name())
            );
        }
    }
}

#[test]
fn messages_name_what_is_refused() {
    for encoding in ENCODINGS {
        for word in words(encoding).filter(|&word| !claimed_by_another(encoding, word)) {
            if Support::of(word) == Support::Implemented {
                continue;
            }
            let named = a64::refused(word).map(|row| (row.name(), row.feature()));
            let right = match refused(encoding) {
                None => true,
                Some(feature) => named.is_some_and(|(name, found)| {
                    found == feature
                        && match name.strip_suffix("...") {
                            Some(start) => mnemonic(encoding).starts_with(start),
                            None => name.is_empty() || name == mnemonic(encoding),
                        }
                }),
            };
            assert!(right, "{word:08x} {}: {named:?}", encoding.name);
        }
    }
    let feature = |word| a64::refused(word).map(|row| row.feature());
    // PTRUE P0.B; RDSVL X0, #1; nothing.
    assert_eq!(feature(0x2518_e3e0), Some("FEAT_SVE"));
    assert_eq!(feature(0xc080_0000), Some("FEAT_SME"));
    assert_eq!(feature(0x9ac0_7c00), None);
}

#[test]
fn every_row_is_reachable() {
    for row in TABLE {
        let reached = (0u32..4096).any(|i| {
            let fill = i.wrapping_mul(0x9e37_79b9);
            classify(row.value | fill & !row.mask).is_some_and(|found| std::ptr::eq(found, row))
        });
        assert!(reached, "{} {:08x}/{:08x} is shadowed by rows before it", row.name(), row.value, row.mask);
    }
}
