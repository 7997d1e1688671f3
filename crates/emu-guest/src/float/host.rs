//! The host's arithmetic, with the square root and the fused multiply-add that `core` does not offer.
#![allow(unsafe_code)]

use super::format::{Double, Format, HalfOperand, Single};
use core::arch::x86_64::{
    __cpuid, _mm_cvtsd_f64, _mm_cvtss_f32, _mm_fmadd_sd, _mm_fmadd_ss, _mm_set_sd, _mm_set_ss, _mm_sqrt_sd,
    _mm_sqrt_ss, _xgetbv,
};
use core::sync::atomic::{AtomicU8, Ordering};

/// A format in which the host computes.
pub(crate) trait HostFormat: Format {
    fn add(a: u64, b: u64) -> u64;
    fn sub(a: u64, b: u64) -> u64;
    fn mul(a: u64, b: u64) -> u64;
    fn div(a: u64, b: u64) -> u64;
    fn sqrt(a: u64) -> u64;
    /// `None` where the host cannot.
    fn mul_add(a: u64, b: u64, addend: u64) -> Option<u64>;
}

macro_rules! host_format {
    ($format:ty, $host:ty, $bits:ty, $sqrt:path, $mul_add:path) => {
        impl HostFormat for $format {
            #[inline(always)]
            fn add(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) + <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn sub(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) - <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn mul(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) * <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn div(a: u64, b: u64) -> u64 {
                u64::from((<$host>::from_bits(a as $bits) / <$host>::from_bits(b as $bits)).to_bits())
            }
            #[inline(always)]
            fn sqrt(a: u64) -> u64 {
                u64::from($sqrt(<$host>::from_bits(a as $bits)).to_bits())
            }
            #[inline(always)]
            fn mul_add(a: u64, b: u64, addend: u64) -> Option<u64> {
                let number = |bits: u64| <$host>::from_bits(bits as $bits);
                $mul_add(number(a), number(b), number(addend)).map(|result| u64::from(result.to_bits()))
            }
        }
    };
}

host_format!(Single, f32, u32, sqrt_single, mul_add_single);
host_format!(Double, f64, u64, sqrt_double, mul_add_double);

/// The host does not compute in half precision. An infinity is a result that [`normal`] refuses, so that the
/// arithmetic in integers takes over.
impl HostFormat for HalfOperand {
    fn add(_: u64, _: u64) -> u64 {
        Self::INFINITY
    }
    fn sub(_: u64, _: u64) -> u64 {
        Self::INFINITY
    }
    fn mul(_: u64, _: u64) -> u64 {
        Self::INFINITY
    }
    fn div(_: u64, _: u64) -> u64 {
        Self::INFINITY
    }
    fn sqrt(_: u64) -> u64 {
        Self::INFINITY
    }
    fn mul_add(_: u64, _: u64, _: u64) -> Option<u64> {
        None
    }
}

/// Whether a result is normal and not the smallest normal number, which may have been rounded up to.
#[inline(always)]
pub(super) fn normal<F: Format>(bits: u64) -> bool {
    let exponent = bits & F::INFINITY;
    exponent != F::INFINITY && exponent > 1 << F::FRACTION
}

/// 0: not asked yet; 1: no; 2: yes.
static FUSED: AtomicU8 = AtomicU8::new(0);

/// Whether the host has FMA3.
#[inline(always)]
fn has_fused() -> bool {
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
fn mul_add_single(a: f32, b: f32, addend: f32) -> Option<f32> {
    // SAFETY: the host has FMA3.
    has_fused().then(|| unsafe { fused_single(a, b, addend) })
}

/// `a * b + addend`, rounded once; `None` where the host cannot.
#[inline(always)]
fn mul_add_double(a: f64, b: f64, addend: f64) -> Option<f64> {
    // SAFETY: the host has FMA3.
    has_fused().then(|| unsafe { fused_double(a, b, addend) })
}

/// Square root.
#[inline(always)]
fn sqrt_single(a: f32) -> f32 {
    // SAFETY: every x86-64 processor has SSE.
    unsafe { _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))) }
}

/// Square root.
#[inline(always)]
fn sqrt_double(a: f64) -> f64 {
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let a = _mm_set_sd(a);
        _mm_cvtsd_f64(_mm_sqrt_sd(a, a))
    }
}
