//! What differs between the states of translated and of interpreted code.

/// A line for each register that differs.
#[derive(Default)]
pub struct Differences(String);

impl Differences {
    pub fn compare(&mut self, name: &str, translated: impl Into<u128>, interpreted: impl Into<u128>) {
        let (translated, interpreted) = (translated.into(), interpreted.into());
        if translated != interpreted {
            self.0 += &format!("  {name}: translated {translated:#x}, interpreted {interpreted:#x}\n");
        }
    }

    /// The lines; empty if nothing differs.
    pub fn text(self) -> String {
        self.0
    }
}
