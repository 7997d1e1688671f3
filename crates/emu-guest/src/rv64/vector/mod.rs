//! Vectors (manual: V 1.0 with VLEN 128, Zvfh, Zvbb, Zvbc, and the cryptography of Zvkn, Zvks and Zvkg).
//!
//! Elements beyond vl and elements that the mask leaves out keep their values, which is one of the choices of
//! "agnostic". An element is numbered from the first register of its group.

mod arithmetic;
mod configure;
mod crypto;
mod element;
mod float;
mod kind;
mod mask;
mod memory;
mod permute;
pub mod rows;

pub(super) use arithmetic::run as arithmetic;
pub use configure::accepts;
pub(super) use configure::{csr, set, set_csr};
pub(super) use crypto::run as crypto;
pub(super) use float::run as float;
pub(super) use mask::run as mask;
pub use memory::accessed;
pub(super) use memory::{load, store};
pub(super) use permute::run as permute;
