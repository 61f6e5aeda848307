//! Pages of lists. Their tokens are opaque to callers, a kind and the bytes of a cursor to us.

use mycelium_proto::limits::{PAGE_BYTES_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

use crate::broker::CallError;
use crate::error::Error;
use crate::store::{self, Listed};

impl<T: Weigh> Weigh for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Weigh::bytes)
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct PageOf {
    /// The token that the page before gave; empty for the first.
    pub(crate) token: String,
    /// How many entries it may have; 0: [`PAGE_SIZE_DEFAULT`]. More than [`PAGE_SIZE_MAX`] are not given.
    pub(crate) size: u32,
}

impl PageOf {
    /// How many entries it may have.
    pub(crate) fn limit(&self) -> usize {
        size(self.size)
    }
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    /// The token of the next page; empty if there is none.
    pub(crate) next: String,
    /// How many damaged records were left out.
    pub(crate) unreadable: u32,
}

/// What goes into an answer, whose bytes are bounded.
pub(crate) trait Weigh {
    /// How many bytes it takes in a list of an answer; never less than as a message of the contract, with its tag and its
    /// length.
    fn bytes(&self) -> usize;
}

/// How many of the first entries come to at most so many bytes; at least one.
pub(crate) fn fitting<'a, T: Weigh + 'a>(
    entries: impl IntoIterator<Item = &'a T>,
    bytes_max: usize,
) -> usize {
    let mut bytes = 0;
    let fit = entries.into_iter().take_while(|entry| {
        bytes += entry.bytes();
        bytes <= bytes_max
    });
    fit.count().max(1)
}

/// How many entries a page may have.
fn size(asked: u32) -> usize {
    let size = if asked == 0 { PAGE_SIZE_DEFAULT } else { asked.min(PAGE_SIZE_MAX) };
    size as usize
}

/// What a list has from one place to another.
#[derive(Debug)]
pub(crate) struct Filled<Entry, Cursor> {
    pub(crate) entries: Vec<Entry>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<Cursor>,
    /// What is wrong with what is left out because it is damaged.
    pub(crate) damaged: Vec<String>,
}

/// Takes entries into a page until there are `limit` or they come to 2 MiB, at least one. `read` gives up to so many of them
/// after a cursor, each with its own; no more than `chunk` are read at once, so that what does not fit takes little memory.
pub(crate) async fn fill<Cursor: Clone, Record, Entry: Weigh, Read>(
    limit: usize,
    chunk: usize,
    after: Option<Cursor>,
    mut read: impl FnMut(Option<Cursor>, usize) -> Read,
    entry: impl Fn(Record) -> Result<Entry, CallError>,
) -> Result<Filled<Entry, Cursor>, CallError>
where
    Read: Future<Output = Result<Listed<(Cursor, Record)>, store::Error>>,
{
    let mut page = Filled { entries: Vec::new(), next: after, damaged: Vec::new() };
    let mut bytes = 0;
    loop {
        // One more than there is room for tells that there are more.
        let n = chunk.min(limit + 1 - page.entries.len());
        let some = read(page.next.clone(), n).await?;
        let is_last = some.entries.len() < n;
        page.damaged.extend(some.damaged);
        for (cursor, record) in some.entries {
            let entry = entry(record)?;
            bytes += entry.bytes();
            if page.entries.len() == limit || (!page.entries.is_empty() && bytes > PAGE_BYTES_MAX) {
                return Ok(page);
            }
            page.entries.push(entry);
            page.next = Some(cursor);
        }
        if is_last {
            page.next = None;
            return Ok(page);
        }
    }
}

/// Tells of what is left out of a page because it is damaged, and counts it.
pub(crate) fn left_out(list: &str, damaged: &[String]) -> u32 {
    let unreadable = u32::try_from(damaged.len()).unwrap_or(u32::MAX);
    if let Some(first) = damaged.first() {
        tracing::warn!(list, unreadable, first, "what is damaged is left out of a list");
    }
    unreadable
}

/// Writes a token.
pub(crate) fn token(kind: char, cursor: &[u8]) -> String {
    let mut token = String::with_capacity(1 + 2 * cursor.len());
    token.push(kind);
    for byte in cursor {
        token.extend(
            [byte >> 4, byte & 0xf].map(|digit| char::from_digit(u32::from(digit), 16).unwrap_or('0')),
        );
    }
    token
}

/// A token that no page has given.
pub(crate) fn invalid_token() -> Error {
    Error::field("page_token", "is not one that a previous page gave for the same list")
}

/// Reads a token of one of `kinds`; `None` if it is empty, for the first page.
pub(crate) fn read(token: &str, kinds: &[char]) -> Result<Option<(char, Vec<u8>)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut characters = token.chars();
    let kind = characters.next().filter(|kind| kinds.contains(kind)).ok_or_else(invalid_token)?;
    let digits: Option<Vec<u8>> =
        characters.map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(invalid_token)?;
    Ok(Some((kind, digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())))
}

/// Reads the token of a list that is ordered by a number.
pub(crate) fn read_number(token: &str, kind: char) -> Result<Option<u64>, Error> {
    match read(token, &[kind])? {
        None => Ok(None),
        Some((_, cursor)) => match <[u8; 8]>::try_from(cursor.as_slice()) {
            Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
            Err(_) => Err(invalid_token()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_as_they_were_and_others_are_refused() {
        assert_eq!(read("", &['f']).unwrap(), None);
        assert_eq!(read(&token('f', &[0, 255, 16]), &['u', 'f']).unwrap(), Some(('f', vec![0, 255, 16])));
        assert_eq!(read_number(&token('n', &7u64.to_be_bytes()), 'n').unwrap(), Some(7));
        for bad in ["x00", "f0", "fzz", "ä", "f0ä"] {
            assert!(read(bad, &['f']).is_err(), "{bad}");
        }
        assert!(read_number("n00", 'n').is_err());
    }

    impl Weigh for String {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    /// Pages of texts of `bytes` each, as far as they go.
    async fn pages(entries: usize, bytes: usize, limit: usize, chunk: usize) -> Vec<usize> {
        let read = async |after: Option<usize>, n: usize| {
            let from = after.map_or(0, |after| after + 1);
            let some = (from..entries.min(from + n)).map(|number| (number, "x".repeat(bytes)));
            Ok(some.collect::<Vec<_>>().into())
        };
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let Filled { entries: page, next, .. } = fill(limit, chunk, after, read, Ok).await.unwrap();
            let size: usize = page.iter().map(Weigh::bytes).sum();
            assert!(page.len() <= 1 || size <= PAGE_BYTES_MAX, "{size} bytes");
            pages.push(page.len());
            match next {
                Some(next) => after = Some(next),
                None => return pages,
            }
        }
    }

    #[tokio::test]
    async fn a_page_ends_with_its_size_or_its_bytes_and_every_entry_is_on_one() {
        for chunk in [1, 2, 16] {
            assert_eq!(pages(0, 1, 3, chunk).await, [0]);
            assert_eq!(pages(3, 1, 3, chunk).await, [3], "no empty page follows");
            assert_eq!(pages(7, 1, 3, chunk).await, [3, 3, 1]);
            assert_eq!(pages(5, 1_000_000, 1_000, chunk).await, [2, 2, 1]);
            assert_eq!(
                pages(3, PAGE_BYTES_MAX + 1, 1_000, chunk).await,
                [1, 1, 1],
                "alone if it is too large"
            );
        }
    }

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!([size(0), size(7), size(1_000_000)], [100, 7, 1_000]);
    }
}
