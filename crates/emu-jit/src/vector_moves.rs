//! Moves between the host's vector registers and what they hold of the guest's: vector registers, parts of
//! them, or nothing.

use crate::layout::{NOTHING, PARTS, QUARTERS, vector_operand};
use crossdock_emu_x64::{Assembler, Size, Xmm};

/// A vector register, or a part of one, in the state = its host register.
pub(crate) fn to_memory(a: &mut Assembler, operand: u8, host: Xmm) {
    let place = vector_operand(operand);
    match operand {
        0..PARTS => a.vstore(place, host),
        PARTS..QUARTERS => a.vstore_q(place, host),
        QUARTERS..NOTHING => a.vmov_to(Size::D, place, host),
        NOTHING.. => {}
    }
}

/// The reverse.
pub(crate) fn from_memory(a: &mut Assembler, host: Xmm, operand: u8) {
    let place = vector_operand(operand);
    match operand {
        0..PARTS => a.vload(host, place),
        PARTS..QUARTERS => a.vmovq(host, place),
        QUARTERS..NOTHING => a.vmov_from(Size::D, host, place),
        NOTHING.. => {}
    }
}
