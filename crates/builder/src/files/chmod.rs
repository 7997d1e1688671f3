//! `--chmod`: octal or symbolic modes, chmod(1) and POSIX "chmod", symbolic form.

/// A change of permission bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModeChange {
    /// The bits to set, at most 07777.
    Octal(u32),
    /// Clauses in order.
    Symbolic(Vec<Clause>),
}

/// `[ugoa...][+-=][rwxXst...]`, or `[ugoa...][+-=][ugo]`, which copies the bits of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    who: u32,
    operator: char,
    permissions: String,
}

/// A mode that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid chmod parameter: '{0}'. it should be octal string and between 0 and 07777, or symbolic like u=rwX,go=rX"
)]
pub struct ModeError(pub String);

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const STICKY: u32 = 0o1000;

impl ModeChange {
    /// Reads a mode.
    pub fn parse(text: &str) -> Result<ModeChange, ModeError> {
        let error = || ModeError(text.to_string());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| error())?;
            return if mode <= 0o7777 { Ok(ModeChange::Octal(mode)) } else { Err(error()) };
        }
        // Every clause is applied to every file.
        const SIZE_MAX: usize = 1000;
        if text.len() > SIZE_MAX {
            return Err(ModeError(format!("{}...", text.chars().take(50).collect::<String>())));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            let operator_at = part.find(['+', '-', '=']).ok_or_else(error)?;
            let mut who = 0;
            for c in part[..operator_at].chars() {
                who |= match c {
                    'u' => USER,
                    'g' => GROUP,
                    'o' => OTHER,
                    'a' => USER | GROUP | OTHER | STICKY,
                    _ => return Err(error()),
                };
            }
            if who == 0 {
                who = USER | GROUP | OTHER | STICKY;
            }
            // Several operators may follow one list: `u+r-w`.
            let mut rest = &part[operator_at..];
            while let Some(operator) = rest.chars().next() {
                let after = &rest[1..];
                let end = after.find(['+', '-', '=']).unwrap_or(after.len());
                let permissions = &after[..end];
                let copies = matches!(permissions, "u" | "g" | "o");
                if !copies && !permissions.chars().all(|c| "rwxXst".contains(c)) {
                    return Err(error());
                }
                clauses.push(Clause { who, operator, permissions: permissions.to_string() });
                rest = &after[end..];
            }
        }
        Ok(ModeChange::Symbolic(clauses))
    }

    /// The permission bits after the change.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            ModeChange::Octal(bits) => *bits,
            ModeChange::Symbolic(clauses) => {
                clauses.iter().fold(mode & 0o7777, |mode, c| c.apply(mode, is_dir))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let mut bits = 0;
        for c in self.permissions.chars() {
            bits |= match c {
                'u' => (mode >> 6 & 7) * 0o111,
                'g' => (mode >> 3 & 7) * 0o111,
                'o' => (mode & 7) * 0o111,
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_dir || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => STICKY,
                _ => 0,
            };
        }
        let sticky = if self.permissions.contains('t') { STICKY } else { 0 };
        let bits = bits & (self.who | sticky);
        match self.operator {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !(self.who & 0o6777)) | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change() {
        for (text, mode, is_dir, expect) in [
            ("755", 0o600, false, 0o755),
            ("04755", 0o600, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w,u+w", 0o666, false, 0o644),
            ("g+s", 0o755, true, 0o2755),
            ("+t", 0o777, true, 0o1777),
            ("u+r-w", 0o200, false, 0o400),
            ("g=u", 0o640, false, 0o660),
            ("o=g-w", 0o664, false, 0o664),
            ("o=g-w", 0o660, false, 0o664),
            ("a+o", 0o701, false, 0o711),
        ] {
            assert_eq!(ModeChange::parse(text).expect(text).apply(mode, is_dir), expect, "{text}");
        }
        assert!(ModeChange::parse(&vec!["u+r"; 1000].join(",")).is_err());
        for bad in ["", "8", "77777", "u", "z+x", "u+q", "07778", "g=uo", "g=ur"] {
            assert!(ModeChange::parse(bad).is_err(), "{bad}");
        }
    }
}
