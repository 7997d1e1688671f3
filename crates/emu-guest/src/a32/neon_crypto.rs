//! Cryptography: AES, SHA-1 and SHA-256 (manual F6.1).

use super::fields::Word;
use crate::crypto;
use crate::exit::{Flow, Step};
use crate::op::{Host, Op};
use crate::state::State;

/// Decoders of operations on quadwords; the field `z`, if there is one, must have a value.
macro_rules! quadwords {
    ($($(#[$doc:meta])* $name:ident, $size:expr, |$d:pat_param, $n:pat_param, $m:pat_param| $body:expr;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(word: &Word<'_>) -> Option<Op> {
            fn run(s: &mut State, _: &Host, op: &Op) -> Step {
                let vector = |number| s.vector(number, true);
                let ($d, $n, $m) = (vector(op.rd), vector(op.rn), vector(op.rm));
                s.set_vector(op.rd, true, $body);
                Ok(Flow::Next)
            }
            let reserved = word.field('z') != $size || word.names_odd("dnm");
            (!reserved).then(|| word.vectors(run, true, 0))
        }
    )*};
}

quadwords! {
    /// AESE.
    aese, 0, |d, _, m| crypto::aes_round::<false>(d, m);
    /// AESD.
    aesd, 0, |d, _, m| crypto::aes_round::<true>(d, m);
    /// AESMC.
    aesmc, 0, |_, _, m| crypto::aes_mix::<false>(m);
    /// AESIMC.
    aesimc, 0, |_, _, m| crypto::aes_mix::<true>(m);
    /// SHA1C.
    sha1c, 0, |d, n, m| crypto::sha1_hash::<0>(d, n as u32, m);
    /// SHA1P.
    sha1p, 0, |d, n, m| crypto::sha1_hash::<1>(d, n as u32, m);
    /// SHA1M.
    sha1m, 0, |d, n, m| crypto::sha1_hash::<2>(d, n as u32, m);
    /// SHA1H.
    sha1h, 2, |_, _, m| crypto::sha1_rotate(m);
    /// SHA1SU0.
    sha1su0, 0, |d, n, m| crypto::sha1_schedule_0(d, n, m);
    /// SHA1SU1.
    sha1su1, 2, |d, _, m| crypto::sha1_schedule_1(d, m);
    /// SHA256H.
    sha256h, 0, |d, n, m| crypto::sha256_hash::<false>(d, n, m);
    /// SHA256H2.
    sha256h2, 0, |d, n, m| crypto::sha256_hash::<true>(d, n, m);
    /// SHA256SU0.
    sha256su0, 2, |d, _, m| crypto::sha256_schedule_0(d, m);
    /// SHA256SU1.
    sha256su1, 0, |d, n, m| crypto::sha256_schedule_1(d, n, m);
}
