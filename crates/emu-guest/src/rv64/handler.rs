//! The function that runs each action.

use super::action::Action;
use super::{atomic, branch, compute, float, load_store, system, vector};
use crate::op::Handler;

/// The handler of an action.
pub(super) fn handler(action: Action) -> Handler {
    match action {
        Action::LoadUpper | Action::AddPc => compute::constant,
        Action::Jump => branch::jump,
        Action::JumpRegister => branch::jump_register,
        Action::Branch(comparison) => branch::conditional(comparison),
        Action::Load { size, signed } => load_store::loads(size, signed),
        Action::Store { size } => load_store::stores(size),
        Action::Compute(kind) => compute::with_register(kind),
        Action::ComputeImmediate(kind) => compute::with_immediate(kind),
        Action::ComputeWord(kind) => compute::words_with_register(kind),
        Action::ComputeWordImmediate(kind) => compute::words_with_immediate(kind),
        Action::Unary(kind) => compute::with_one(kind),
        Action::Fence => system::fence,
        Action::Nothing => system::nothing,
        Action::FenceInstructions => system::fence_instructions,
        Action::EnvironmentCall => system::environment_call,
        Action::Breakpoint => system::breakpoint,
        Action::Csr(kind) => system::csr(kind, false),
        Action::CsrImmediate(kind) => system::csr(kind, true),
        Action::LoadReserved { size } => atomic::loads_reserved(size),
        Action::StoreConditional { size } => atomic::stores_conditional(size),
        Action::Atomic { operation, size } => atomic::operations(operation, size),
        Action::CompareSwap { size } => atomic::compares(size),
        Action::ZeroBlock => load_store::zero_block,
        Action::TouchBlock => load_store::touch_block,
        Action::LoadFloat { size } => load_store::loads_of_floats(size),
        Action::StoreFloat { size } => load_store::stores_of_floats(size),
        Action::Float { operation, precision } => float::operation(operation, precision),
        Action::ToInteger { precision, wide, unsigned } => {
            float::conversion_to_integer(precision, wide, unsigned)
        }
        Action::FromInteger { precision, wide, unsigned } => {
            float::conversion_from_integer(precision, wide, unsigned)
        }
        Action::Convert { from, to } => float::conversion(from, to),
        Action::ConvertModular => float::convert_modular,
        Action::SetVectors => vector::set,
        Action::Vector(_) => vector::arithmetic,
        Action::VectorFloat(_) => vector::float,
        Action::VectorMask(_) => vector::mask,
        Action::VectorPermute(_) => vector::permute,
        Action::VectorCrypto(_) => vector::crypto,
        Action::VectorLoad => vector::load,
        Action::VectorStore => vector::store,
    }
}
