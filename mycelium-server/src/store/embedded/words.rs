//! What records of jobs repeat, stored once under a number: which task is called with which arguments, and which program
//! ran it. There are a handful of either beside millions of jobs.
//!
//! What one damaged block or one lost commit takes must not take all jobs that have a word. So a word is stored in one
//! table with the first batch that has it, and in another with the next. Words are never removed; those for which there is
//! no more room stand in the records themselves.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use fjall::{Keyspace, OwnedWriteBatch};
use mycelium_core::ids::{Build, Revision};
use mycelium_core::image::{JobHead, Running};
use mycelium_core::signature::Shape;

use super::codec::{self, Malformed};
use super::keys;
use super::tables::{Table, Tables, View, get_quietly};
use crate::store::Error;

/// How much memory words may take, in bytes.
const WORDS_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The longest that is stored apart, in bytes.
const WORD_BYTES_MAX: usize = 1024;
/// What a word takes beside its texts: its places in two maps.
const WORD_BYTES: usize = 256;

/// What jobs are calls of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Call {
    pub(super) elf: Arc<str>,
    pub(super) task: Arc<str>,
    pub(super) shape: Shape,
}

impl Call {
    fn is_of(&self, head: &JobHead) -> bool {
        self.elf == head.elf && self.task == head.task && self.shape == head.shape
    }
}

/// What runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Program {
    pub(super) revision: Revision,
    pub(super) build: Build,
}

/// What is stored once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Word {
    Call(Call),
    Program(Program),
}

impl Word {
    fn bytes(&self) -> usize {
        match self {
            Self::Call(Call { elf, task, shape }) => {
                let names = shape.names().unwrap_or_default().iter();
                elf.len() + task.len() + names.map(|name| name.len() + 24).sum::<usize>()
            }
            Self::Program(Program { revision, build }) => revision.as_bytes().len() + build.as_str().len(),
        }
    }
}

/// The words of a store.
pub(super) struct Words {
    catalog: Keyspace,
    index: Keyspace,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    words: HashMap<u32, Word>,
    numbers: HashMap<Word, u32>,
    last: u32,
    bytes: usize,
    /// Those that are stored once: the next batch stores them again.
    once: Vec<u32>,
}

impl Known {
    fn read(view: &View<'_>, table: &Table) -> Result<Self, Error> {
        let mut known = Self::default();
        for entry in view.scan(table, keys::words().as_bytes(), None) {
            let (key, value) = entry?;
            let number = table.expect(&key, keys::word_number(&key), "the key is no word")?;
            known.add(number, table.decode(&key, (), value)?);
        }
        Ok(known)
    }

    /// What was read in one place, with what was in the other.
    fn with(mut self, other: Self) -> Self {
        let here = self.words.keys().filter(|number| !other.words.contains_key(number)).copied();
        self.once = here.collect();
        for (number, word) in other.words {
            if !self.words.contains_key(&number) {
                self.once.push(number);
                self.add(number, word);
            }
        }
        self
    }

    fn add(&mut self, number: u32, word: Word) {
        self.bytes += WORD_BYTES + word.bytes();
        self.last = self.last.max(number);
        self.numbers.insert(word.clone(), number);
        self.words.insert(number, word);
    }
}

impl Words {
    pub(super) fn of(catalog: &Keyspace, index: &Keyspace) -> Self {
        Self { catalog: catalog.clone(), index: index.clone(), known: RwLock::default() }
    }

    /// Reads all, so that more can be added.
    pub(super) fn load(&self, view: &View<'_>) -> Result<(), Error> {
        let Tables { catalog, index, .. } = view.tables;
        let known = match (Known::read(view, catalog), Known::read(view, index)) {
            (Ok(first), Ok(second)) => first.with(second),
            (Ok(known), Err(Error::Damaged { .. })) | (Err(Error::Damaged { .. }), Ok(known)) => known,
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        Ok(())
    }

    /// The word of this number.
    pub(super) fn read(&self, number: u32) -> Result<Word, Malformed> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(word) = known.words.get(&number) {
            return Ok(word.clone());
        }
        drop(known);
        // Not loaded: somebody looks into a folder, or copies it.
        let key = keys::word(number);
        let word = [&self.catalog, &self.index].into_iter().find_map(|table| {
            let value = get_quietly(table, key.as_bytes())?;
            codec::decode((), value, None).ok()
        });
        let word: Word = word.ok_or_else(|| Malformed(format!("word {number} is missing")))?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.add(number, word.clone());
        Ok(word)
    }

