//! What is paused and resumed by hand: `Pause`, `Resume` and `ListPauses`.

use mycelium_proto::v1;

use super::convert;
use crate::broker::Handle;
use crate::error::Error;

pub(super) async fn pause(handle: &Handle, request: v1::PauseRequest) -> Result<v1::PauseResponse, Error> {
    let target = convert::pause_target(request.target.as_ref())?;
    let (by, reason) = (convert::said("by", &request.by)?, convert::said("reason", &request.reason)?);
    if by.is_empty() {
        return Err(Error::field("by", "must say who asks"));
    }
    let (pause, is_new) = handle.pause(target, by, reason).await?;
    Ok(v1::PauseResponse { pause: Some(convert::pause(&pause)), is_new })
}

pub(super) async fn resume(handle: &Handle, request: v1::ResumeRequest) -> Result<v1::ResumeResponse, Error> {
    let pause = handle.resume(convert::pause_target(request.target.as_ref())?).await?;
    Ok(v1::ResumeResponse { pause: pause.as_ref().map(convert::pause) })
}

pub(super) async fn list_pauses(
    handle: &Handle,
    _: v1::ListPausesRequest,
) -> Result<v1::ListPausesResponse, Error> {
    let pauses = handle.query(|core, _| core.pauses()).await?;
    Ok(v1::ListPausesResponse { pauses: pauses.iter().map(convert::pause).collect() })
}
