//! A slab: values in one vector, found by an index that stays good until the value is removed.
//!
//! Decides nothing; it is what lets the forwarding path go from a flow to its call and on to the peer in three array
//! look-ups. Small indices (4 bytes) keep two of them in the room of one pointer.

/// Names a value in a [`Slab`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SlabIndex(u32);

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// And the next free place.
    Free(Option<SlabIndex>),
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Option<SlabIndex>,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: None }
    }

    /// Puts a value in. The table's caps keep the number of places far below 2^32.
    pub(super) fn insert(&mut self, value: T) -> SlabIndex {
        if let Some(index) = self.free
            && let Some(place) = self.places.get_mut(index.0 as usize)
            && let Place::Free(next) = place
        {
            self.free = *next;
            *place = Place::Taken(value);
            return index;
        }
        let index = SlabIndex(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        self.places.push(Place::Taken(value));
        index
    }

    pub(super) fn remove(&mut self, index: SlabIndex) -> Option<T> {
        let place = self.places.get_mut(index.0 as usize)?;
        if matches!(place, Place::Free(_)) {
            return None;
        }
        let next = self.free.replace(index);
        match core::mem::replace(place, Place::Free(next)) {
            Place::Taken(value) => Some(value),
            Place::Free(_) => None,
        }
    }

    #[inline]
    pub(super) fn get(&self, index: SlabIndex) -> Option<&T> {
        match self.places.get(index.0 as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, index: SlabIndex) -> Option<&mut T> {
        match self.places.get_mut(index.0 as usize) {
            Some(Place::Taken(value)) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_after_its_value_is_removed() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get(a), None);
        let c = slab.insert('c');
        assert_eq!((c, slab.get(b), slab.get(c)), (a, Some(&'b'), Some(&'c')));
        assert_eq!(slab.insert('d'), SlabIndex(2));
    }
}
