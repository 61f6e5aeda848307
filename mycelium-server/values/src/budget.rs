//! What an evaluation may take, counted before it is taken.

use crate::error::{ErrorKind, Failure};

/// About what an element of a list or a map takes in memory, beside the bytes of its text.
pub(crate) const ELEMENT_BYTES: usize = 48;
/// So many bytes are read or written for one step.
const BYTES_PER_STEP: usize = 64;

/// The limits of one evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most steps: operations, elements visited, and one for each 64 bytes read or written.
    pub steps: u64,
    /// The most bytes of memory taken for intermediate values, all together.
    pub memory_bytes: usize,
    /// The largest value, as JSON text.
    pub value_bytes: usize,
    /// The most lists and maps in each other that operations may build.
    pub depth: u32,
}

impl Limits {
    /// The limits of the contract: 5,000,000 steps, 128 MiB, values of 8 MiB, 128 levels.
    pub const CONTRACT: Self = Self {
        steps: 5_000_000,
        memory_bytes: 128 * 1024 * 1024,
        value_bytes: mycelium_proto::limits::OPERAND_BYTES_MAX,
        depth: 128,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::CONTRACT
    }
}

/// What is left of the limits.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    steps_left: u64,
    memory_left: usize,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, steps_left: limits.steps, memory_left: limits.memory_bytes }
    }

    /// Takes steps.
    pub(crate) fn steps(&mut self, n: usize) -> Result<(), Failure> {
        match self.steps_left.checked_sub(n as u64) {
            Some(left) => {
                self.steps_left = left;
                Ok(())
            }
            None => {
                let max = self.limits.steps;
                Err(limit(format!(
                    "the values of one job may take {max} steps to compute, and these take more"
                )))
            }
        }
    }

    /// Takes the steps of reading or writing so many bytes.
    pub(crate) fn scan(&mut self, bytes: usize) -> Result<(), Failure> {
        self.steps(bytes / BYTES_PER_STEP)
    }

    /// Takes memory for a value that will have `elements` elements and take `bytes` bytes as JSON text.
    pub(crate) fn value(&mut self, elements: usize, bytes: usize) -> Result<(), Failure> {
        if bytes > self.limits.value_bytes {
            let max = self.limits.value_bytes;
            return Err(limit(format!("the value would have {bytes} bytes, and the most is {max}")));
        }
        self.steps(elements)?;
        self.scan(bytes)?;
        self.memory(elements.saturating_mul(ELEMENT_BYTES).saturating_add(bytes))
    }

    /// Takes memory.
    pub(crate) fn memory(&mut self, bytes: usize) -> Result<(), Failure> {
        match self.memory_left.checked_sub(bytes) {
            Some(left) => {
                self.memory_left = left;
                Ok(())
            }
            None => {
                let max = self.limits.memory_bytes;
                Err(limit(format!(
                    "the values of one job may take {max} bytes of memory while they are computed, and these take \
                     more"
                )))
            }
        }
    }

    /// What is left of the memory, to be restored once what was taken since is let go.
    pub(crate) fn memory_left(&self) -> usize {
        self.memory_left
    }

    /// What was taken since `memory_left` was asked for is let go, but for `kept` bytes.
    pub(crate) fn restore_memory(&mut self, memory_left: usize, kept: usize) {
        self.memory_left = self.memory_left.max(memory_left.saturating_sub(kept));
    }

    pub(crate) fn depth(&self, depth: u32) -> Result<(), Failure> {
        let max = self.limits.depth;
        if depth > max { Err(limit(format!("the value would nest more than {max} deep"))) } else { Ok(()) }
    }

    pub(crate) fn depth_max(&self) -> u32 {
        self.limits.depth
    }
}

fn limit(message: String) -> Failure {
    Failure::new(ErrorKind::LimitExceeded, message)
}
