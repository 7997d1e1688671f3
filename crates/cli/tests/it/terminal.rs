//! Commands that run on a pseudo-terminal, and what its screen shows.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::support::{Crossdock, eventually};

/// A running command, and the screen of its terminal; killed when dropped.
pub struct OnTerminal {
    pub child: Child,
    terminal: Arc<OwnedFd>,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl OnTerminal {
    /// A command whose standard error is the terminal.
    pub fn start(crossdock: Crossdock, columns: u16, rows: u16) -> OnTerminal {
        let mut crossdock = crossdock.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        crossdock.command.stdin(Stdio::null()).stdout(Stdio::null());
        OnTerminal::spawn(crossdock.command, columns, rows, |command, inner| {
            command.stderr(inner);
        })
    }

    /// A command whose standard input, output and error are the terminal.
    pub fn start_whole(mut command: Command, columns: u16, rows: u16) -> OnTerminal {
        command.env("TERM", "xterm-256color").env("LANG", "C.UTF-8");
        OnTerminal::spawn(command, columns, rows, |command, inner| {
            let copy = || inner.try_clone().expect("copied");
            command.stdin(copy()).stdout(copy()).stderr(copy());
        })
    }

    fn spawn(
        mut command: Command,
        columns: u16,
        rows: u16,
        connect: impl FnOnce(&mut Command, File),
    ) -> OnTerminal {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&terminal).and_then(|()| unlockpt(&terminal)).expect("unlocked");
        let name = ptsname(&terminal, Vec::new()).expect("a name");
        let inner =
            File::options().read(true).write(true).open(name.to_str().expect("UTF-8")).expect("opened");
        let terminal = Arc::new(terminal);
        resize(&terminal, columns, rows);
        connect(&mut command, inner);
        let child = command.spawn();
        // The command holds the only other copies of the inner end, so its end is the end of the stream.
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(count(rows), count(columns), 1000)));
        let (of_reader, outer) = (screen.clone(), terminal.clone());
        std::thread::spawn(move || {
            let mut outer = File::from(outer.try_clone().expect("copied"));
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = outer.read(&mut bytes) {
                of_reader.lock().expect("no panic").process(&bytes[..length]);
            }
        });
        OnTerminal { child: child.expect("the command starts"), terminal, screen }
    }

    /// The text of the screen.
    pub fn shown(&self) -> String {
        self.screen.lock().expect("no panic").screen().contents()
    }

    /// The text of the screen with its escape sequences.
    pub fn formatted(&self) -> String {
        let formatted = self.screen.lock().expect("no panic").screen().contents_formatted();
        formatted.to_string()
    }

    /// Waits until the screen shows a text.
    #[track_caller]
    pub fn until(&self, text: &str) {
        eventually(text, || self.shown().contains(text));
    }

    /// Types a text.
    pub fn type_in(&self, text: &str) {
        let mut outer = File::from(self.terminal.try_clone().expect("copied"));
        outer.write_all(text.as_bytes()).expect("typed");
    }

    /// Gives terminal and screen another size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.screen.lock().expect("no panic").screen_mut().set_size(count(rows), count(columns));
        resize(&self.terminal, columns, rows);
    }

    /// Waits for the end of the command, and for the last line that it prints; returns the screen.
    #[track_caller]
    pub fn finish(mut self, last: &str) -> String {
        assert!(self.child.wait().expect("it ends").success(), "{}", self.shown());
        self.until(last);
        self.shown()
    }

    /// Waits for the end of a command that must fail so; returns the screen.
    #[track_caller]
    pub fn fails(mut self, code: i32) -> String {
        assert_eq!(self.child.wait().expect("it ends").code(), Some(code), "{}", self.shown());
        self.shown()
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(number: u16) -> NonZero<u16> {
    NonZero::new(number).expect("not zero")
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("resized");
}
