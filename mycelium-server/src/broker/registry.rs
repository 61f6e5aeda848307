//! What the elves have declared, and who is there that declares it: what submissions and outputs are held against.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use mycelium_core::ids::SessionId;
use mycelium_proto::v1;
use sha2::{Digest as _, Sha256};

mod signature;
mod standing;

pub(crate) use signature::{BadSchema, ElfSignature, Misfit, OutputSignature, Signatures, TaskSignature};
pub(crate) use signature::{core_signature, shape_of};
pub(crate) use standing::{Ruling, Standing};

/// So many different declarations of an elf are asked about a job, the newest ones.
const ASKED_MAX: usize = 16;

/// The signatures of all elves ever seen, and the sessions.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: RwLock<Known>,
    /// Signatures that somebody uses: the schemas of a revision are compiled once, however many instances serve it.
    shared: Mutex<HashMap<[u8; 32], Weak<ElfSignature>>>,
}

#[derive(Debug, Default)]
struct Known {
    elves: HashMap<String, KnownElf>,
    /// What each session declares.
    sessions: BTreeMap<SessionId, Signatures>,
    /// Sessions that were there when the broker began, and have not been heard since.
    unheard: BTreeSet<SessionId>,
}

/// An elf that was declared once.
#[derive(Debug, Default)]
struct KnownElf {
    sessions: BTreeMap<SessionId, Arc<ElfSignature>>,
    standing: Standing,
}

impl KnownElf {
    /// The sessions have changed.
    fn refresh(&mut self) {
        let mut live: Vec<Arc<ElfSignature>> = Vec::new();
        let newest_first = self.sessions.values().rev();
        for signature in newest_first {
            if !live.iter().any(|other| Arc::ptr_eq(other, signature)) {
                live.push(Arc::clone(signature));
            }
        }
        self.standing.may_be_others = live.len() > ASKED_MAX;
        live.truncate(ASKED_MAX);
        self.standing.live = live.into();
    }
}

impl Known {
    fn remove(&mut self, session: SessionId) {
        self.unheard.remove(&session);
        for name in self.sessions.remove(&session).unwrap_or_default().into_keys() {
            if let Some(elf) = self.elves.get_mut(&name) {
                elf.sessions.remove(&session);
                elf.refresh();
            }
        }
    }
}

impl Registry {
    /// Who serves an elf. A session is there until its lease has ended, whether its stream is open or not.
    pub(crate) fn standing(&self, elf: &str) -> Standing {
        let known = self.read_known();
        let mut standing = known.elves.get(elf).map(|elf| elf.standing.clone()).unwrap_or_default();
        standing.may_be_others |= !known.unheard.is_empty();
        standing
    }

    /// Whether an elf was ever declared.
    pub(crate) fn is_known(&self, elf: &str) -> bool {
        self.read_known().elves.contains_key(elf)
    }

    /// What a session declares, if it was heard.
    pub(crate) fn session(&self, session: SessionId) -> Option<Signatures> {
        self.read_known().sessions.get(&session).cloned()
    }

    /// What a session declares from now on.
    pub(crate) fn welcome(&self, session: SessionId, signatures: Signatures) {
        let mut known = self.write_known();
        known.remove(session);
        for (name, signature) in &signatures {
            let elf = known.elves.entry(name.clone()).or_default();
            elf.sessions.insert(session, Arc::clone(signature));
            elf.standing.newest = Some(Arc::clone(signature));
            elf.refresh();
        }
        known.sessions.insert(session, signatures);
    }

    /// An elf is not stored any more. One that is served is known all the same.
    pub(crate) fn forget(&self, elf: &str) {
        let mut known = self.write_known();
        if known.elves.get(elf).is_some_and(|elf| elf.sessions.is_empty()) {
            known.elves.remove(elf);
        }
    }

    /// A session is over.
    pub(crate) fn end(&self, session: SessionId) {
        self.write_known().remove(session);
    }

    /// The scheduler begins, or begins anew, with these sessions.
    pub(crate) fn begin(&self, sessions: impl IntoIterator<Item = SessionId>) {
        let sessions: BTreeSet<SessionId> = sessions.into_iter().collect();
        let mut known = self.write_known();
        let over: Vec<SessionId> =
            known.sessions.keys().filter(|session| !sessions.contains(session)).copied().collect();
        over.into_iter().for_each(|session| known.remove(session));
        known.unheard =
            sessions.into_iter().filter(|session| !known.sessions.contains_key(session)).collect();
    }

    // A poisoned lock is no harm: what panics while it is held is a defect that ends the owner of the core as well.
    fn read_known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_known(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
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
        let mut known = self.write_known();
        let elf = known.elves.entry(declaration.name.clone()).or_default();
        elf.standing.newest = Some(Arc::new(signature));
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
