//! Programs of the guest, run and compared with QEMU.
