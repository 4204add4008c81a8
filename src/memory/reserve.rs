//! The memory reserve, for when the system has no memory: a static region that takes only address
//! space until it is used.
//!
//! There are three pools, for small, middle and large blocks, each divided into granules. For each
//! granule, one bit says whether it is taken and another whether a block ends there, so that
//! freeing a block needs only its address. The bits of a block lie within one word, and a
//! compare-and-swap takes the block, so there is no lock that a fork could copy while it is held.
//! If a fork interrupts a thread while it allocates or frees, that one block stays taken in the
//! child, which does no harm.

use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

const BITS: usize = usize::BITS as usize;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Granule and size of each pool. The largest block of a pool has as many granules as a word has
/// bits: 2 KiB, 64 KiB and 1 MiB with 64 bits.
const SMALL: (usize, usize) = (32, 4 * MIB);
const MIDDLE: (usize, usize) = (KIB, 8 * MIB);
const LARGE: (usize, usize) = (16 * KIB, 8 * MIB);

/// The size of the reserve. Measured need on x86-64, as the peak of [`IN_USE`], when from some moment
/// on every allocation failed: at most 250 KiB for a queue of 64 calls that each made a TLS
/// connection, and 2.9 MiB for 1000 calls. 160 moments were tried with each; the worst was when all
/// calls had been submitted and none was connected. A minute of tests/memory/load.c with 64 calls
/// took at most 120 KiB.
const SIZE: usize = SMALL.1 + MIDDLE.1 + LARGE.1;

// A larger alignment is more than Windows' linker supports.
#[repr(C, align(4096))]
struct Region(UnsafeCell<[u8; SIZE]>);

// SAFETY: this type does not access the bytes; the pools give each byte to one owner at a time.
unsafe impl Sync for Region {}

static REGION: Region = Region(UnsafeCell::new([0; SIZE]));

/// The number of bytes that are taken.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

struct Pool<const WORDS: usize> {
    /// The pool's offset in the region.
    offset: usize,
    granule: usize,
    taken: [AtomicUsize; WORDS],
    /// The last granule of each block.
    ends: [AtomicUsize; WORDS],
    /// The word where the search begins: that of the latest block taken, or an earlier one that got
    /// a block back. So blocks stay near the pool's start, because the process keeps every page that
    /// was once used.
    begin: AtomicUsize,
}

static SMALL_POOL: Pool<{ words(SMALL) }> = Pool::new(0, SMALL.0);
static MIDDLE_POOL: Pool<{ words(MIDDLE) }> = Pool::new(SMALL.1, MIDDLE.0);
static LARGE_POOL: Pool<{ words(LARGE) }> = Pool::new(SMALL.1 + MIDDLE.1, LARGE.0);

const fn words((granule, size): (usize, usize)) -> usize {
    size / granule / BITS
}

fn start() -> usize {
    ptr::addr_of!(REGION) as usize
}

/// Whether a block belongs to the reserve.
#[inline]
pub fn holds(block: *mut u8) -> bool {
    (block as usize).wrapping_sub(start()) < SIZE
}

/// Whether so much is taken that only calls under way should get more.
pub fn is_low() -> bool {
    IN_USE.load(Ordering::Relaxed) > SIZE / 2
}

/// Takes a block; NULL if no pool has one.
pub fn take(layout: Layout) -> *mut u8 {
    let place = SMALL_POOL
        .take(layout)
        .or_else(|| MIDDLE_POOL.take(layout))
        .or_else(|| LARGE_POOL.take(layout));
    match place {
        // SAFETY: the offset is within the region.
        Some(offset) => unsafe { REGION.0.get().cast::<u8>().add(offset) },
        None => ptr::null_mut(),
    }
}

/// # Safety
/// `block` came from [`take`] and is not used any more.
pub unsafe fn give_back(block: *mut u8) {
    let offset = block as usize - start();
    if offset < MIDDLE_POOL.offset {
        SMALL_POOL.give_back(offset);
    } else if offset < LARGE_POOL.offset {
        MIDDLE_POOL.give_back(offset);
    } else {
        LARGE_POOL.give_back(offset);
    }
}

impl<const WORDS: usize> Pool<WORDS> {
    const fn new(offset: usize, granule: usize) -> Self {
        Self {
            offset,
            granule,
            taken: [const { AtomicUsize::new(0) }; WORDS],
            ends: [const { AtomicUsize::new(0) }; WORDS],
            begin: AtomicUsize::new(0),
        }
    }

