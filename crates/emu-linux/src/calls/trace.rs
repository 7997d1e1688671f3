//! `--trace syscalls`: one line per call, when it returns.

use crate::arch::call::Row;
use crate::guest;
use crate::sys::{self, Errno, errno};
use alloc::format;
use alloc::string::String;

/// Before a call: prints a call that may not return.
pub(super) fn begin(row: &Row, arguments: &[u64; 6]) {
    if matches!(row.name(), "exit" | "exit_group" | "execve" | "execveat") {
        sys::complain(&format!("{} {}\n", sys::thread_id(), call(row, arguments)));
    }
}

/// After a call: prints the call and its result.
pub(super) fn end(row: &Row, arguments: &[u64; 6], result: Result<i64, Errno>) {
    let value = match result {
        Err(errno::NOT_STARTED) => return,
        Err(errno::RESTART) => String::from("interrupted"),
        Err(error) => format!("-1 errno={}", error.number()),
        Ok(result @ 0..0x10_0000) => format!("{result}"),
        Ok(result) => format!("{result:#x}"),
    };
    sys::complain(&format!("{} {} = {value}\n", sys::thread_id(), call(row, arguments)));
}

fn call(row: &Row, arguments: &[u64; 6]) -> String {
    let list: alloc::vec::Vec<String> = row
        .arguments()
        .chars()
        .zip(arguments)
        .map(|(kind, &value)| match kind {
            'f' => format!("{}", value as i32),
            'd' => format!("{}", value as i64),
            'o' => format!("{:#o}", value as u32),
            's' if value != 0 => match guest::read_path(value) {
                Ok(path) => format!("{:?}", String::from_utf8_lossy(&path[..path.len() - 1])),
                Err(_) => format!("{value:#x}"),
            },
            _ => format!("{value:#x}"),
        })
        .collect();
    format!("{}({})", row.name(), list.join(", "))
}
