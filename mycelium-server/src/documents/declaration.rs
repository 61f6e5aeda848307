//! Elves as they have described themselves, now and in earlier revisions.

use bytes::Bytes;
use mycelium_proto::v1;
use prost::Message as _;

use super::{Undecodable, decode};

/// An elf as it described itself.
#[derive(Debug, Clone)]
pub(crate) struct Declaration(v1::ElfDeclaration);

impl Declaration {
    /// Decodes that of `elf`.
    ///
    /// # Errors
    /// If it is damaged.
    pub(crate) fn decode(elf: &str, encoded: Bytes) -> Result<Self, Undecodable> {
        decode(encoded, || format!("the declaration of elf `{elf}`")).map(Self)
    }

    /// The name of the elf.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    /// How many bytes it takes in a message.
    pub(crate) fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// Leaves out the source of the elf, and those of its tasks.
    pub(crate) fn leave_out_sources(&mut self) {
        self.0.source.clear();
        self.0.tasks.iter_mut().for_each(|task| task.source.clear());
    }

    /// Leaves texts out of one that an earlier version has taken, until it is small enough: those first that can be had
    /// from its revisions. Whether that was needed.
    pub(crate) fn cut(&mut self, bytes_max: usize) -> bool {
        let Self(declaration) = self;
        let leave_out: [fn(&mut v1::ElfDeclaration); 5] = [
            |elf| elf.tasks.iter_mut().for_each(|task| task.source.clear()),
            |elf| elf.source.clear(),
            |elf| elf.tasks.iter_mut().for_each(|task| task.docs.clear()),
            |elf| {
                elf.docs.clear();
                elf.tasks.iter_mut().for_each(|task| task.signature.clear());
            },
            |elf| {
                for task in &mut elf.tasks {
                    task.parameters.iter_mut().for_each(|parameter| parameter.schema.clear());
                    task.outputs.iter_mut().for_each(|output| output.schema.clear());
                }
            },
        ];
        let mut is_cut = false;
        for leave_out in leave_out {
            if declaration.encoded_len() <= bytes_max {
                return is_cut;
            }
            leave_out(declaration);
            is_cut = true;
        }
        while declaration.encoded_len() > bytes_max && !declaration.tasks.is_empty() {
            declaration.tasks.truncate(declaration.tasks.len() / 2);
        }
        is_cut
    }
}

impl From<Declaration> for v1::ElfDeclaration {
    fn from(Declaration(message): Declaration) -> Self {
        message
    }
}

/// The documentation, signature and source of a revision of an elf or a task.
#[derive(Debug, Clone)]
pub(crate) struct RevisionDocument(v1::Revision);

impl RevisionDocument {
    /// Decodes one of `elf` or its tasks.
    ///
    /// # Errors
    /// If it is damaged.
    pub(crate) fn decode(elf: &str, encoded: Bytes) -> Result<Self, Undecodable> {
        decode(encoded, || format!("a revision of elf `{elf}`")).map(Self)
    }

    /// How many bytes it takes in a message.
    pub(crate) fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    /// Leaves out source and documentation.
    pub(crate) fn leave_out_texts(&mut self) {
        self.0.source.clear();
        self.0.docs.clear();
    }
}

impl From<RevisionDocument> for v1::Revision {
    fn from(RevisionDocument(message): RevisionDocument) -> Self {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An elf as an earlier version took it: each text at its limit, and all together far beyond.
    fn huge(tasks: usize, text: usize) -> Declaration {
        let text = "x".repeat(text);
        let task = |number: usize| v1::TaskDeclaration {
            name: format!("task_{number}"),
            docs: text.clone(),
            signature: text.clone(),
            source: text.clone(),
            parameters: vec![v1::ParameterDeclaration {
                name: "a".to_owned(),
                schema: text.clone(),
                optional: false,
            }],
            outputs: vec![v1::OutputDeclaration { name: "b".to_owned(), schema: text.clone() }],
            ..v1::TaskDeclaration::default()
        };
        Declaration(v1::ElfDeclaration {
            name: "elf".to_owned(),
            docs: text.clone(),
            source: text.clone(),
            tasks: (0..tasks).map(task).collect(),
            ..v1::ElfDeclaration::default()
        })
    }

    #[test]
    fn what_an_earlier_version_took_is_cut_as_far_as_needed_and_says_so() {
        let mut small = huge(2, 10);
        assert!(!small.cut(1_000) && small.0 == huge(2, 10).0, "what is small stays as it is");
        for (tasks, text) in [(3, 1_000_000), (10, 200_000), (1_000, 3_000)] {
            let mut elf = huge(tasks, text);
            assert!(elf.cut(3_000_000));
            assert!(elf.encoded_len() <= 3_000_000, "{} bytes", elf.encoded_len());
            let Declaration(elf) = elf;
            assert_eq!(elf.tasks.len(), tasks, "every task is named");
            assert!(elf.tasks.iter().all(|task| task.source.is_empty()), "sources go first");
        }
        let mut names = huge(100_000, 0);
        assert!(names.cut(1_000_000) && names.encoded_len() <= 1_000_000);
    }
}
