//! Memory of a process that has nothing to do for a while, such as a server between builds.

use crate::sys;

/// Gives back what this process holds and does not use: free pages of its heaps, and pages of its own code,
/// which the kernel keeps as those of any file and maps again when they are executed. It costs a millisecond,
/// and as much when the process goes on.
pub fn give_back_memory() {
    sys::trim_heaps();
    // Without it the process is as right, only larger.
    let _ = sys::forget_code();
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "/proc of the host")]
mod tests {
    use super::*;

    /// A value of `/proc/self/status`, in KiB.
    fn status(name: &str) -> u64 {
        let text = std::fs::read_to_string("/proc/self/status").expect("the host's /proc");
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a value");
        line.trim_matches([':', ' ', '\t']).trim_end_matches(" kB").parse().expect("a number")
    }

    #[test]
    fn free_pages_and_code_are_given_back() {
        let (holes, kept): (Vec<_>, Vec<_>) =
            (0..2000).map(|n: u32| (vec![n as u8; 20_000], vec![n as u8; 16])).unzip();
        let full = status("RssAnon");
        drop(holes);
        let code = status("RssFile");
        give_back_memory();
        assert!(status("RssAnon") + 20_000 < full, "40 MB were free, between allocations that stay");
        assert!(status("RssFile") < code, "most code of this program is not executed now");
        assert!(kept.iter().enumerate().all(|(n, bytes)| bytes.iter().all(|byte| *byte == n as u8)));
    }
}
