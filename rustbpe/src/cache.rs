//! What pieces were encoded to before.

use crate::pieces::{self, Key};

/// Sets of three slots each: 4 MB, of which only what is used is touched.
const SETS: usize = 1 << 16;
const WAYS: usize = 3;
/// A value from here on says where a list begins in `lists`; one below is the only token of its piece.
const LIST: u32 = 1 << 31;
/// Words of all lists together; then everything is forgotten.
const MOST_LISTED: usize = 1 << 20;

/// A map from short pieces to their tokens, of a limited size: a new piece takes the place of the one that
/// came to its set the longest ago.
pub struct Cache {
    /// Zeros, in which the sets lie. Memory that is zero already need not be cleared.
    words: Vec<u64>,
    /// Of each piece that is several tokens: how many, then the tokens.
    lists: Vec<u32>,
}

/// What one look into memory brings: a cache line.
#[repr(C, align(64))]
struct Set {
    keys: [[u64; 2]; WAYS],
    values: [u32; WAYS],
    /// The slot for the next new piece.
    next: u32,
}

impl Default for Cache {
    fn default() -> Self {
        let words = vec![0; (SETS * size_of::<Set>() + HUGE_PAGE) / size_of::<u64>()];
        let mut cache = Cache { words, lists: Vec::new() };
        wish_for_huge_pages(cache.open().sets);
        cache
    }
}

impl Cache {
    /// The cache, ready to be used.
    pub fn open(&mut self) -> Open<'_> {
        let skipped = self.words.as_ptr().align_offset(HUGE_PAGE);
        // SAFETY: a Set is integers, and any bits are some.
        let (_, sets, _) = unsafe { self.words[skipped..].align_to_mut() };
        let sets = (&mut sets[..SETS]).try_into().expect("as many as there are");
        Open { sets, lists: &mut self.lists }
    }
}

/// A cache while it is used.
pub struct Open<'a> {
    sets: &'a mut [Set; SETS],
    lists: &'a mut Vec<u32>,
}

impl Open<'_> {
    /// Begins to bring what is known of a piece near.
    #[inline(always)]
    pub fn fetch(&self, hash: u64) {
        pieces::fetch(&self.sets[..], set_of(hash));
    }

    /// Pushes the tokens of the piece `key`, by `encode` if they are not known.
    #[inline(always)]
    pub fn push_or_insert(
        &mut self,
        key: Key,
        hash: u64,
        tokens: &mut Vec<u32>,
        encode: impl FnOnce(&mut Vec<u32>),
    ) {
        let (set, key) = (&self.sets[set_of(hash)], pieces::halves(key));
        let is = |way: usize| (set.keys[way][0] ^ key[0]) | (set.keys[way][1] ^ key[1]) == 0;
        // Computed, because a processor that guesses which of the three it is often guesses wrong.
        let (first, second, third) = (is(0), is(1), is(2));
        let value = set.values[usize::from(second) + 2 * usize::from(third)];
        if first | second | third {
            if value < LIST {
                tokens.push(value);
            } else {
                let list = &self.lists[(value - LIST) as usize..];
                tokens.extend_from_slice(&list[1..][..list[0] as usize]);
            }
        } else {
            let before = tokens.len();
            encode(tokens);
            self.insert(key, hash, &tokens[before..]);
        }
    }

    #[inline(never)]
    fn insert(&mut self, key: [u64; 2], hash: u64, tokens: &[u32]) {
        let value = match tokens {
            &[token] => token,
            _ => self.listed(tokens),
        };
        let set = &mut self.sets[set_of(hash)];
        let way = set.next as usize;
        (set.keys[way], set.values[way]) = (key, value);
        set.next = (set.next + 1) % WAYS as u32;
    }

    fn listed(&mut self, tokens: &[u32]) -> u32 {
        if self.lists.len() > MOST_LISTED {
            self.lists.clear();
            self.sets.iter_mut().for_each(|set| set.keys = Default::default());
        }
        let at = self.lists.len() as u32;
        self.lists.push(tokens.len() as u32);
        self.lists.extend_from_slice(tokens);
        LIST + at
    }
}

#[inline(always)]
fn set_of(hash: u64) -> usize {
    (hash >> 32) as usize % SETS
}

const HUGE_PAGE: usize = 1 << 21;

/// Asks for pages of 2 MB: then looking up where a set is in memory costs less.
fn wish_for_huge_pages(sets: &mut [Set]) {
    #[cfg(target_os = "linux")]
    // SAFETY: the memory is ours, and stays what it is whatever its pages are; a refusal does no harm.
    unsafe {
        libc::madvise(sets.as_mut_ptr().cast(), size_of_val(sets), libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = sets;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_not_encoded_again() {
        let mut cache = Cache::default();
        for round in 0..2 {
            for (key, ids) in
                [(1, vec![7]), (2, vec![8, 9]), (3, vec![1, 2, 3]), (4, vec![1, 2, 3, 4, 5])]
            {
                let mut tokens = vec![5];
                cache.open().push_or_insert(key, pieces::hash(key), &mut tokens, |tokens| {
                    assert_eq!(round, 0);
                    tokens.extend(&ids);
                });
                assert_eq!(tokens, [vec![5], ids].concat());
            }
        }
    }

    #[test]
    fn many_pieces_share_the_sets() {
        let mut cache = Cache::default();
        for key in (1..8 * SETS as Key).chain(1..1000) {
            let mut tokens = Vec::new();
            cache.open().push_or_insert(key, pieces::hash(key), &mut tokens, |tokens| {
                tokens.extend(vec![key as u32; key as usize % 6 + 1])
            });
            assert_eq!(tokens, vec![key as u32; key as usize % 6 + 1]);
        }
    }

    #[test]
    fn pieces_of_one_set_are_told_apart() {
        let mut cache = Cache::default();
        let encoded = |cache: &mut Cache, key: Key| {
            let (mut tokens, mut known) = (Vec::new(), true);
            cache.open().push_or_insert(key, 0, &mut tokens, |tokens| {
                known = false;
                tokens.push(key as u32);
            });
            assert_eq!(tokens, [key as u32]);
            known
        };
        let keys = [1, 2, 1 << 64 | 1, 1 << 64 | 2];
        assert_eq!(keys[..3].iter().filter(|&&key| encoded(&mut cache, key)).count(), 0);
        assert_eq!(keys[..3].iter().filter(|&&key| encoded(&mut cache, key)).count(), 3);
        assert!(!encoded(&mut cache, keys[3]));
        assert!(!encoded(&mut cache, keys[0]), "which made room for it");
        assert!(encoded(&mut cache, keys[2]));
    }
}
