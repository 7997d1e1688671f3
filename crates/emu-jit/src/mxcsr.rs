//! The host's control of floating point, MXCSR (Intel SDM volume 1, 10.2.3), as code of each kind needs it.

/// IM: invalid operations are not signalled.
pub(crate) const INVALID_MASK: u32 = 1 << 7;
/// The flags.
pub(crate) const FLAGS: u32 = 0x3f;
/// At the start of a process, and wherever Rust code runs: all exceptions masked, round to nearest, no flag.
pub(crate) const MASKED: u32 = 0x1f80;
/// Of generated code that computes: invalid operations are signalled (SIGFPE), and left to the interpreter.
pub(crate) const SIGNALS: u32 = MASKED & !INVALID_MASK;
/// The same with DAZ and FTZ: subnormal operands and results are zeros.
pub(crate) const FLUSHES: u32 = SIGNALS | 1 << 6 | 1 << 15;
