//! Advanced SIMD of A32 on known values, and what QEMU cannot be asked: big-endian accesses, alignment of 32
//! bytes, and faults in the middle.

use crate::cases::Mapping;
use crate::differ::install_fault_handler;
use crossdock_emu_guest::a32::Interpreter;
use crossdock_emu_guest::a32::registers::E;
use crossdock_emu_guest::memory::Memory;
use crossdock_emu_guest::{Exit, Host, Invalidations, State};
use std::sync::atomic::AtomicU32;

/// Code, and after it a page of data; the page after that is not mapped.
struct Guest {
    code: Mapping,
    data: Mapping,
    state: State,
}

/// FPSCR.QC.
const QC: u32 = 1 << 27;
/// BKPT #0, where a test ends.
const END: u32 = 0xe120_0070;

impl Guest {
    /// `slot` gives each test its addresses. R0 is the address of the data.
    fn new(slot: u64, words: &[u32], data: &[u8]) -> Guest {
        install_fault_handler();
        let base = 0x7000_0000 + slot * 0x10_0000;
        let code: Vec<u8> = words.iter().chain([&END]).flat_map(|word| word.to_le_bytes()).collect();
        let mut guest = Guest {
            code: Mapping::new(base, &code, 0x1000),
            data: Mapping::new(base + 0x1000, data, 0x1000),
            state: State::default(),
        };
        guest.state.pc = base;
        guest.state.set_r(0, guest.address());
        guest
    }

    fn address(&self) -> u32 {
        self.data.0 as u32
    }

    fn run(&mut self) -> Exit {
        // SAFETY: the window holds the two mappings and a page that is not mapped.
        let memory = unsafe { Memory::new(self.code.0, self.data.0 + 0x2000) };
        let host = Host { memory, counter: || 0, executable: Host::anywhere };
        let log = Invalidations::new();
        Interpreter::new(&log).run(&mut self.state, &host, &AtomicU32::new(0), 1000)
    }

    /// Runs to the end.
    fn finish(&mut self) {
        assert_eq!(self.run(), Exit::Breakpoint(0));
    }

    fn d(&self, n: usize) -> u64 {
        (self.state.v[n / 2] >> (64 * (n & 1))) as u64
    }
}

#[test]
fn a_round_of_aes_is_that_of_the_standard() {
    // AESE.8 Q0, Q1; AESMC.8 Q0, Q0.
    let mut guest = Guest::new(0, &[0xf3b0_0302, 0xf3b0_0380], &[]);
    // FIPS 197, appendix B: the input, the cipher key, and the state after MixColumns of round 1.
    guest.state.v[0] = 0x3243_f6a8_885a_308d_3131_98a2_e037_0734_u128.swap_bytes();
    guest.state.v[1] = 0x2b7e_1516_28ae_d2a6_abf7_1588_09cf_4f3c_u128.swap_bytes();
    guest.finish();
    assert_eq!(guest.state.v[0], 0x0466_81e5_e0cb_199a_48f8_d37a_2806_264c_u128.swap_bytes());
}

#[test]
fn structures_are_taken_apart_and_put_together() {
    let bytes: Vec<u8> = (0..24).collect();
    // VLD3.8 {D0, D1, D2}, [R0]!; VST3.8 {D0, D1, D2}, [R0], R1.
    let mut guest = Guest::new(1, &[0xf420_040d, 0xf400_0401], &bytes);
    guest.state.set_r(1, 100);
    guest.finish();
    assert_eq!(guest.d(0), 0x15_12_0f_0c_09_06_03_00);
    assert_eq!(guest.d(1), 0x16_13_10_0d_0a_07_04_01);
    assert_eq!(guest.d(2), 0x17_14_11_0e_0b_08_05_02);
    assert_eq!(guest.state.r(0), guest.address() + 124);
    assert_eq!(guest.data.bytes(48)[24..], bytes);
}

#[test]
fn a_lane_changes_alone_and_all_lanes_together() {
    // VLD1.32 {D1[1]}, [R0]; VLD1.16 {D2[], D3[]}, [R0]; VMOV.8 D3[7], R1; VMOV.S16 R2, D1[3].
    let words = [0xf4a0_188f, 0xf4a0_2c6f, 0xee63_1b70, 0xee31_2b70];
    let mut guest = Guest::new(2, &words, &[0x11, 0x22, 0x33, 0x84]);
    guest.state.v[0] = u128::MAX;
    guest.state.set_r(1, 0x1ab);
    guest.finish();
    assert_eq!((guest.d(0), guest.d(1)), (u64::MAX, 0x8433_2211_ffff_ffff));
    assert_eq!((guest.d(2), guest.d(3)), (0x2211_2211_2211_2211, 0xab11_2211_2211_2211));
    assert_eq!(guest.state.r(2), 0xffff_8433);
}

