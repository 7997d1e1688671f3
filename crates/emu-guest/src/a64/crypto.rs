//! Cryptography: AES, SHA-1 and SHA-256 (manual C3.6, C4.1.96).

use crate::crypto;
use crate::exit::{Flow, Step};
use crate::op::{Host, Op};
use crate::state::State;

/// Handlers: the result in Vd, of Vd, Vn and Vm.
macro_rules! handlers {
    ($($(#[$doc:meta])* $name:ident $(<const $parameter:ident: $type:ty>)?, |$d:pat_param, $n:pat_param, $m:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name$(<const $parameter: $type>)?(s: &mut State, _: &Host, op: &Op) -> Step {
            let ($d, $n, $m) = (s.v[op.vd()], s.v[op.vn()], s.v[op.vm()]);
            s.v[op.vd()] = $body;
            Ok(Flow::Next)
        }
    )*};
}

handlers! {
    /// AESE, AESD.
    aes_round<const DECRYPT: bool>, |d, n, _| crypto::aes_round::<DECRYPT>(d, n);
    /// AESMC, AESIMC.
    aes_mix<const INVERSE: bool>, |_, n, _| crypto::aes_mix::<INVERSE>(n);
    /// SHA1C, SHA1P, SHA1M: `KIND` 0 to 2.
    sha1_hash<const KIND: u32>, |d, n, m| crypto::sha1_hash::<KIND>(d, n as u32, m);
    /// SHA1H.
    sha1_rotate, |_, n, _| crypto::sha1_rotate(n);
    /// SHA1SU0.
    sha1_schedule_0, |d, n, m| crypto::sha1_schedule_0(d, n, m);
    /// SHA1SU1.
    sha1_schedule_1, |d, n, _| crypto::sha1_schedule_1(d, n);
    /// SHA256H, SHA256H2.
    sha256_hash<const SECOND: bool>, |d, n, m| crypto::sha256_hash::<SECOND>(d, n, m);
    /// SHA256SU0.
    sha256_schedule_0, |d, n, _| crypto::sha256_schedule_0(d, n);
    /// SHA256SU1.
    sha256_schedule_1, |d, n, m| crypto::sha256_schedule_1(d, n, m);
}
