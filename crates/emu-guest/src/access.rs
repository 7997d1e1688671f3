//! Accesses of instructions to memory: a failed one leaves the interpreter.

use crate::exit::{Exit, Leave};
use crate::memory::Fault;
use crate::op::Host;
use crate::state::State;

impl State {
    /// Leaves because of a failed access.
    #[cold]
    pub(crate) fn fault<T>(&mut self, fault: Fault) -> Result<T, Leave> {
        self.leave(Exit::Fault(fault))
    }

    /// Loads `1 << size` bytes.
    #[inline(always)]
    pub(crate) fn load(&mut self, host: &Host, address: u64, size: u8) -> Result<u64, Leave> {
        host.memory.load(address, size).or_else(|fault| self.fault(fault))
    }

    /// Stores `1 << size` bytes.
    #[inline(always)]
    pub(crate) fn store(&mut self, host: &Host, address: u64, size: u8, value: u64) -> Result<(), Leave> {
        host.memory.store(address, size, value).or_else(|fault| self.fault(fault))
    }

    /// Loads 16 bytes.
    #[inline(always)]
    pub(crate) fn load128(&mut self, host: &Host, address: u64) -> Result<u128, Leave> {
        host.memory.load128(address).or_else(|fault| self.fault(fault))
    }

    /// Stores 16 bytes.
    #[inline(always)]
    pub(crate) fn store128(&mut self, host: &Host, address: u64, value: u128) -> Result<(), Leave> {
        host.memory.store128(address, value).or_else(|fault| self.fault(fault))
    }

    /// Leaves unless `address` is a multiple of `size` bytes, as atomic and ordered accesses require.
    #[inline(always)]
    pub(crate) fn aligned(&mut self, address: u64, size: u64) -> Result<(), Leave> {
        if address & (size - 1) == 0 { Ok(()) } else { self.leave(Exit::Unaligned { address }) }
    }
}
