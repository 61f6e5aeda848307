//! Sees to it that what a worker says of itself fits a message.

use mycelium_proto::{limits, v1};
use prost::Message as _;

use super::ledger::ElfAccount;
use crate::declaration::{leave_out_docs, leave_out_sources};
use crate::error::Error;

/// The most that the declarations of all elves of a worker may take in its first message, in bytes. The rest of the message
/// names what is held.
const DECLARED_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX / 2;
/// The most jobs that all elves of a worker may hold. What is finished and not acknowledged is named beside them, so this is
/// less than a message may name.
const HELD_MAX: u64 = limits::HELD_MAX as u64 - limits::WINDOW_MAX as u64;

/// Sees to it that `Hello` fits a message, with all that may ever be held.
pub(super) fn fit_hello(accounts: &mut [ElfAccount]) -> Result<(), Error> {
    let windows: u64 = accounts.iter().map(|account| u64::from(account.window)).sum();
    if windows > HELD_MAX {
        let message =
            format!("its elves have windows of {windows} jobs together, and at most {HELD_MAX} are possible");
        return Err(Error::InvalidWorker { message });
    }
    if declared_bytes(accounts) <= DECLARED_BYTES_MAX {
        return Ok(());
    }
    tracing::warn!(
        "the declarations of this worker are too large for one message: their source texts are left out"
    );
    accounts.iter_mut().for_each(|account| leave_out_sources(&mut account.declaration));
    let bytes = declared_bytes(accounts);
    if bytes <= DECLARED_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "its elves declare {bytes} bytes without their source texts, and at most {DECLARED_BYTES_MAX} are possible"
    );
    Err(Error::InvalidWorker { message })
}

/// Leaves out what only people read of an elf whose declaration no broker would take: source texts, and documentation too
/// if that is not enough.
pub(super) fn fit_elf(declaration: &mut v1::ElfDeclaration) {
    let bytes = declaration.encoded_len();
    if bytes <= limits::ELF_BYTES_MAX {
        return;
    }
    leave_out_sources(declaration);
    let mut left_out = "source texts";
    if declaration.encoded_len() > limits::ELF_BYTES_MAX {
        leave_out_docs(declaration);
        left_out = "source texts and documentation";
    }
    tracing::warn!(
        elf = declaration.name,
        bytes,
        bytes_max = limits::ELF_BYTES_MAX,
        bytes_sent = declaration.encoded_len(),
        left_out,
        "the declaration of the elf is too large with all its texts, so some are left out"
    );
}

fn declared_bytes(accounts: &[ElfAccount]) -> usize {
    accounts.iter().map(|account| account.declaration.encoded_len()).sum()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn account(window: u32, docs: usize, source: usize) -> ElfAccount {
        let declaration = mycelium_proto::v1::ElfDeclaration {
            docs: "d".repeat(docs),
            source: "s".repeat(source),
            tasks: vec![mycelium_proto::v1::TaskDeclaration {
                source: "t".repeat(source),
                ..Default::default()
            }],
            ..Default::default()
        };
        ElfAccount {
            occupied: 0,
            occupied_told: 0,
            name: Arc::from("scale"),
            declaration,
            window,
            concurrency: 1,
            tasks: std::collections::HashMap::new(),
            unfinished: 0,
        }
    }

    fn problem(mut accounts: Vec<ElfAccount>) -> String {
        match fit_hello(&mut accounts) {
            Err(Error::InvalidWorker { message }) => message,
            other => panic!("a worker that cannot say hello is set up: {other:?}"),
        }
    }

    #[test]
    fn source_texts_that_do_not_fit_the_first_message_are_left_out() {
        const MIB: usize = 1024 * 1024;
        let mut small = vec![account(1, MIB, MIB)];
        fit_hello(&mut small).unwrap();
        assert_eq!(small[0].declaration.source.len(), MIB, "what fits is sent");
        let mut large: Vec<_> = (0..5).map(|_| account(1, MIB, MIB)).collect();
        fit_hello(&mut large).unwrap();
        assert!(large.iter().all(|account| account.declaration.source.is_empty()
            && account.declaration.tasks[0].source.is_empty()
            && account.declaration.docs.len() == MIB));
        let too_large = problem((0..9).map(|_| account(1, MIB, 0)).collect());
        assert!(too_large.contains("without their source texts, and at most 8388608"), "{too_large}");
    }

    #[test]
    fn of_an_elf_that_is_too_large_sources_are_left_out_and_then_documentation() {
        const MIB: usize = 1024 * 1024;
        const KIB: usize = 1024;
        let fitted = |docs, source| {
            let mut declaration = account(1, docs, source).declaration;
            declaration.revision = bytes::Bytes::from_static(&[7; 32]);
            fit_elf(&mut declaration);
            assert!(declaration.encoded_len() <= limits::ELF_BYTES_MAX);
            assert_eq!(declaration.revision, [7; 32].as_slice(), "revisions stay");
            let sources = declaration.source.len() + declaration.tasks[0].source.len();
            (declaration.docs.len(), sources)
        };
        assert_eq!(fitted(MIB, 511 * KIB), (MIB, 1_022 * KIB), "what fits is sent");
        assert_eq!(fitted(MIB, 513 * KIB), (MIB, 0));
        assert_eq!(fitted(3 * MIB, 1), (0, 0));
    }

    #[test]
    fn windows_are_refused_that_no_message_could_name() {
        fit_hello(&mut [account(65_536, 0, 0), account(65_536, 0, 0), account(65_536, 0, 0)]).unwrap();
        let message = problem((0..4).map(|_| account(65_536, 0, 0)).collect());
        assert_eq!(
            message,
            "its elves have windows of 262144 jobs together, and at most 196608 are possible"
        );
    }
}