    pub(super) fn call(&self, number: u32) -> Result<Call, Malformed> {
        match self.read(number)? {
            Word::Call(call) => Ok(call),
            Word::Program(_) => Err(Malformed(format!("word {number} is no call"))),
        }
    }

    pub(super) fn program(&self, number: u32) -> Result<Program, Malformed> {
        match self.read(number)? {
            Word::Program(program) => Ok(program),
            Word::Call(_) => Err(Malformed(format!("word {number} is no program"))),
        }
    }
}

/// Numbers the words of records that are being written.
pub(super) struct Numbering<'a> {
    words: &'a Words,
    /// What the latest records had: most of a batch have the same.
    call: Option<(Call, u32)>,
    program: Option<(Program, u32)>,
    /// Those that are not stored.
    new: HashMap<Word, u32>,
    new_bytes: usize,
}

impl<'a> Numbering<'a> {
    pub(super) fn of(words: &'a Words) -> Self {
        Self { words, call: None, program: None, new: HashMap::new(), new_bytes: 0 }
    }

    /// The number of what a job is a call of; `None` if it is to stand in the record.
    pub(super) fn call(&mut self, head: &JobHead) -> Option<u32> {
        if let Some((call, number)) = &self.call
            && call.is_of(head)
        {
            return Some(*number);
        }
        let call = Call { elf: head.elf.clone(), task: head.task.clone(), shape: head.shape.clone() };
        let number = self.number(Word::Call(call.clone()))?;
        self.call = Some((call, number));
        Some(number)
    }

    /// The number of what runs a job; `None` if it is to stand in the record.
    pub(super) fn program(&mut self, running: &Running) -> Option<u32> {
        let program = Program { revision: running.revision, build: running.build };
        if let Some((known, number)) = &self.program
            && *known == program
        {
            return Some(*number);
        }
        let number = self.number(Word::Program(program))?;
        self.program = Some((program, number));
        Some(number)
    }

    fn number(&mut self, word: Word) -> Option<u32> {
        let known = self.words.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.numbers.get(&word).or_else(|| self.new.get(&word)) {
            return Some(*number);
        }
        let bytes = word.bytes();
        let new_bytes = self.new_bytes + WORD_BYTES + bytes;
        if bytes > WORD_BYTES_MAX || known.bytes + new_bytes > WORDS_BYTES_MAX {
            return None;
        }
        // One batch is put together at a time: nobody else takes the number.
        let number = known.last.checked_add(u32::try_from(self.new.len()).ok()?)?.checked_add(1)?;
        self.new.insert(word, number);
        self.new_bytes = new_bytes;
        Some(number)
    }

    /// Has the new ones written with the records that have them. From then on they count as stored: a write that fails
    /// has the store opened again.
    pub(super) fn write(self, write: &mut OwnedWriteBatch) {
        let Words { catalog, index, known } = self.words;
        if self.new.is_empty() && known.read().unwrap_or_else(PoisonError::into_inner).once.is_empty() {
            return;
        }
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = Vec::new();
        let mut put = |number, word: &Word, tables: &[&Keyspace]| {
            codec::encode(word, &mut buffer, None);
            for table in tables {
                write.insert(table, keys::word(number).into_bytes(), buffer.as_slice());
            }
        };
        for number in std::mem::take(&mut known.once) {
            if let Some(word) = known.words.get(&number) {
                put(number, word, &[catalog, index]);
            }
        }
        for (word, number) in self.new {
            put(number, &word, &[catalog]);
            known.once.push(number);
            known.add(number, word);
        }
    }
}

#[cfg(test)]
mod tests;
