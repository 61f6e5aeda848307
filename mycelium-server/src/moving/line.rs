//! A line of an export: a JSON object that begins with its own checksum, so that damage is found where it is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

/// What each line begins with, up to the digits of its checksum.
const BEGIN: &[u8] = br#"{"sum":""#;
const DIGITS: usize = 16;
/// Where the checksum's closing quotation mark is.
const QUOTE: usize = BEGIN.len() + DIGITS;

/// A line that is not one, or not as it was written, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) String);

/// Writes a record into `line`, in place of what was there, with a line break. The record is an object with a field.
pub(super) fn write(record: &impl Serialize, line: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    line.clear();
    line.extend_from_slice(BEGIN);
    line.extend_from_slice(&[b'0'; DIGITS]);
    line.push(b'"');
    let begin = line.len();
    serde_json::to_writer(&mut *line, record)?;
    // In place of the brace that opens the object.
    line[begin] = b',';
    let sum = sum(&line[begin..]);
    line[BEGIN.len()..QUOTE].copy_from_slice(sum.as_bytes());
    line.push(b'\n');
    Ok(())
}

/// Makes sure that a line, without its break, is as it was written.
pub(super) fn check(line: &[u8]) -> Result<(), Malformed> {
    let found = line.strip_prefix(BEGIN).and_then(|rest| rest.get(..DIGITS));
    let (Some(found), Some(b"\",")) = (found, line.get(QUOTE..QUOTE + 2)) else {
        return Err(Malformed("it does not begin with its checksum".to_owned()));
    };
    if found != sum(&line[QUOTE + 1..]).as_bytes() {
        return Err(Malformed("it is not what its checksum says".to_owned()));
    }
    Ok(())
}

/// Reads the record of a line that was checked.
pub(super) fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(line).map_err(|error| Malformed(format!("it cannot be read: {error}")))
}

fn sum(rest: &[u8]) -> String {
    format!("{:016x}", xxh3_64(rest))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Record {
        name: String,
        number: u64,
    }

    #[test]
    fn a_bit_that_is_flipped_anywhere_is_found() {
        let record = Record { name: "a \"b\"\n".to_owned(), number: 7 };
        let mut line = Vec::new();
        write(&record, &mut line).unwrap();
        assert_eq!(line.pop(), Some(b'\n'));
        check(&line).unwrap();
        assert_eq!(read::<Record>(&line).unwrap(), record);
        for at in 0..8 * line.len() {
            let mut damaged = line.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(check(&damaged).is_err(), "bit {at}");
        }
        for end in 0..line.len() {
            assert!(check(&line[..end]).is_err(), "cut off at {end}");
        }
    }
}
