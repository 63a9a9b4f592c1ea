//! Applying merges: text to token ids and back.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustc_hash::FxHashMap;

use crate::cache::{self, Cache};
use crate::merge::encode_piece;
use crate::pieces;
use crate::vocabulary::Vocabulary;
use crate::{Error, Splitter, thread_count};

/// A thread takes texts of about this many bytes at a time.
const BLOCK_BYTES: usize = 1 << 17;

/// Encodes text exactly as tiktoken does with the same ranks and pattern: in each piece, always the
/// leftmost of the adjacent tokens whose joined bytes have the lowest rank.
pub struct Encoder {
    splitter: Splitter,
    vocabulary: Vocabulary,
    specials: Vec<(String, u32)>,
    /// What was learned of pieces so far, one a thread at work, at most one a processor.
    caches: Mutex<Vec<Cache>>,
}

/// The tokens of several texts, one text after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flat {
    pub tokens: Vec<u32>,
    /// Where each text ends in `tokens`.
    pub ends: Vec<usize>,
}

impl Encoder {
    /// `ranks` holds the bytes of each token by id: all single bytes, and others that are two earlier
    /// tokens joined. `specials` are texts with ids of their own.
    pub fn new(
        ranks: &[impl AsRef<[u8]>],
        pattern: &str,
        specials: Vec<(String, u32)>,
    ) -> Result<Self, Error> {
        let splitter = Splitter::new(pattern)?;
        let vocabulary = Vocabulary::new(ranks)?;
        let mut seen = FxHashMap::default();
        for (text, id) in &specials {
            let message = match (vocabulary.token(*id), seen.insert(*id, text)) {
                _ if text.is_empty() => format!("special token {id} is empty"),
                (Some(_), _) => {
                    format!("special token {text:?} has the id {id} of an ordinary one")
                }
                (_, Some(other)) => {
                    format!("special tokens {other:?} and {text:?} have the same id {id}")
                }
                (None, None) => continue,
            };
            return Err(Error::Vocabulary(message));
        }
        Ok(Encoder { splitter, vocabulary, specials, caches: Mutex::default() })
    }

