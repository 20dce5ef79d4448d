//! Short texts of fixed forms (ids, paths), written digit by digit into a place of fixed size.
//!
//! Decides nothing about what they say. A record's path is written and read some twenty times while one call is placed, and
//! what `core::fmt` does for a number of 128 bits takes longer than everything else about it.

/// Hexadecimal digits, as in all our texts.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// A text of at most `N` bytes, all of them ASCII. What goes over is left out: callers see to it by their `N`, and their tests
/// by the longest that they write.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Text<N> {
    fn default() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Text<N> {
    /// As a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever written.
        self.bytes.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// Adds one ASCII character.
    pub fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte & 0x7f;
            self.len += 1;
        }
    }

    /// Adds an ASCII text.
    pub fn str(&mut self, text: &str) {
        for byte in text.bytes() {
            self.byte(byte);
        }
    }

    /// Adds the lowest `digits` hexadecimal digits of `number`, zeros in front.
    pub fn hex(&mut self, number: u128, digits: u32) {
        for digit in (0..digits).rev() {
            let index = (number >> (4 * digit)) & 15;
            self.byte(HEX.get(index as usize).copied().unwrap_or(b'0'));
        }
    }

    /// Adds `number` in decimal.
    pub fn decimal(&mut self, number: u16) {
        let mut unit = 10_000;
        while unit > 1 && number < unit {
            unit /= 10;
        }
        while unit > 0 {
            // A digit: below ten.
            self.byte(b'0' + (number / unit % 10) as u8);
            unit /= 10;
        }
    }
}

/// The number that these hexadecimal digits are, of 32 at most and lower case; no sign, nothing in between.
#[must_use]
pub fn from_hex(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0, |number: u128, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut text = Text::<4>::default();
        text.str("ab");
        text.hex(0xffff, 4);
        text.decimal(7);
        assert_eq!(text.as_str(), "abff");
    }

    #[test]
    fn only_lower_case_digits_are_a_number() {
        for bad in ["", "g", "A", "+1", "-1", " 1", "1_0", "0x1", &"0".repeat(33)] {
            assert_eq!(from_hex(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(from_hex(b"0ff"), Some(0xff));
    }

    proptest! {
        #[test]
        fn numbers_look_as_the_standard_library_writes_them(number: u128, small: u16) {
            let mut text = Text::<64>::default();
            text.hex(number, 32);
            prop_assert_eq!(text.as_str(), format!("{number:032x}"));
            prop_assert_eq!(from_hex(text.as_str().as_bytes()), Some(number));
            text = Text::default();
            text.decimal(small);
            text.byte(b'/');
            text.hex(small.into(), 4);
            prop_assert_eq!(text.as_str(), format!("{small}/{small:04x}"));
        }
    }
}
