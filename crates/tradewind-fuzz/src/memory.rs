//! Counts what a thread has in memory.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// What this thread has taken, less what it has given back; memory may come from another thread.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted. To be the `#[global_allocator]` of a binary that runs [`fuzz`](crate::fuzz).
#[derive(Debug)]
pub struct Counting;

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be replaced without")]
// SAFETY: everything is passed on to the system's allocator as it came; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promises are those that are asked for.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// The most that this thread had in memory during `run` beyond what it had before.
pub(crate) fn peak_of(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    drop(std::hint::black_box(Box::new(0_u8)));
    assert!(PEAK.get() > before, "memory is not counted: make `tradewind_fuzz::Counting` the global allocator");
    run();
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}
