//! What the elves have declared: what submissions and outputs are held against.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use mycelium_proto::v1;
use sha2::{Digest as _, Sha256};

mod signature;

pub(crate) use signature::{BadSchema, ElfSignature, Misfit, OutputSignature, Signatures, TaskSignature};
pub(crate) use signature::{core_signature, shape_of};

/// The signatures of all elves ever seen.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    elves: RwLock<HashMap<String, Arc<ElfSignature>>>,
    /// Signatures that somebody uses: the schemas of a revision are compiled once, however many instances serve it.
    shared: Mutex<HashMap<[u8; 32], Weak<ElfSignature>>>,
}

impl Registry {
    pub(crate) fn elf(&self, name: &str) -> Option<Arc<ElfSignature>> {
        // A poisoned lock is no harm: signatures are put in whole.
        self.elves.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The newest signature of an elf.
    pub(crate) fn put(&self, elf: &str, signature: Arc<ElfSignature>) {
        let mut elves = self.elves.write().unwrap_or_else(PoisonError::into_inner);
        elves.insert(elf.to_owned(), signature);
    }

    /// The signature of a declaration, if it is in use already.
    pub(crate) fn shared(&self, declaration: &v1::ElfDeclaration) -> Option<Arc<ElfSignature>> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.get(&digest(declaration))?.upgrade()
    }

    /// Reads the signature of a declaration, whose schemas may take their time to compile.
    pub(crate) fn read(&self, declaration: &v1::ElfDeclaration) -> Result<Arc<ElfSignature>, BadSchema> {
        if let Some(signature) = self.shared(declaration) {
            return Ok(signature);
        }
        let signature = Arc::new(ElfSignature::new(declaration, Err)?);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|_, signature| signature.strong_count() > 0);
        shared.insert(digest(declaration), Arc::downgrade(&signature));
        Ok(signature)
    }

    /// Reads a declaration that was stored, perhaps by a broker that took what is no schema: that judges nothing.
    pub(crate) fn restore(&self, declaration: &v1::ElfDeclaration) {
        let Ok(signature) = ElfSignature::new(declaration, |error| {
            tracing::warn!(elf = declaration.name, field = error.field, %error, "a stored schema judges nothing");
            Ok::<_, Infallible>(None)
        });
        self.put(&declaration.name, Arc::new(signature));
    }
}

/// Digest of what makes a signature.
fn digest(declaration: &v1::ElfDeclaration) -> [u8; 32] {
    let mut digest = Sha256::new();
    // Each text goes in with its length, so that no two declarations read the same.
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    };
    text(&declaration.name);
    for task in &declaration.tasks {
        text(&task.name);
        for parameter in &task.parameters {
            text(if parameter.optional { "optional" } else { "required" });
            text(&parameter.name);
            text(&parameter.schema);
        }
        for output in &task.outputs {
            text("output");
            text(&output.name);
            text(&output.schema);
        }
        text("");
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
