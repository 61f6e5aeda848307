//! `DrainInstance`.

use std::time::Duration;

use mycelium_core::command::{Command, Drain};
use mycelium_core::effects::Reply;
use mycelium_core::ids::{InstanceId, RequestId};
use mycelium_proto::v1;

use super::convert;
use crate::broker::{Handle, unexpected};
use crate::error::Error;

/// How long a process may take to leave, unless it is said.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// How long at most.
const DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) async fn drain_instance(
    handle: &Handle,
    request: v1::DrainInstanceRequest,
) -> Result<v1::DrainInstanceResponse, Error> {
    let instance = InstanceId::from_slice(&request.instance_id);
    let instance = instance.ok_or_else(|| Error::field("instance_id", "must be 16 bytes"))?;
    let within = match request.deadline {
        None => DEADLINE_DEFAULT,
        Some(deadline) => Some(deadline)
            .filter(|deadline| deadline.seconds >= 0 && deadline.nanos >= 0)
            .and_then(|deadline| Duration::try_from(deadline).ok())
            .filter(|deadline| *deadline <= DEADLINE_MAX)
            .ok_or_else(|| Error::field("deadline", "must be 0 s to 24 h"))?,
    };
    let by = convert::said("by", &request.by)?;
    let drain = Drain { request: RequestId::default(), instance, within };
    let (held, is_told) = match handle.request(Command::Drain(drain), Vec::new()).await? {
        (Reply::Draining { held, is_told }, _) => (held, is_told),
        (other, _) => return Err(unexpected(&other).into()),
    };
    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
    tracing::info!(%instance, within_ms, held, is_told, by = &*by, "a process is to leave");
    Ok(v1::DrainInstanceResponse { jobs_held: held, told: is_told })
}
