//! Makes an image of the blocks of a file of guest code.

use super::format::{Identity, PAGE, Parts, Profile, Replay};
use crate::thunks::Thunks;
use crate::translate::{
    Blocks, Buffers, Features, Ground, Isa, Literals, Origin, branch_back, configuration_before, translate,
};
use crate::unit::{Keying, STANDARD};
use crate::wary::WarySet;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;
use crossdock_emu_guest::guest::Guest;
use crossdock_emu_guest::{CodeLines, Host};

/// Most bytes of an image's code.
const CODE_MAX: usize = 32 << 20;

/// In how many blocks before a unit the configuration of vectors is looked for.
const BLOCKS_BEFORE: usize = 8;

/// What an image is made of.
pub struct Request<'r> {
    /// The memory that holds the file's code, and nothing that may change. Nothing outside of it is read.
    pub host: &'r Host,
    /// The lines from which code was read: reading marks them.
    pub lines: &'static CodeLines,
    /// The address in that memory of the file's offset 0, a multiple of the size of a page; it need not be in
    /// the memory.
    pub base: u64,
    /// Offsets of the code in the file.
    pub text: Range<u32>,
    /// The blocks to translate. Those outside of the code are left out.
    pub profile: &'r Profile,
    /// What the host's CPU has.
    pub features: Features,
    /// What the image is to be found by.
    pub identity: Identity,
}

/// Makes the image of a file. The same code, blocks and features give the same bytes, wherever the code lies.
/// `None` if nothing can be translated, or the image would be too long.
pub fn compile<I: Isa>(request: &Request<'_>) -> Option<Vec<u8>> {
    let Request { host, lines, base, ref text, .. } = *request;
    if !base.is_multiple_of(PAGE as u64) {
        return None;
    }
    let keying = Keying { shift: I::MODE_SHIFT };
    let inside = |place: &u32| {
        let place = u64::from(*place);
        let address = <I as Guest>::address(place);
        let is_inside = address >= text.start.into() && address < text.end.into();
        is_inside && address.is_multiple_of(I::GRANULE) && I::places(address).any(|other| other == place)
    };
    let mut profile = Profile::default();
    profile.hot.extend(request.profile.hot.iter().copied().filter(inside));
    profile.cold.extend(request.profile.cold.iter().copied().filter(inside));
    let known: BTreeSet<u32> = profile.hot.iter().chain(&profile.cold).copied().collect();
    let offset = |place: u64| u32::try_from(place.wrapping_sub(base)).ok();
    let literals = base.wrapping_add(text.start.into())..base.wrapping_add(text.end.into());
    let wary = WarySet::default();
    let (mut buffers, mut blocks) = (Buffers::default(), Blocks::<I>::default());
    let mut parts = Parts { text: (text.start, text.end), identity: request.identity, ..Parts::default() };
    let mut entries = BTreeMap::new();
    let mut covered = BTreeSet::new();
    let mut links = Vec::new();
    let mut numbers = BTreeMap::new();
    // A unit examines only the loop that it begins with: so the heads of loops come first, and those of inner
    // loops before those of outer ones.
    let mut heads = Vec::new();
    for &start in &known {
        let back = branch_back(&mut blocks, host, lines, base.wrapping_add(start.into()));
        heads.extend(back.and_then(|(head, length)| {
            offset(head).filter(|head| known.contains(head)).map(|head| (length, head))
        }));
    }
    heads.sort_unstable();
    let heads = heads.iter().map(|(_, head)| head);
    for &start in profile.hot.iter().chain(heads).chain(&profile.cold) {
        if entries.contains_key(&start) || parts.code.len() > CODE_MAX {
            continue;
        }
        let code = parts.code.len().next_multiple_of(16);
        let origin = Origin {
            thunks: Thunks::default(),
            base: code as u32,
            ground: Ground::Image { base },
            first_link: 0,
            wary: &wary,
            features: request.features,
            lines,
            keying,
            // An image is dropped when any part of its code changes.
            literals: Some(Literals::new(&host.memory, literals.clone())),
        };
        buffers.unit.first_record = parts.records.len() as u32;
        if I::CONFIGURES {
            let before = known.range(..start).rev().take(BLOCKS_BEFORE);
            let before = before.map(|&at| base.wrapping_add(at.into()));
            blocks.configuration = configuration_before(&mut blocks, host, lines, before);
        }
        let start = base.wrapping_add(start.into());
        let wanted =
            |other: u64| offset(other).is_some_and(|at| known.contains(&at) && !covered.contains(&at));
        if !translate(&origin, &mut buffers, &mut blocks, (host, None), start, 0, wanted) {
            continue;
        }
        parts.code.resize(code, 0xcc);
        parts.code.extend_from_slice(buffers.assembler.finish());
        buffers.assembler.clear();
        let unit = &mut buffers.unit;
        for &(key, _, at) in &unit.blocks {
            entries.insert(offset(key)?, at);
            covered.insert(offset(key)?);
        }
        covered.extend(unit.inner.iter().filter_map(|&(start, _)| offset(start)));
        links.extend(unit.links.iter().map(|link| (link.target, link.site)));
        for mark in &unit.marks {
            let mut mark = *mark;
            mark.guest = offset(start.wrapping_add_signed(mark.guest.into()))? as i32;
            if mark.assignment != STANDARD {
                let assignment = &unit.assignments[usize::from(mark.assignment) - 1];
                let registers = (*assignment.general(), *assignment.vector());
                let next = parts.assignments.len();
                mark.assignment = *numbers.entry(registers).or_insert(u16::try_from(next + 1).ok()?);
                if usize::from(mark.assignment) > next {
                    parts.assignments.push(assignment.clone());
                }
            }
            parts.marks.push(mark);
        }
        for record in unit.records.drain(..) {
            let [block, place, next] = [record.block, record.pc, record.next].map(offset);
            parts.records.push(Replay { block: block?, place: place?, next: next? });
        }
        unit.assignments.clear();
        unit.clear();
    }
    for (target, site) in links {
        let Some(&code) = offset(target).and_then(|target| entries.get(&target)) else { continue };
        let site = site as usize;
        let displacement = code.wrapping_sub(site as u32 + 4);
        parts.code.get_mut(site..site + 4)?.copy_from_slice(&displacement.to_le_bytes());
    }
    if parts.code.is_empty() {
        return None;
    }
    parts.entries = entries.into_iter().collect();
    parts.profile = profile;
    parts.write()
}