    /// The ids of `text`, in which special tokens are ordinary text. Linear in its length.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let mut tokens = Vec::with_capacity(text.len() / 3);
        self.with_cache(|cache| self.encode_onto(text, cache, &mut tokens))?;
        Ok(tokens)
    }

    /// The same, but the texts of `allowed` special tokens become their ids.
    pub fn encode_with_special(
        &self,
        text: &str,
        allowed: &[impl AsRef<str>],
    ) -> Result<Vec<u32>, Error> {
        let mut known = Vec::with_capacity(allowed.len());
        for name in allowed.iter().map(AsRef::as_ref) {
            let Some((name, id)) = self.specials.iter().find(|(special, _)| special == name) else {
                return Err(Error::Vocabulary(format!("{name:?} is not a special token")));
            };
            known.push((name.as_str(), *id, text.find(name.as_str())));
        }
        let (mut tokens, mut at) = (Vec::with_capacity(text.len() / 3), 0);
        self.with_cache(|cache| {
            loop {
                for (name, _, next) in &mut known {
                    if next.is_some_and(|next| next < at) {
                        *next = text[at..].find(*name).map(|next| next + at);
                    }
                }
                // The first one, of those that begin there the longest.
                let first = known.iter().filter_map(|&(name, id, next)| Some((next?, name, id)));
                let first = first.min_by_key(|&(next, name, _)| (next, usize::MAX - name.len()));
                let end = first.map_or(text.len(), |(next, ..)| next);
                self.encode_onto(&text[at..end], cache, &mut tokens)?;
                let Some((next, name, id)) = first else { return Ok(()) };
                tokens.push(id);
                at = next + name.len();
            }
        })?;
        Ok(tokens)
    }

    /// The number of ids of `text`.
    pub fn count(&self, text: &str) -> Result<usize, Error> {
        self.encode(text).map(|tokens| tokens.len())
    }

    /// The ids of each text; `threads` 0 means one for each processor.
    pub fn encode_batch(&self, texts: &[&str], threads: usize) -> Result<Vec<Flat>, Error> {
        let blocks = blocks(texts);
        let threads = thread_count(threads).min(blocks.len());
        let encode_block = |(begin, end): (usize, usize), cache: &mut Cache| {
            let bytes: usize = texts[begin..end].iter().map(|text| text.len()).sum();
            let mut flat = Flat {
                tokens: Vec::with_capacity(bytes / 3),
                ends: Vec::with_capacity(end - begin),
            };
            for text in &texts[begin..end] {
                self.encode_onto(text, cache, &mut flat.tokens)?;
                flat.ends.push(flat.tokens.len());
            }
            Ok(flat)
        };
        if threads <= 1 {
            return self.with_cache(|cache| {
                blocks.into_iter().map(|block| encode_block(block, cache)).collect()
            });
        }
        let next = AtomicUsize::new(0);
        let work = || {
            self.with_cache(|cache| {
                let mut done = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&block) = blocks.get(number) else { return Ok(done) };
                    done.push((number, encode_block(block, cache)?));
                }
            })
        };
        let mut done = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            let mut done = Vec::with_capacity(blocks.len());
            for worker in workers {
                done.extend(worker.join().expect("encoding never panics")?);
            }
            Ok::<_, Error>(done)
        })?;
        done.sort_unstable_by_key(|&(number, _)| number);
        Ok(done.into_iter().map(|(_, flat)| flat).collect())
    }

    /// The bytes of `ids`; special tokens as they are written.
    pub fn decode(&self, ids: &[u32]) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            match self.vocabulary.token(id) {
                Some(token) => bytes.extend_from_slice(token),
                None => match self.specials.iter().find(|&&(_, special)| special == id) {
                    Some((text, _)) => bytes.extend_from_slice(text.as_bytes()),
                    None => return Err(self.unknown(id)),
                },
            }
        }
        Ok(bytes)
    }

    fn unknown(&self, id: u32) -> Error {
        let special = self.specials.len();
        let ordinary = self.vocabulary.len();
        Error::Vocabulary(format!(
            "token id {id} is not one of the {ordinary} ordinary and {special} special ones"
        ))
    }

    /// The special tokens and their ids.
    pub fn specials(&self) -> &[(String, u32)] {
        &self.specials
    }

    /// The number of ordinary tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    /// One more than the largest id.
    pub fn id_limit(&self) -> usize {
        let specials = self.specials.iter().map(|&(_, id)| id as usize + 1).max();
        self.vocabulary.len().max(specials.unwrap_or(0))
    }

    /// Runs `work` with a cache that no other thread uses meanwhile, and keeps that for later.
    fn with_cache<T>(&self, work: impl FnOnce(&mut Cache) -> Result<T, Error>) -> Result<T, Error> {
        let lock = || self.caches.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut cache = lock().pop().unwrap_or_default();
        let result = work(&mut cache);
        let mut caches = lock();
        if caches.len() < thread_count(0) {
            caches.push(cache);
        }
        result
    }

    fn encode_onto(
        &self,
        text: &str,
        cache: &mut Cache,
        tokens: &mut Vec<u32>,
    ) -> Result<(), Error> {
        let (bytes, mut cache, mut waiting) =
            (text.as_bytes(), cache.open(), pieces::Waiting::new());
        let split = self.splitter.split(text, |start, end| {
            if let Some(piece) = waiting.put(bytes, start, end, |hash| cache.fetch(hash)) {
                self.encode_piece_onto(bytes, &piece, &mut cache, tokens);
            }
        });
        waiting.rest().for_each(|piece| self.encode_piece_onto(bytes, piece, &mut cache, tokens));
        split
    }

    #[inline(always)]
    fn encode_piece_onto(
        &self,
        text: &[u8],
        piece: &pieces::Piece,
        cache: &mut cache::Open,
        tokens: &mut Vec<u32>,
    ) {
        let bytes = &text[piece.start..piece.end];
        let encode = |id: Option<u32>, tokens: &mut Vec<u32>| match id {
            Some(id) => tokens.push(id),
            None => encode_piece(&self.vocabulary, bytes, tokens),
        };
        if piece.key == 0 {
            return encode(self.vocabulary.id_of(bytes), tokens);
        }
        cache.push_or_insert(piece.key, piece.hash, tokens, |tokens| {
            encode(self.vocabulary.id_of_key(piece.key), tokens);
        });
    }
}

