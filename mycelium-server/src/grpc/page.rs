//! Tokens of pages: opaque to callers, a kind and the bytes of a cursor to us.

use mycelium_proto::limits::{PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX};

use super::status::Error;

/// How many entries a page may have.
pub(crate) fn size(asked: u32) -> usize {
    let size = if asked == 0 { PAGE_SIZE_DEFAULT } else { asked.min(PAGE_SIZE_MAX) };
    size as usize
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

/// Reads a token of one of `kinds`; `None` if it is empty, for the first page.
pub(crate) fn read(token: &str, kinds: &[char]) -> Result<Option<(char, Vec<u8>)>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let invalid = || Error::field("page_token", "is not one that a previous page gave for the same list");
    let mut characters = token.chars();
    let kind = characters.next().filter(|kind| kinds.contains(kind)).ok_or_else(invalid)?;
    let digits: Option<Vec<u8>> =
        characters.map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or_else(invalid)?;
    Ok(Some((kind, digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())))
}

/// Reads the token of a list that is ordered by a number.
pub(crate) fn read_number(token: &str, kind: char) -> Result<Option<u64>, Error> {
    match read(token, &[kind])? {
        None => Ok(None),
        Some((_, cursor)) => match <[u8; 8]>::try_from(cursor.as_slice()) {
            Ok(bytes) => Ok(Some(u64::from_be_bytes(bytes))),
            Err(_) => {
                Err(Error::field("page_token", "is not one that a previous page gave for the same list"))
            }
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

    #[test]
    fn sizes_have_a_default_and_a_limit() {
        assert_eq!([size(0), size(7), size(1_000_000)], [100, 7, 1_000]);
    }
}
