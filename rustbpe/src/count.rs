//! Counting the distinct pieces of a text; memory grows with those, not with the text.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::pieces::{self, Key, LONGEST};
use crate::{Error, Phase, Splitter, Watch, thread_count};

/// How often each piece was seen.
#[derive(Default)]
pub struct PieceCounts {
    short: ShortCounts,
    long: FxHashMap<Box<[u8]>, u64>,
}

impl PieceCounts {
    /// Adds `count` occurrences of a piece, which is not empty.
    pub fn add(&mut self, piece: &[u8], count: u64) {
        if piece.len() <= LONGEST {
            let key = pieces::key(piece, 0, piece.len());
            self.short.add(key, pieces::hash(key), count);
        } else {
            self.add_long(piece, count);
        }
    }

    /// Counts the pieces of `text`; those that come after `stop` is set are passed over.
    pub(crate) fn add_text(
        &mut self,
        splitter: &Splitter,
        text: &str,
        stop: &AtomicBool,
    ) -> Result<(), Error> {
        let (bytes, mut waiting) = (text.as_bytes(), pieces::Waiting::new());
        let split = splitter.split(text, |start, end| {
            let piece = waiting.put(bytes, start, end, |hash| self.short.fetch(hash));
            if let Some(piece) = piece.filter(|_| !stop.load(Ordering::Relaxed)) {
                self.add_piece(bytes, &piece);
            }
        });
        waiting.rest().for_each(|piece| self.add_piece(bytes, piece));
        split
    }

    #[inline(always)]
    fn add_piece(&mut self, text: &[u8], piece: &pieces::Piece) {
        match piece.key {
            0 => self.add_long(&text[piece.start..piece.end], 1),
            key => self.short.add(key, piece.hash, 1),
        }
    }

    #[cold]
    fn add_long(&mut self, piece: &[u8], count: u64) {
        match self.long.get_mut(piece) {
            Some(total) => *total += count,
            None => drop(self.long.insert(piece.into(), count)),
        }
    }

    fn add_all(&mut self, other: PieceCounts) {
        other.short.iter().for_each(|(key, count)| self.short.add(key, pieces::hash(key), count));
        other.long.into_iter().for_each(|(piece, count)| self.add_long(&piece, count));
    }

    /// The number of distinct pieces.
    pub fn len(&self) -> usize {
        self.short.len + self.long.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each piece and its count, in no order that means anything.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], u64)) {
        for (key, count) in self.short.iter() {
            let (bytes, len) = pieces::bytes_of(key);
            visit(&bytes[..len], count);
        }
        self.long.iter().for_each(|(piece, &count)| visit(piece, count));
    }
}

/// Open addressing with linear probing; a count of zero marks an empty slot.
struct ShortCounts {
    slots: Vec<Slot>,
    len: usize,
}

/// 24 bytes; a `Key` as one field would be aligned to 32.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: [u64; 2],
    count: u64,
}

const FIRST_SLOTS: usize = 1 << 12;

impl Default for ShortCounts {
    fn default() -> Self {
        ShortCounts { slots: vec![Slot::default(); FIRST_SLOTS], len: 0 }
    }
}

impl ShortCounts {
    #[inline(always)]
    fn fetch(&self, hash: u64) {
        pieces::fetch(&self.slots, (hash >> 32) as usize & (self.slots.len() - 1));
    }