/// Writes the tokens of `flats`, one after the other, into `out`, which has room for exactly these.
pub fn gather<T: Send>(
    flats: &[Flat],
    threads: usize,
    out: &mut [T],
    convert: impl Fn(u32) -> T + Sync,
) {
    let (convert, share) = (&convert, flats.len().div_ceil(thread_count(threads)).max(1));
    thread::scope(|scope| {
        let mut rest = out;
        for flats in flats.chunks(share) {
            let len = flats.iter().map(|flat| flat.tokens.len()).sum();
            let (part, after) = rest.split_at_mut(len);
            rest = after;
            scope.spawn(move || {
                let tokens = flats.iter().flat_map(|flat| &flat.tokens);
                part.iter_mut().zip(tokens).for_each(|(out, &id)| *out = convert(id));
            });
        }
    });
}

/// Runs of texts of about `BLOCK_BYTES`, as (first, one past the last).
fn blocks(texts: &[&str]) -> Vec<(usize, usize)> {
    let mut blocks = Vec::new();
    let (mut begin, mut bytes) = (0, 0);
    for (index, text) in texts.iter().enumerate() {
        bytes += text.len();
        if bytes >= BLOCK_BYTES {
            blocks.push((begin, index + 1));
            (begin, bytes) = (index + 1, 0);
        }
    }
    if begin < texts.len() {
        blocks.push((begin, texts.len()));
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DEFAULT_PATTERN, PieceCounter, train};

    const TEXT: &str = "the cat sat on the mat; the théâtre, the 12345 bananas aaaaaaa!\n\n  end";

    fn trained(text: &str, vocab_size: usize) -> Vec<Vec<u8>> {
        let mut counter = PieceCounter::new(Splitter::Default, 1);
        counter.add(&[text], &mut |_, _, _| Ok(())).unwrap();
        train(counter.finish(), vocab_size, &mut |_, _, _| Ok(())).unwrap().tokens
    }

    fn encoder(ranks: &[Vec<u8>]) -> Encoder {
        Encoder::new(ranks, DEFAULT_PATTERN, vec![("<|a|>".into(), 1000), ("<|a|>b".into(), 1001)])
            .unwrap()
    }

    /// The definition: join the lowest-ranked adjacent pair until there is none.
    fn naive_encode(ranks: &[Vec<u8>], piece: &[u8]) -> Vec<u32> {
        let ids: FxHashMap<&[u8], u32> = ranks.iter().map(Vec::as_slice).zip(0..).collect();
        let mut parts: Vec<&[u8]> = piece.chunks(1).collect();
        let joined = |parts: &[&[u8]], i: usize, at: usize| {
            ids.get(&piece[at..at + parts[i - 1].len() + parts[i].len()]).copied()
        };
        loop {
            let mut at = 0;
            let mut best = None;
            for i in 1..parts.len() {
                if let Some(rank) = joined(&parts, i, at) {
                    best = best.min(Some((rank, i, at))).or(Some((rank, i, at)));
                }
                at += parts[i - 1].len();
            }
            let Some((_, i, at)) = best else { break };
            let right = parts.remove(i);
            parts[i - 1] = &piece[at..at + parts[i - 1].len() + right.len()];
        }
        parts.iter().map(|part| ids[part]).collect()
    }

    fn random_letters(len: usize, letters: u64, seed: u64) -> String {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + ((state >> 33) % letters) as u8)
        };
        (0..len).map(|_| next()).collect()
    }

    #[test]
    fn ids_equal_the_definition() {
        let ranks = trained(TEXT, 290);
        let mut expected = Vec::new();
        let visit =
            |start, end| expected.extend(naive_encode(&ranks, &TEXT.as_bytes()[start..end]));
        Splitter::Default.split(TEXT, visit).unwrap();
        assert_eq!(encoder(&ranks).encode(TEXT).unwrap(), expected);
    }

    #[test]
    fn pieces_of_any_length_equal_the_definition() {
        for seed in 0..40 {
            let letters = 1 + seed % 5;
            let words: Vec<String> =
                (0..200).map(|i| random_letters(i % 50, letters, 77 * seed + i as u64)).collect();
            let ranks = trained(&words.join(" "), 256 + 4 * letters as usize);
            let encoder = encoder(&ranks);
            for len in 1..120 {
                let piece = random_letters(len, letters, 1000 * seed + len as u64);
                let expected = naive_encode(&ranks, piece.as_bytes());
                assert_eq!(encoder.encode(&piece).unwrap(), expected, "{piece}");
            }
        }
    }

    #[test]
    fn ids_join_to_the_text() {
        let ranks = trained(TEXT, 290);
        for text in [TEXT, "", "\0", "naïve 🤖 café", "unseen wörds"] {
            let encoder = encoder(&ranks);
            let ids = encoder.encode(text).unwrap();
            assert_eq!(encoder.decode(&ids).unwrap(), text.as_bytes());
            assert_eq!(encoder.count(text).unwrap(), ids.len());
        }
        let unknown = encoder(&ranks).decode(&[290]).unwrap_err().to_string();
        assert_eq!(unknown, "token id 290 is not one of the 290 ordinary and 2 special ones");
    }

    #[test]
    fn special_tokens_only_where_allowed() {
        let encoder = encoder(&trained(TEXT, 290));
        let text = "the <|a|>b<|a|>the";
        assert!(encoder.encode(text).unwrap().iter().all(|&id| id < 290));
        let with = |allowed: &[&str]| encoder.encode_with_special(text, allowed).unwrap();
        let specials = |ids: Vec<u32>| ids.into_iter().filter(|&id| id >= 290).collect::<Vec<_>>();
        assert_eq!(specials(with(&["<|a|>", "<|a|>b"])), [1001, 1000]);
        assert_eq!(specials(with(&["<|a|>"])), [1000, 1000]);
        assert!(specials(with(&[])).is_empty());
        assert_eq!(encoder.decode(&with(&["<|a|>"])).unwrap(), text.as_bytes());
        let unknown = encoder.encode_with_special(text, &["<|b|>"]).unwrap_err().to_string();
        assert_eq!(unknown, "\"<|b|>\" is not a special token");
    }

    #[test]
    fn special_tokens_that_clash_are_refused() {
        let ranks = trained(TEXT, 290);
        let refused = |specials: &[(&str, u32)]| {
            let specials = specials.iter().map(|&(text, id)| (text.into(), id)).collect();
            Encoder::new(&ranks, DEFAULT_PATTERN, specials).err().unwrap().to_string()
        };
        assert_eq!(refused(&[("x", 7)]), "special token \"x\" has the id 7 of an ordinary one");
        assert_eq!(
            refused(&[("x", 300), ("y", 300)]),
            "special tokens \"x\" and \"y\" have the same id 300"
        );
        assert_eq!(refused(&[("", 300)]), "special token 300 is empty");
    }

    #[test]
    fn a_batch_is_each_text_alone() {
        let encoder = encoder(&trained(TEXT, 290));
        let long = TEXT.repeat(3000);
        let mut texts: Vec<&str> = TEXT.split(' ').collect();
        texts.extend([&long, "", &long, "end", &long]);
        let alone: Vec<_> = texts.iter().map(|text| encoder.encode(text).unwrap()).collect();
        for threads in [0, 1, 3, 100] {
            let flats = encoder.encode_batch(&texts, threads).unwrap();
            assert_eq!(flats.iter().map(|flat| flat.ends.len()).sum::<usize>(), texts.len());
            let mut tokens = vec![0; flats.iter().map(|flat| flat.tokens.len()).sum()];
            gather(&flats, threads, &mut tokens, |id| id);
            assert_eq!(tokens, alone.concat());
        }
        assert!(encoder.encode_batch(&[], 2).unwrap().is_empty());
    }

    #[test]
    fn long_pieces_are_not_quadratic() {
        let encoder = encoder(&trained(TEXT, 290));
        let texts = ["a".repeat(1_000_000), " ".repeat(1_000_000), "the".repeat(300_000)];
        for text in texts.into_iter().chain([random_letters(1_000_000, 5, 3)]) {
            assert!(!encoder.encode(&text).unwrap().is_empty());
        }
    }
}
