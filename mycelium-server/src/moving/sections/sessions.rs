//! Sessions, propagations of failures under way, policies of unfinished jobs, pauses and actions.
//!
//! The broker that held these sessions is gone, and its elves need not be: a broker that starts on the imported mycelium
//! does with them what it does after every restart. Elves that find it resume with their secrets and go on with what they
//! hold; the leases of the others run out, and what they held is run again.

use mycelium_core::ids::{InstanceId, JobId, PolicyId, SecretDigest, SessionId};
use mycelium_core::image::{ActionRecord, PauseRecord, PropagationRecord, SessionRecord};
use mycelium_core::policy::PolicyRecord;
use serde::{Deserialize, Serialize};

use super::super::line::{self, Malformed};
use super::super::marker;
use super::super::source::{Out, Source};
use super::super::text::{Hex, Text};
use super::{Error, Section};
use crate::store::Batch;
use crate::store::action::ActionText;
use crate::store::pause::PauseText;
use crate::store::policy::PolicyText;

#[derive(Default)]
pub(super) struct Sessions;

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Session {
        session: u64,
        instance: Text<InstanceId>,
        /// SHA-256 of its secret.
        secret: Option<Hex<32>>,
    },
    Propagation {
        /// The job that ended.
        propagation: Text<JobId>,
    },
    Pause {
        pause: PauseText,
    },
    Action(ActionText),
    Policy {
        /// Its number.
        policy: u32,
        says: PolicyText,
    },
}

impl Section for Sessions {
    const NAME: &'static str = "sessions";
    /// There are few: they are read together.
    type Place = ();

    fn read(&mut self, source: &Source<'_>, (): &mut (), out: &mut Out<'_>) -> Result<bool, Error> {
        let mut sessions: Vec<&SessionRecord> =
            source.image.sessions.iter().filter(|session| !marker::is_marker(session)).collect();
        sessions.sort_unstable_by_key(|session| session.id);
        for SessionRecord { id, instance, secret } in sessions {
            let secret = secret.map(|secret| Hex(*secret.as_bytes()));
            out.line(&Line::Session { session: id.0, instance: Text(*instance), secret })?;
        }
        let mut propagations = source.image.propagations.clone();
        propagations.sort_unstable();
        for PropagationRecord { cause } in propagations {
            out.line(&Line::Propagation { propagation: Text(cause) })?;
        }
        let mut policies: Vec<&PolicyRecord> = source.image.policies.iter().collect();
        policies.sort_unstable_by_key(|record| record.id);
        for PolicyRecord { id, policy } in policies {
            out.line(&Line::Policy { policy: id.0, says: policy.into() })?;
        }
        let mut pauses: Vec<&PauseRecord> = source.image.pauses.iter().collect();
        pauses.sort_unstable_by_key(|pause| &pause.target);
        for pause in pauses {
            out.line(&Line::Pause { pause: pause.into() })?;
        }
        let mut actions: Vec<&ActionRecord> = source.image.actions.iter().collect();
        actions.sort_unstable_by_key(|action| action.id);
        for action in actions {
            out.line(&Line::Action(action.into()))?;
        }
        Ok(false)
    }

    fn take(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), Malformed> {
        match line::read(line)? {
            Line::Session { session, instance: Text(instance), secret } => {
                let id = SessionId(session);
                batch.counters.session = batch.counters.session.max(id);
                let secret = secret.map(|Hex(digest)| SecretDigest::new(digest));
                batch.records.sessions_opened.push(SessionRecord { id, instance, secret });
            }
            Line::Propagation { propagation: Text(cause) } => {
                batch.records.propagations_begun.push(PropagationRecord { cause });
            }
            Line::Pause { pause } => {
                let pause = pause.try_into().map_err(|why: &str| Malformed(why.to_owned()))?;
                batch.records.pauses.push(pause);
            }
            Line::Action(action) => {
                let action = action.try_into().map_err(|why: &str| Malformed(why.to_owned()))?;
                batch.records.actions.push(action);
            }
            Line::Policy { policy, says } => {
                let record = PolicyRecord { id: PolicyId(policy), policy: says.into() };
                batch.records.policies.push(record);
            }
        }
        Ok(())
    }
}
