//! The records of words.

use mycelium_core::ids::Revision;
use mycelium_core::signature::Shape;

use super::super::message;
use super::super::words::{Call, Program, Word};
use super::{Malformed, Numbering, Record, Words, build, id};

impl Record for Word {
    type Message = message::Word;
    type Key = ();

    fn to_message(&self, _: Option<&mut Numbering<'_>>) -> message::Word {
        let kind = match self {
            Self::Call(Call { elf, task, shape }) => message::WordKind::Call(message::Call {
                elf: elf.to_string(),
                task: task.to_string(),
                shape: message::Shape::of(shape),
            }),
            Self::Program(Program { revision, build }) => message::WordKind::Program(message::Program {
                revision: revision.as_bytes().to_vec(),
                build: build.as_str().to_owned(),
            }),
        };
        message::Word { kind: Some(kind) }
    }

    fn from_message((): (), message: message::Word, _: Option<&Words>) -> Result<Self, Malformed> {
        match message.kind {
            Some(message::WordKind::Call(message::Call { elf, task, shape })) => Ok(Self::Call(Call {
                elf: elf.into(),
                task: task.into(),
                shape: shape.map_or(Shape::UNKNOWN, message::Shape::read),
            })),
            Some(message::WordKind::Program(program)) => Ok(Self::Program(Program {
                revision: id(&program.revision, Revision::from_slice, "revision")?,
                build: build(&program.build)?,
            })),
            None => Err(Malformed("the word is empty".to_owned())),
        }
    }
}
