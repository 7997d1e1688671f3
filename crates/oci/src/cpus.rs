//! How many threads are worth starting.

use std::sync::OnceLock;

/// The number of CPUs that this process may use, at least 1, as [`std::thread::available_parallelism`] tells
/// it. It is asked once: the answer costs 16 system calls where control groups limit CPUs.
pub fn cpus() -> usize {
    static CPUS: OnceLock<usize> = OnceLock::new();
    *CPUS.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}
