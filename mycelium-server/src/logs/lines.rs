//! The lines of an attempt as they stand in a file: in pieces, each with the number of its first line, so that what was left
//! out shows as a gap. Of many lines the first and the last are kept.

use mycelium_proto::v1::{LogBatch, LogLine};
use prost::Message as _;

/// How many bytes of an attempt's first lines are kept, and how many of its last.
pub(super) const FIRST_BYTES: usize = 64 * 1024;
pub(super) const LAST_BYTES: usize = 192 * 1024;
/// A file that has grown beyond this is cut.
pub(super) const FILE_BYTES_MAX: usize = 2 * (FIRST_BYTES + LAST_BYTES);
/// About how many bytes of lines stand in one piece.
const PIECE_BYTES: usize = 32 * 1024;
/// What a line counts beside its texts.
const LINE_BYTES: usize = 16;

/// Lines that follow one another.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    /// The number of the first.
    pub(crate) first: u64,
    pub(crate) lines: Vec<LogLine>,
}

impl Piece {
    /// The number of the line after the last.
    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.lines.len() as u64)
    }
}

/// What a line counts.
pub(super) fn bytes_of(line: &LogLine) -> usize {
    LINE_BYTES + line.target.len() + line.text.len()
}

/// Adds a piece to a file.
pub(super) fn write(piece: &Piece, file: &mut Vec<u8>) {
    let mut rest = piece.lines.as_slice();
    let mut first = piece.first;
    while !rest.is_empty() {
        let mut bytes = 0;
        let n = rest.iter().take_while(|line| (bytes < PIECE_BYTES, bytes += bytes_of(line)).0).count();
        let (lines, others) = rest.split_at(n);
        let batch = LogBatch { token: None, first, lines: lines.to_vec() };
        // Lines are far shorter than 4 GiB.
        let length = u32::try_from(batch.encoded_len()).unwrap_or(u32::MAX);
        file.extend_from_slice(&length.to_le_bytes());
        // A vector has room for all that is written.
        let _always = batch.encode(file);
        (rest, first) = (others, first + n as u64);
    }
}

/// Reads the pieces of a file, and how many bytes of it they take. What comes after the last that is whole, as when the
/// broker died while it was written, is left out.
pub(super) fn read(file: &[u8]) -> (Vec<Piece>, usize) {
    let (mut pieces, mut place) = (Vec::new(), 0);
    while let Some((length, rest)) = file.get(place..).and_then(|rest| rest.split_first_chunk::<4>()) {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(LogBatch { token: _, first, lines }) =
            rest.get(..length).and_then(|piece| LogBatch::decode(piece).ok())
        else {
            break;
        };
        pieces.push(Piece { first, lines });
        place += 4 + length;
    }
    (pieces, place)
}

/// What is kept of an attempt: its first lines, and its last.
pub(super) fn cut(pieces: Vec<Piece>) -> Vec<Piece> {
    let sizes: Vec<usize> = pieces.iter().flat_map(|piece| piece.lines.iter().map(bytes_of)).collect();
    let up_to = |max: usize, sizes: &mut dyn Iterator<Item = &usize>| {
        let mut bytes = 0;
        sizes.take_while(|size| (bytes += *size, bytes <= max).1).count()
    };
    let first = up_to(FIRST_BYTES, &mut sizes.iter());
    let last = sizes.len() - up_to(LAST_BYTES, &mut sizes.iter().rev());
    if last <= first {
        return pieces;
    }
    let mut kept = Vec::with_capacity(pieces.len());
    let mut place = 0;
    for Piece { first: number, lines } in pieces {
        let mut run: Option<Piece> = None;
        for (line, number) in lines.into_iter().zip(number..) {
            if place < first || place >= last {
                let run = run.get_or_insert(Piece { first: number, lines: Vec::new() });
                run.lines.push(line);
            } else {
                kept.extend(run.take());
            }
            place += 1;
        }
        kept.extend(run);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, bytes: usize) -> LogLine {
        let number = format!("{number} ");
        let text = number.clone() + &"x".repeat(bytes - LINE_BYTES - number.len());
        LogLine { text, ..LogLine::default() }
    }

    fn piece(first: u64, n: u64, bytes: usize) -> Piece {
        Piece { first, lines: (first..first + n).map(|number| line(number, bytes)).collect() }
    }

    fn numbers(pieces: &[Piece]) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for piece in pieces {
            for (line, number) in piece.lines.iter().zip(piece.first..) {
                assert!(line.text.starts_with(&format!("{number} ")), "line {number} is {:.9}", line.text);
            }
            match runs.last_mut() {
                Some(last) if last.1 == piece.first => last.1 = piece.end(),
                _ => runs.push((piece.first, piece.end())),
            }
        }
        runs
    }

    #[test]
    fn the_first_and_the_last_lines_are_kept() {
        let kib = |n: u64| n * 1024;
        let few = vec![piece(0, 100, 1024), piece(100, 156, 1024)];
        assert_eq!(cut(few.clone()), few, "all fit");
        let many = vec![piece(0, 30, 1024), piece(30, 500, 1024), piece(600, 470, 1024)];
        let kept = cut(many);
        assert_eq!(numbers(&kept), [(0, 64), (1070 - 192, 1070)], "and what was missing is still");
        let again = [kept, vec![piece(1070, 10, 1024)]].concat();
        assert_eq!(numbers(&cut(again)), [(0, 64), (1080 - 192, 1080)]);
        let large = vec![piece(0, 1, 70 * 1024), piece(1, 1, 1024), piece(2, 1, 250 * 1024)];
        assert_eq!(cut(large), [], "of lines that are too large nothing is kept");
        assert_eq!(kib(1), 1024);
    }

    #[test]
    fn a_file_is_read_as_far_as_it_is_whole() {
        let mut file = Vec::new();
        write(&piece(3, 100, 1024), &mut file);
        write(&piece(200, 1, 1024), &mut file);
        let (pieces, bytes) = read(&file);
        assert_eq!((numbers(&pieces), bytes), (vec![(3, 103), (200, 201)], file.len()));
        assert!(pieces.len() > 2, "large pieces are written as several");
        let (torn, whole) = read(&file[..file.len() - 1]);
        assert_eq!(numbers(&torn), [(3, 103)]);
        assert_eq!(read(&file[..whole]).0, torn);
        assert_eq!(read(&[0xff; 100]), (vec![], 0));
    }
}
