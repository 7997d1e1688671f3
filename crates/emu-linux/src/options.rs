//! The user's options for the emulator; programs that the guest executes inherit them.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicPtr, Ordering};

/// Which missing system calls are reported, each once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// None.
    Quiet,
    /// Calls that the emulator does not know.
    #[default]
    Unknown,
    /// Also calls that the emulator knows and refuses with ENOSYS, which programs expect and work around.
    Refused,
}

impl Log {
    /// Reads the value of CROSSDOCK_EMU_LOG.
    pub fn from_setting(value: &[u8]) -> Log {
        match value {
            b"0" => Log::Quiet,
            b"" => Log::Unknown,
            _ => Log::Refused,
        }
    }
}

static OPTIONS: AtomicPtr<Options> = AtomicPtr::new(core::ptr::null_mut());

/// The options of this process.
pub fn get() -> &'static Options {
    static NONE: Options = Options::NONE;
    // SAFETY: set to boxes that are never freed.
    unsafe { OPTIONS.load(Ordering::Acquire).as_ref() }.unwrap_or(&NONE)
}

/// Sets the options; once, before the program is opened.
pub fn set(options: Options) {
    OPTIONS.store(Box::into_raw(Box::new(options)), Ordering::Release);
}

/// The options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Print system calls.
    pub trace_calls: bool,
    /// Print the address of each block of code that runs.
    pub trace_blocks: bool,
    /// Compare translated blocks with interpreted ones.
    pub check: bool,
    /// Translate nothing.
    pub interpret: bool,
    /// Write /tmp/perf-PID.map.
    pub perf_map: bool,
    /// Which missing system calls are printed.
    pub log: Log,
    /// Absolute path of a directory whose files hide the host's files of the same path; empty for none.
    pub sysroot: Vec<u8>,
    /// The kernel's release that the guest sees; empty for the host's.
    pub release: Vec<u8>,
    /// Absolute path of the folder with translations ([`crate::images`]); empty for none.
    pub cache: Vec<u8>,
}

impl Options {
    /// No options.
    pub const NONE: Options = Options {
        trace_calls: false,
        trace_blocks: false,
        check: false,
        interpret: false,
        perf_map: false,
        log: Log::Unknown,
        sysroot: Vec::new(),
        release: Vec::new(),
        cache: Vec::new(),
    };

    /// These options; `others` fill in what these leave unset.
    pub fn or(self, others: Options) -> Options {
        let text = |this: Vec<u8>, other: Vec<u8>| if this.is_empty() { other } else { this };
        Options {
            trace_calls: self.trace_calls || others.trace_calls,
            trace_blocks: self.trace_blocks || others.trace_blocks,
            check: self.check || others.check,
            interpret: self.interpret || others.interpret,
            perf_map: self.perf_map || others.perf_map,
            log: if self.log == Log::Unknown { others.log } else { self.log },
            sysroot: text(self.sysroot, others.sysroot),
            release: text(self.release, others.release),
            cache: text(self.cache, others.cache),
        }
    }

    /// Encodes the options as letters, and the texts that go with them.
    pub(crate) fn encode(&self) -> (String, Vec<&[u8]>) {
        let (mut letters, mut texts) = (String::new(), Vec::new());
        for (set, letter) in [
            (self.trace_calls, 't'),
            (self.trace_blocks, 'b'),
            (self.check, 'c'),
            (self.interpret, 'i'),
            (self.perf_map, 'p'),
            (self.log == Log::Quiet, 'q'),
            (self.log == Log::Refused, 'l'),
        ] {
            if set {
                letters.push(letter);
            }
        }
        for (text, letter) in [(&self.sysroot, 'L'), (&self.release, 'r'), (&self.cache, 'C')] {
            if !text.is_empty() {
                letters.push(letter);
                texts.push(text.as_slice());
            }
        }
        (letters, texts)
    }

    /// Decodes letters and the texts that follow; also returns how many texts were taken. `None` for what
    /// [`Options::encode`] does not write.
    pub(crate) fn decode(letters: &str, texts: &[Vec<u8>]) -> Option<(Options, usize)> {
        let (mut options, mut taken) = (Options::NONE, 0);
        for letter in letters.chars() {
            let text = match letter {
                't' => {
                    options.trace_calls = true;
                    continue;
                }
                'b' => {
                    options.trace_blocks = true;
                    continue;
                }
                'c' => {
                    options.check = true;
                    continue;
                }
                'i' => {
                    options.interpret = true;
                    continue;
                }
                'p' => {
                    options.perf_map = true;
                    continue;
                }
                'q' => {
                    options.log = Log::Quiet;
                    continue;
                }
                'l' => {
                    options.log = Log::Refused;
                    continue;
                }
                'L' => &mut options.sysroot,
                'r' => &mut options.release,
                'C' => &mut options.cache,
                _ => return None,
            };
            *text = texts.get(taken)?.clone();
            taken += 1;
        }
        Some((options, taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_both_are_heeded() {
        let this = Options { trace_calls: true, release: b"5".to_vec(), ..Options::NONE };
        let other = Options { interpret: true, log: Log::Quiet, release: b"6".to_vec(), ..Options::NONE };
        let both = this.or(other);
        assert!(both.trace_calls && both.interpret && !both.check);
        assert_eq!((both.log, both.release.as_slice()), (Log::Quiet, &b"5"[..]));
    }

    #[test]
    fn options_come_back() {
        let options = Options {
            trace_calls: true,
            interpret: true,
            perf_map: true,
            log: Log::Quiet,
            sysroot: b"/a b".to_vec(),
            release: b"6.1".to_vec(),
            ..Options::NONE
        };
        let (letters, texts) = options.encode();
        let texts: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
        assert_eq!(letters, "tipqLr");
        assert_eq!(Options::decode(&letters, &texts), Some((options, 2)));
        assert_eq!(Options::decode("L", &[]), None);
        assert_eq!(Options::decode("x", &texts), None);
    }
}