    #[inline(always)]
    fn add(&mut self, key: Key, hash: u64, count: u64) {
        let halves = pieces::halves(key);
        let mask = self.slots.len() - 1;
        let mut at = (hash >> 32) as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.count == 0 {
                break;
            }
            if slot.key == halves {
                slot.count += count;
                return;
            }
            at = (at + 1) & mask;
        }
        self.slots[at] = Slot { key: halves, count };
        self.len += 1;
        if self.len * 3 > self.slots.len() * 2 {
            self.grow();
        }
    }

    #[cold]
    fn grow(&mut self) {
        let larger = vec![Slot::default(); self.slots.len() * 2];
        let smaller = std::mem::replace(&mut self.slots, larger);
        let mask = self.slots.len() - 1;
        for slot in smaller.into_iter().filter(|slot| slot.count != 0) {
            let mut at = (pieces::hash(slot.key()) >> 32) as usize & mask;
            while self.slots[at].count != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    fn iter(&self) -> impl Iterator<Item = (Key, u64)> {
        self.slots.iter().filter(|slot| slot.count != 0).map(|slot| (slot.key(), slot.count))
    }
}

impl Slot {
    fn key(&self) -> Key {
        u128::from(self.key[0]) | (u128::from(self.key[1]) << 64)
    }
}

/// Counts the pieces of a stream of texts, with threads of which each has its own counts.
pub struct PieceCounter {
    splitter: Splitter,
    by_thread: Vec<PieceCounts>,
}

impl PieceCounter {
    /// `threads` 0 means one for each processor.
    pub fn new(splitter: Splitter, threads: usize) -> Self {
        let by_thread = (0..thread_count(threads)).map(|_| PieceCounts::default()).collect();
        PieceCounter { splitter, by_thread }
    }

    /// Counts the pieces of `texts`; a thread that is done with one takes the next. `watch` is told how
    /// many are done.
    pub fn add(&mut self, texts: &[&str], watch: Watch) -> Result<(), Error> {
        let (next, stop) = (&AtomicUsize::new(0), &AtomicBool::new(false));
        let splitter = &self.splitter;
        thread::scope(|scope| {
            let (sender, receiver) = channel();
            let workers: Vec<_> = (self.by_thread.iter_mut())
                .map(|counts| (counts, sender.clone()))
                .map(|(counts, sender)| {
                    scope.spawn(move || {
                        let splitter = splitter.clone();
                        while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                            counts.add_text(&splitter, text, stop)?;
                            let _ = sender.send(1); // the receiver lives as long as the threads
                        }
                        Ok(())
                    })
                })
                .collect();
            drop(sender);
            let watched = watch_until_done(&receiver, None, stop, watch);
            let worked =
                workers.into_iter().map(|worker| worker.join().expect("counting never panics"));
            watched.and(worked.collect())
        })
    }

    /// The splitter, and the counts of each thread.
    #[cfg(feature = "python")]
    pub(crate) fn parts(&mut self) -> (&Splitter, &mut [PieceCounts]) {
        (&self.splitter, &mut self.by_thread)
    }

    pub fn finish(self) -> PieceCounts {
        let mut threads = self.by_thread.into_iter();
        let mut total = threads.next().unwrap_or_default();
        threads.for_each(|counts| total.add_all(counts));
        total
    }
}

/// Tells `watch` what threads have done, until the last of them has dropped its sender; where that is an
/// error, sets `stop`.
pub(crate) fn watch_until_done(
    receiver: &Receiver<u64>,
    total: Option<u64>,
    stop: &AtomicBool,
    watch: Watch,
) -> Result<(), Error> {
    let (mut done, mut watched) = (0, Ok(()));
    loop {
        match receiver.recv_timeout(Duration::from_millis(100)) {
            Ok(number) => done += number,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return watched,
        }
        if watched.is_ok() {
            watched = watch(Phase::Count, done, total);
            stop.fetch_or(watched.is_err(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn counts(texts: &[&str], threads: usize) -> BTreeMap<Vec<u8>, u64> {
        let mut counter = PieceCounter::new(Splitter::Default, threads);
        counter.add(texts, &mut |_, _, _| Ok(())).unwrap();
        let mut all = BTreeMap::new();
        counter
            .finish()
            .for_each(|piece, count| assert!(all.insert(piece.to_vec(), count).is_none()));
        all
    }

    #[test]
    fn counts_equal_those_of_a_map() {
        let texts: Vec<String> = (0..20_000_u64)
            .map(|i| format!("word{} {} {}", i % 97, i * i, "long".repeat((i % 9) as usize)))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut expected = BTreeMap::new();
        for text in &texts {
            let visit = |start, end| {
                *expected.entry(text.as_bytes()[start..end].to_vec()).or_default() += 1
            };
            Splitter::Default.split(text, visit).unwrap();
        }
        for threads in [1, 3, 8] {
            assert_eq!(counts(&texts, threads), expected);
        }
    }
}
