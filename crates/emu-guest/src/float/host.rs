//! The host's square root and fused multiply-add, which `core` does not offer.
#![allow(unsafe_code)]

use core::arch::x86_64::{
    __cpuid, _mm_cvtsd_f64, _mm_cvtss_f32, _mm_fmadd_sd, _mm_fmadd_ss, _mm_set_sd, _mm_set_ss, _mm_sqrt_sd,
    _mm_sqrt_ss, _xgetbv,
};
use core::sync::atomic::{AtomicU8, Ordering};

/// 0: not asked yet; 1: no; 2: yes.
static FUSED: AtomicU8 = AtomicU8::new(0);

/// Whether the host has FMA3.
#[inline(always)]
pub(crate) fn has_fused() -> bool {
    match FUSED.load(Ordering::Relaxed) {
        0 => detect(),
        known => known == 2,
    }
}

#[cold]
fn detect() -> bool {
    let features = __cpuid(1).ecx;
    // FMA, OSXSAVE and AVX; the last two say that XGETBV exists and the vector registers may be used.
    let wanted = 1 << 12 | 1 << 27 | 1 << 28;
    // SAFETY: OSXSAVE says that XGETBV is enabled.
    let has = features & wanted == wanted && unsafe { xcr0() } & 6 == 6;
    FUSED.store(1 + u8::from(has), Ordering::Relaxed);
    has
}

/// # Safety
///
/// The host has OSXSAVE.
#[target_feature(enable = "xsave")]
unsafe fn xcr0() -> u64 {
    // SAFETY: the caller promises the feature.
    unsafe { _xgetbv(0) }
}

#[target_feature(enable = "fma")]
fn fused_single(a: f32, b: f32, addend: f32) -> f32 {
    _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(addend)))
}

#[target_feature(enable = "fma")]
fn fused_double(a: f64, b: f64, addend: f64) -> f64 {
    _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(a), _mm_set_sd(b), _mm_set_sd(addend)))
}

/// `a * b + addend`, rounded once; `None` where the host cannot.
#[inline(always)]
pub(crate) fn mul_add_single(a: f32, b: f32, addend: f32) -> Option<f32> {
    // SAFETY: the host has FMA3.
    has_fused().then(|| unsafe { fused_single(a, b, addend) })
}

/// `a * b + addend`, rounded once; `None` where the host cannot.
#[inline(always)]
pub(crate) fn mul_add_double(a: f64, b: f64, addend: f64) -> Option<f64> {
    // SAFETY: the host has FMA3.
    has_fused().then(|| unsafe { fused_double(a, b, addend) })
}

/// Square root.
#[inline(always)]
pub(crate) fn sqrt_single(a: f32) -> f32 {
    // SAFETY: every x86-64 processor has SSE.
    unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))) }
}

/// Square root.
#[inline(always)]
pub(crate) fn sqrt_double(a: f64) -> f64 {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let a = _mm_set_sd(a);
        _mm_cvtsd_f64(_mm_sqrt_sd(a, a))
    }
}
