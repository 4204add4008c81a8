//! A queue whose length the caller or the server decides. It is stored in pieces, because a single
//! large allocation may fail although there is memory, and the reserve has no large blocks.

use std::collections::VecDeque;

/// The size of a piece in bytes, at most.
const PIECE: usize = 32 * 1024;

#[derive(Debug)]
pub struct Pieces<T> {
    pieces: VecDeque<VecDeque<T>>,
    len: usize,
}

impl<T> Default for Pieces<T> {
    fn default() -> Self {
        Self {
            pieces: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Pieces<T> {
    /// The number of values in a full piece: a power of two, because a `VecDeque` grows by doubling.
    pub const PIECE: usize = 1 << (PIECE / size_of::<T>()).ilog2();

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    pub fn push_back(&mut self, value: T) {
        self.len += 1;
        match self.pieces.back_mut() {
            Some(piece) if piece.len() < Self::PIECE => piece.push_back(value),
            _ => self.pieces.push_back(VecDeque::from([value])),
        }
    }

    pub fn pop_front(&mut self) -> Option<T> {
        let piece = self.pieces.front_mut()?;
        let value = piece.pop_front()?;
        self.len -= 1;
        // The last piece keeps its memory, because it is usually filled again at once.
        if piece.is_empty() && self.pieces.len() > 1 {
            self.pieces.pop_front();
        }
        Some(value)
    }

    /// Removes and returns the first values: up to `limit`, or fewer if memory is short.
    pub fn take(&mut self, limit: usize) -> Vec<T> {
        let mut taken = with_room(limit.min(self.len));
        let count = self.len.min(limit).min(taken.capacity());
        taken.extend((0..count).map_while(|_| self.pop_front()));
        taken
    }

    /// Removes the values that `keep` rejects from one piece. Returns the number of removed values,
    /// or `None` when all pieces are done. `position` holds the place between two steps and is 0 at
    /// first. The sweep goes from the back to the front, so that it misses no value even if others
    /// are taken or added between two steps.
    pub fn sweep(&mut self, position: &mut usize, keep: impl FnMut(&T) -> bool) -> Option<usize> {
        let index = self.pieces.len().checked_sub(*position + 1)?;
        let piece = &mut self.pieces[index];
        let before = piece.len();
        piece.retain(keep);
        let removed = before - piece.len();
        self.len -= removed;
        if piece.is_empty() {
            self.pieces.remove(index);
            self.pieces.shrink_to(2 * self.pieces.len());
        } else {
            piece.shrink_to_fit();
            *position += 1;
        }
        Some(removed)
    }
}

/// A vector with room for `count` values, or for those of one piece if memory is short.
pub fn with_room<T>(count: usize) -> Vec<T> {
    let mut room = Vec::new();
    if room.try_reserve_exact(count).is_err() {
        room.reserve_exact(count.min(Pieces::<T>::PIECE));
    }
    room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_leave_in_the_order_in_which_they_came() {
        let mut pieces = Pieces::default();
        let count = 5 * Pieces::<u64>::PIECE as u64 + 3;
        let (mut pushed, mut taken) = (0, Vec::new());
        for limit in [1, 0, 5000, 3, usize::MAX, 4096, 1, usize::MAX] {
            for _ in 0..count / 6 {
                pieces.push_back(pushed);
                pushed += 1;
            }
            let before = pieces.len();
            let some = pieces.take(limit);
            assert_eq!(some.len(), limit.min(before));
            assert_eq!(pieces.len(), before - some.len());
            taken.extend(some);
            if let Some(front) = pieces.front().copied() {
                assert_eq!(pieces.pop_front(), Some(front));
                taken.push(front);
            }
        }
        assert!(pieces.is_empty() && pieces.pop_front().is_none() && pieces.front().is_none());
        assert_eq!(taken, (0..pushed).collect::<Vec<_>>());
    }

    #[test]
    fn a_piece_is_smaller_than_every_large_block() {
        let mut pieces = Pieces::default();
        for _ in 0..4 * Pieces::<[u8; 56]>::PIECE {
            pieces.push_back([0_u8; 56]);
        }
        for piece in &pieces.pieces {
            assert!(piece.capacity() * 56 <= PIECE);
        }
    }
}