    /// Takes a block and returns its offset in the region.
    fn take(&self, layout: Layout) -> Option<usize> {
        let count = layout.size().div_ceil(self.granule).max(1);
        if count > BITS || layout.align() > self.granule.min(align_of::<Region>()) {
            return None;
        }
        let first = self.begin.load(Ordering::Relaxed);
        for index in (first..WORDS).chain(0..first) {
            let Some(bit) = claim(&self.taken[index], count) else {
                continue;
            };
            self.ends[index].fetch_or(1 << (bit + count - 1), Ordering::Relaxed);
            self.begin.store(index, Ordering::Relaxed);
            IN_USE.fetch_add(count * self.granule, Ordering::Relaxed);
            return Some(self.offset + (index * BITS + bit) * self.granule);
        }
        None
    }

    fn give_back(&self, offset: usize) {
        let place = (offset - self.offset) / self.granule;
        let (index, bit) = (place / BITS, place % BITS);
        // The first end after the block's start is its own, because blocks do not overlap.
        let ends = self.ends[index].load(Ordering::Relaxed) >> bit;
        let count = ends.trailing_zeros() as usize + 1;
        self.ends[index].fetch_and(!(1 << (bit + count - 1)), Ordering::Relaxed);
        IN_USE.fetch_sub(count * self.granule, Ordering::Relaxed);
        self.taken[index].fetch_and(!(ones(count) << bit), Ordering::Release);
        self.begin.fetch_min(index, Ordering::Relaxed);
    }
}

/// The lowest `count` bits.
fn ones(count: usize) -> usize {
    usize::MAX >> (BITS - count)
}

/// Takes `count` consecutive free bits and returns the position of the first.
fn claim(word: &AtomicUsize, count: usize) -> Option<usize> {
    let mut before = word.load(Ordering::Relaxed);
    loop {
        // `free` marks the bits at which `known` consecutive free bits begin; `known` doubles until
        // it reaches `count`.
        let mut free = !before;
        let mut known = 1;
        while known < count {
            let step = known.min(count - known);
            free &= free >> step;
            known += step;
        }
        if free == 0 {
            return None;
        }
        let bit = free.trailing_zeros() as usize;
        let after = before | (ones(count) << bit);
        match word.compare_exchange_weak(before, after, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return Some(bit),
            Err(now) => before = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Blocks of all sizes are taken and given back in any order: they never overlap, each is
        /// aligned, and in the end everything is free again.
        #[test]
        fn blocks_never_overlap_and_all_go_back(
            steps in proptest::collection::vec((0..200usize, 1..70_000usize, 0..8u32), 1..300),
        ) {
            let pools = [
                Pool::<4>::new(0, 32),
                Pool::<4>::new(4 * BITS * 32, 1024),
            ];
            let mut blocks: Vec<(usize, usize, usize)> = Vec::new();
            for (choice, size, align) in steps {
                if choice % 3 == 0 && !blocks.is_empty() {
                    let (pool, offset, _) = blocks.swap_remove(choice % blocks.len());
                    pools[pool].give_back(offset);
                    continue;
                }
                let layout = Layout::from_size_align(size, 1 << align).unwrap();
                let Some((pool, offset)) = pools
                    .iter()
                    .enumerate()
                    .find_map(|(index, pool)| Some((index, pool.take(layout)?)))
                else {
                    continue;
                };
                prop_assert_eq!(offset % layout.align(), 0);
                for (_, other, length) in &blocks {
                    prop_assert!(offset + size <= *other || other + length <= offset);
                }
                blocks.push((pool, offset, size));
            }
            for (pool, offset, _) in blocks {
                pools[pool].give_back(offset);
            }
            for pool in &pools {
                for word in pool.taken.iter().chain(&pool.ends) {
                    prop_assert_eq!(word.load(Ordering::Relaxed), 0);
                }
            }
        }
    }

    #[test]
    fn what_was_given_back_is_taken_first() {
        let pool = Pool::<4>::new(0, 32);
        let layout = Layout::from_size_align(32 * 40, 16).unwrap();
        let first = pool.take(layout).unwrap();
        let second = pool.take(layout).unwrap();
        assert!(second > first);
        pool.give_back(first);
        assert_eq!(pool.take(layout), Some(first));
        assert!(pool.take(layout).unwrap() > second);
    }

    #[test]
    fn threads_get_blocks_of_their_own() {
        std::thread::scope(|scope| {
            for mark in 1..=4u8 {
                scope.spawn(move || {
                    for round in 0..2000usize {
                        let size = 1 + round * 7 % 3000;
                        let block = take(Layout::from_size_align(size, 16).unwrap());
                        assert!(holds(block));
                        unsafe {
                            block.write_bytes(mark, size);
                            let bytes = std::slice::from_raw_parts(block, size);
                            assert!(bytes.iter().all(|byte| *byte == mark));
                            give_back(block);
                        }
                    }
                });
            }
        });
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let largest = BITS * LARGE.0;
        let layout = |size| Layout::from_size_align(size, 16).unwrap();
        assert!(take(layout(largest + 1)).is_null());
        let block = take(layout(largest));
        assert!(holds(block));
        unsafe { give_back(block) };
    }
}
