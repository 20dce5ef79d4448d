//! A script: made-up bytes read as numbers and choices, one after the other.
//!
//! Decides that reading never fails: past the end everything is zero. Leaves what a number means to the target.

/// Bytes that are still to be read.
#[derive(Debug, Clone, Copy)]
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    /// Reads `bytes` from their start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// The next two, big-endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes(self.array())
    }

    /// The next `N`.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
        array
    }

    /// The next `len`, or as many as are left.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, first: T, others: &[T]) -> T {
        let index = usize::from(self.byte()) % (others.len() + 1);
        index.checked_sub(1).and_then(|index| others.get(index)).copied().unwrap_or(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_to_its_end_and_is_zero_from_there() {
        let mut script = Script::new(&[1, 2, 3, 4, 5]);
        assert_eq!((script.byte(), script.word(), script.bytes(1)), (1, 0x0203, &[4][..]));
        assert_eq!((script.pick('a', &['b', 'c']), script.is_empty()), ('c', true));
        assert_eq!((script.byte(), script.word(), script.array(), script.bytes(9)), (0, 0, [0; 3], &[][..]));
    }
}