#[test]
fn saturation_is_noted_in_fpscr() {
    // VQADD.S8 D0, D1, D2.
    let mut guest = Guest::new(3, &[0xf201_0012], &[]);
    guest.state.v[0] = 0x7f80_0102_0304_0506_u128 << 64;
    guest.state.v[1] = 0x0100_0101_0101_0101;
    guest.finish();
    assert_eq!((guest.d(0), guest.state.fpscr()), (0x7f80_0203_0405_0607, QC));
    guest.state.set_fpscr(0);
    guest.state.v[1] = 0;
    guest.state.pc = guest.code.0;
    guest.finish();
    assert_eq!(guest.state.fpscr(), 0);
}

#[test]
fn an_index_outside_of_the_table_gives_zero_or_nothing() {
    // VTBL.8 D4, {D0, D1}, D6; VTBX.8 D5, {D0, D1}, D6.
    let mut guest = Guest::new(4, &[0xf3b0_4906, 0xf3b0_5946], &[]);
    guest.state.v[0] = 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110;
    guest.state.v[2] = 0xeeee_eeee_eeee_eeee_u128 << 64;
    guest.state.v[3] = 0x00ff_100f_0807_0100;
    guest.finish();
    assert_eq!((guest.d(4), guest.d(5)), (0x1000_001f_1817_1110, 0x10ee_ee1f_1817_1110));
}

#[test]
fn elements_are_big_endian_after_setend() {
    // VLD1.16 {D0}, [R0]; VLD1.64 {D1}, [R0].
    let mut guest = Guest::new(5, &[0xf420_074f, 0xf420_17cf], &[1, 2, 3, 4, 5, 6, 7, 8]);
    guest.state.apsr |= E;
    guest.finish();
    assert_eq!((guest.d(0), guest.d(1)), (0x0708_0506_0304_0102, 0x0102_0304_0506_0708));
}

#[test]
fn an_alignment_that_is_asked_for_is_checked() {
    // VLD1.64 {D0, D1, D2, D3}, [R0:256]!
    let mut guest = Guest::new(6, &[0xf420_02fd], &[]);
    let address = guest.address() + 16;
    guest.state.set_r(0, address);
    assert_eq!(guest.run(), Exit::Unaligned { address: u64::from(address) });
    assert_eq!(guest.state.r(0), address);
    guest.state.set_r(0, address + 16);
    guest.finish();
    assert_eq!(guest.state.r(0), address + 48);
}

#[test]
fn a_fault_in_the_middle_changes_no_register() {
    // VLD4.16 {D0, D2, D4, D6}, [R0]!
    let mut guest = Guest::new(7, &[0xf420_014d], &[]);
    let address = guest.address() + 0x1000 - 20;
    guest.state.set_r(0, address);
    guest.state.v = [7; 32];
    let Exit::Fault(fault) = guest.run() else { panic!("no fault") };
    assert_eq!(fault.address, u64::from(guest.address()) + 0x1000);
    assert_eq!((guest.state.r(0), guest.state.v), (address, [7; 32]));
}

#[test]
fn arithmetic_has_modes_of_its_own() {
    // VADD.F32 Q0, Q1, Q2; VCVT.S32.F32 Q3, Q1.
    let mut guest = Guest::new(8, &[0xf202_0d44, 0xf3bb_6742], &[]);
    // Rounding to plus infinity, no flushing, NaNs kept: FPSCR does not matter.
    guest.state.set_fpscr(1 << 22);
    let lanes = |lanes: [u32; 4]| lanes.iter().rev().fold(0, |all, &lane| all << 32 | u128::from(lane));
    guest.state.v[1] = lanes([1, 0x7fc1_2345, 0x3f80_0000, 0xc039_999a]);
    guest.state.v[2] = lanes([1, 0, 1, 0x4039_999a]);
    guest.finish();
    assert_eq!(guest.state.v[0], lanes([0, 0x7fc0_0000, 0x3f80_0000, 0]));
    assert_eq!(guest.state.v[3], lanes([0, 0, 1, -2i32 as u32]));
    // Flags of subnormal operands, of the conversion of a NaN, and of -2.9 that became -2.
    assert_eq!(guest.state.fpscr(), 1 << 22 | 1 << 7 | 1 << 4 | 1);
}
