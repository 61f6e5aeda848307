//! Writing a file from its beginning to its end, past the memory in which the system keeps what was written last.
//!
//! Most blobs are read once, soon after they were written, and then from the broker's own memory. To keep them in the
//! system's as well costs a copy, pages that have to be found and cleared first, and a flush of all of them at the end.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};

/// How much goes to the disk at once past the system's memory.
const BLOCK_BYTES: usize = 1024 * 1024;
/// Where such a block has to begin, in memory and in the file, and of what its length has to be a multiple. A disk that
/// asks for more refuses the first write, and gets the file through the system's memory.
const ALIGNMENT: usize = 4096;

/// What is known of the file, which is given with each call.
pub(super) struct Output {
    written: u64,
    /// None if the file has to go through the system's memory after all.
    block: Option<Block>,
}

/// What is gathered for one write past the system's memory.
struct Block {
    /// Has room for a whole block from the start on, and never moves.
    memory: Vec<u8>,
    start: usize,
}

impl Output {
    /// The writer of an empty file.
    pub(super) fn new(file: &File) -> Self {
        Self { written: 0, block: Block::new().filter(|_| set_direct(file, true).is_ok()) }
    }

    /// Adds bytes at the end.
    pub(super) fn write(&mut self, mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(block) = &mut self.block
            && !bytes.is_empty()
        {
            bytes = block.fill(bytes);
            if block.gathered() == BLOCK_BYTES {
                self.write_block(file)?;
            }
        }
        file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Writes what is still gathered. It is durable when the file has been synced.
    pub(super) fn finish(&mut self, file: &File) -> io::Result<()> {
        match &self.block {
            Some(block) if block.gathered() > 0 => {
                self.write_block(file)?;
                // The last block may have had to be longer than what is left.
                file.set_len(self.written)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn write_block(&mut self, mut file: &File) -> io::Result<()> {
        let Some(block) = &mut self.block else { return Ok(()) };
        let gathered = block.gathered();
        match file.write_all(block.padded()) {
            // Some file systems find out here that they cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                set_direct(file, false)?;
                file.seek(SeekFrom::Start(self.written))?;
                file.write_all(&block.padded()[..gathered])?;
                self.block = None;
            }
            written => {
                written?;
                block.clear();
            }
        }
        self.written += gathered as u64;
        Ok(())
    }
}

impl Block {
    fn new() -> Option<Self> {
        let mut memory: Vec<u8> = Vec::with_capacity(BLOCK_BYTES + ALIGNMENT);
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        if start > ALIGNMENT {
            return None;
        }
        memory.resize(start, 0);
        Some(Self { memory, start })
    }

    /// How many bytes it has.
    fn gathered(&self) -> usize {
        self.memory.len() - self.start
    }

    /// Takes as much as there is room for, and gives back the rest.
    fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.gathered()));
        self.memory.extend_from_slice(taken);
        rest
    }

    /// What it has, with zeros behind it as far as the disk wants them.
    fn padded(&mut self) -> &[u8] {
        self.memory.resize(self.start + self.gathered().next_multiple_of(ALIGNMENT), 0);
        &self.memory[self.start..]
    }

    fn clear(&mut self) {
        self.memory.truncate(self.start);
    }
}

/// Whether what is written goes past the system's memory, if this system and the file's file system can do that.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = if is_direct { OFlag::O_DIRECT } else { OFlag::empty() };
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_file: &File, _is_direct: bool) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTHS: [usize; 7] =
        [0, 1, ALIGNMENT - 1, ALIGNMENT, BLOCK_BYTES - 1, BLOCK_BYTES, 2 * BLOCK_BYTES + ALIGNMENT + 1];

    /// Writes bytes in pieces, and compares what the file then has.
    fn check(new: impl Fn(&File) -> Output) {
        let temp = tempfile::tempdir().unwrap();
        for (length, piece) in LENGTHS.iter().flat_map(|length| [(*length, 70_001), (*length, usize::MAX)]) {
            let bytes: Vec<u8> = (0..length).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
            let path = temp.path().join("file");
            let file = File::create(&path).unwrap();
            let mut output = new(&file);
            for piece in bytes.chunks(piece) {
                output.write(&file, piece).unwrap();
            }
            output.finish(&file).unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes, "{length} bytes in pieces of {piece}");
        }
    }

    #[test]
    fn a_file_has_what_was_written_whatever_its_length() {
        check(Output::new);
    }

    #[test]
    fn where_the_systems_memory_cannot_be_passed_it_is_used() {
        check(|_| Output { written: 0, block: None });
    }

    /// Puts what is gathered where no disk takes it from.
    fn misalign(output: &mut Output) {
        if let Some(block) = &mut output.block {
            block.memory.insert(block.start, 0);
            block.start += 1;
        }
    }

    #[test]
    fn a_file_system_that_refuses_a_write_past_the_systems_memory_gets_it_through_it() {
        check(|file| {
            let mut output = Output::new(file);
            misalign(&mut output);
            output
        });
    }

    #[test]
    fn it_may_refuse_after_it_has_taken_some() {
        let temp = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..3 * BLOCK_BYTES + 9).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect();
        let path = temp.path().join("file");
        let file = File::create(&path).unwrap();
        let mut output = Output::new(&file);
        let (first, rest) = bytes.split_at(BLOCK_BYTES + 7);
        output.write(&file, first).unwrap();
        misalign(&mut output);
        output.write(&file, rest).unwrap();
        output.finish(&file).unwrap();
        assert!(std::fs::read(&path).unwrap() == bytes);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_systems_memory_is_passed_where_the_file_system_can() {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        let file = tempfile::tempfile().unwrap();
        if set_direct(&file, true).is_err() {
            eprintln!("SKIPPED: the file system of temporary files writes through the system's memory only");
            return;
        }
        set_direct(&file, false).unwrap();
        let is_direct = || fcntl(&file, FcntlArg::F_GETFL).unwrap() & OFlag::O_DIRECT.bits() != 0;
        assert!(!is_direct());
        let output = Output::new(&file);
        assert!(is_direct() && output.block.is_some());
    }

    #[test]
    fn what_is_written_past_the_systems_memory_begins_where_it_should() {
        let mut block = Block::new().unwrap();
        assert!(block.fill(&[7; 5]).is_empty());
        let begin = block.padded().as_ptr();
        assert_eq!(begin.align_offset(ALIGNMENT), 0);
        assert_eq!(block.padded()[..6], [7, 7, 7, 7, 7, 0]);
        block.clear();
        let rest = [8; BLOCK_BYTES + 9];
        assert_eq!(block.fill(&rest).len(), 9);
        assert_eq!((block.padded().len(), block.padded().as_ptr()), (BLOCK_BYTES, begin));
    }
}
