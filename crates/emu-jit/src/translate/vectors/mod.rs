//! Vector instructions, lowered for all guests.
//!
//! A guest decodes its instruction to a [`form::Form`]. The functions here write the code: operands that are
//! in memory are read into xmm0 and xmm1, xmm15 is free, and all steps but the last write scratch registers,
//! since the destination may be an operand.

pub(super) mod crypto;
pub(super) mod estimate;
pub(super) mod float;
pub(super) mod form;
pub(super) mod immediate;
pub(super) mod integer;
pub(super) mod lanes;
pub(super) mod permute;
pub(super) mod saturate;
pub(super) mod scalar;
pub(super) mod shift;
pub(super) mod structures;
pub(super) mod wide;
