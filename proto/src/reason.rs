//! The reasons of refusals: `google.rpc.ErrorInfo.reason`, in the domain [`DOMAIN`].
//!
//! Programs decide on the status code and the reason, never on the text of a message. A reason is never
//! reused for something else.

/// `ErrorInfo.domain` of every error that a broker makes.
pub const DOMAIN: &str = "mycelium";

/// A field is malformed: wrong length, over its limit, empty where a value is needed. `INVALID_ARGUMENT`.
pub const INVALID_FIELD: &str = "INVALID_FIELD";
/// A value graph is malformed: a node refers forward, a list nests too deep. `INVALID_ARGUMENT`.
pub const INVALID_VALUE_GRAPH: &str = "INVALID_VALUE_GRAPH";
/// The jobs of a submission wait for each other in a circle. `INVALID_ARGUMENT`.
pub const DEPENDENCY_CYCLE: &str = "DEPENDENCY_CYCLE";
/// A payload is larger than the broker takes inline. `INVALID_ARGUMENT`.
pub const PAYLOAD_TOO_LARGE: &str = "PAYLOAD_TOO_LARGE";
/// The bytes written are not those that the header of the blob names. `INVALID_ARGUMENT`.
pub const BLOB_DIFFERS: &str = "BLOB_DIFFERS";
/// No such blob is kept, or what is named is known to be damaged and has to be written again. `NOT_FOUND`.
pub const BLOB_NOT_FOUND: &str = "BLOB_NOT_FOUND";
/// What is stored of a blob is not what was written. `DATA_LOSS`.
pub const BLOB_DAMAGED: &str = "BLOB_DAMAGED";
/// A record of the store is damaged; the message names it, and the file where that is known. Others can be read.
/// `DATA_LOSS`.
pub const RECORD_DAMAGED: &str = "RECORD_DAMAGED";
/// What the broker keeps is in memory, and cannot be copied. `FAILED_PRECONDITION`.
pub const BACKUP_NOT_POSSIBLE: &str = "BACKUP_NOT_POSSIBLE";
/// A transfer of a blob stood still for too long. `DEADLINE_EXCEEDED`.
pub const BLOB_STALLED: &str = "BLOB_STALLED";
/// A request did not come within 30 s, or a message of a stream stood still on its way: less than 64 KiB in 10 s.
/// `DEADLINE_EXCEEDED`.
pub const REQUEST_STALLED: &str = "REQUEST_STALLED";
/// A read took longer than 30 s, or than its `grpc-timeout`. `DEADLINE_EXCEEDED`.
pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
/// Arguments do not fit the signature that the elf has declared, or an output is named that it does not have.
/// `INVALID_ARGUMENT`.
pub const SIGNATURE_MISMATCH: &str = "SIGNATURE_MISMATCH";
/// A job, or a job that a value comes from, is not known. `NOT_FOUND`.
pub const JOB_NOT_FOUND: &str = "JOB_NOT_FOUND";
/// No flow has this id or name. `NOT_FOUND`.
pub const FLOW_NOT_FOUND: &str = "FLOW_NOT_FOUND";
/// The flow is being deleted. Once that is done its id is free, and the same call may be repeated. `UNAVAILABLE`.
pub const FLOW_DELETING: &str = "FLOW_DELETING";
/// The flow was deleted, and a stub of it is left, which takes in no jobs. `FAILED_PRECONDITION`.
pub const FLOW_DELETED: &str = "FLOW_DELETED";
/// The values of a job were deleted with its flow, or are about to be: nothing can come of it any more.
/// `FAILED_PRECONDITION`.
pub const ORIGIN_DELETED: &str = "ORIGIN_DELETED";
/// There are as many pauses as there may be. `RESOURCE_EXHAUSTED`.
pub const PAUSES_FULL: &str = "PAUSES_FULL";
/// The id is that of an action that does something else. `ALREADY_EXISTS`.
pub const ACTION_DIFFERS: &str = "ACTION_DIFFERS";
/// There are as many actions under way as there may be. `RESOURCE_EXHAUSTED`.
pub const ACTIONS_FULL: &str = "ACTIONS_FULL";
/// No such action is known. `NOT_FOUND`.
pub const ACTION_NOT_FOUND: &str = "ACTION_NOT_FOUND";
/// No process with this instance id has a session. `NOT_FOUND`.
pub const INSTANCE_NOT_FOUND: &str = "INSTANCE_NOT_FOUND";
/// No elf of this name has ever connected. `NOT_FOUND`.
pub const ELF_NOT_FOUND: &str = "ELF_NOT_FOUND";
/// No such revision of this elf or task is kept. `NOT_FOUND`.
pub const REVISION_NOT_FOUND: &str = "REVISION_NOT_FOUND";
/// No such failure is kept. `NOT_FOUND`.
pub const FAILURE_NOT_FOUND: &str = "FAILURE_NOT_FOUND";
/// There is no mycelium of this name, and the broker makes none by itself. `NOT_FOUND`.
pub const MYCELIUM_NOT_FOUND: &str = "MYCELIUM_NOT_FOUND";
/// There are as many mycelia as the broker may host. `RESOURCE_EXHAUSTED`.
pub const MYCELIA_FULL: &str = "MYCELIA_FULL";
/// The mycelium is used, or has unfinished jobs. `FAILED_PRECONDITION`.
pub const MYCELIUM_IN_USE: &str = "MYCELIUM_IN_USE";
/// The mycelium `default` cannot be deleted, nor another be made beside it in a broker that was given one store.
/// `FAILED_PRECONDITION`.
pub const MYCELIUM_FIXED: &str = "MYCELIUM_FIXED";
/// The elf is known and has no such task. `FAILED_PRECONDITION`.
pub const TASK_NOT_FOUND: &str = "TASK_NOT_FOUND";
/// The same job id was submitted with other content. `ALREADY_EXISTS`.
pub const JOB_CONTENT_DIFFERS: &str = "JOB_CONTENT_DIFFERS";
/// A part of a submission came out of order, or after the submission was sealed or dropped. `FAILED_PRECONDITION`.
pub const SUBMISSION_OUT_OF_ORDER: &str = "SUBMISSION_OUT_OF_ORDER";
/// The job has not ended in a way that can be retried. `FAILED_PRECONDITION`.
pub const JOB_NOT_RETRYABLE: &str = "JOB_NOT_RETRYABLE";
/// The broker's queue of requests is full, or as many calls are under way, or bytes on their way in or out, as there may
/// be. `RESOURCE_EXHAUSTED`, with `RetryInfo`.
pub const BROKER_BUSY: &str = "BROKER_BUSY";
/// The limit of waiting jobs is reached. `RESOURCE_EXHAUSTED`, with `RetryInfo`.
pub const BACKLOG_FULL: &str = "BACKLOG_FULL";
/// The store did not take the change; nothing was acknowledged, and the same call may be repeated. `UNAVAILABLE`.
pub const STORE_UNAVAILABLE: &str = "STORE_UNAVAILABLE";
/// The disk is full: nothing is stored until there is space again, and then the broker goes on by itself. What is stored
/// can be read meanwhile. Nothing was acknowledged, and the same call may be repeated. `UNAVAILABLE`.
pub const STORE_FULL: &str = "STORE_FULL";
/// The disk is read-only; otherwise as [`STORE_FULL`]. `UNAVAILABLE`.
pub const STORE_READ_ONLY: &str = "STORE_READ_ONLY";
/// The broker is stopping. `UNAVAILABLE`.
pub const BROKER_STOPPING: &str = "BROKER_STOPPING";
/// A watch cannot go on from this commit number; begin again without one. `OUT_OF_RANGE`.
pub const COMMIT_UNKNOWN: &str = "COMMIT_UNKNOWN";
/// The stream did not begin with `Hello`, or repeated it. `FAILED_PRECONDITION`.
pub const PROTOCOL_VIOLATION: &str = "PROTOCOL_VIOLATION";
/// A message of the request is larger than the broker takes. `INVALID_ARGUMENT`.
pub const MESSAGE_TOO_LARGE: &str = "MESSAGE_TOO_LARGE";
/// A message of the request is not one of the contract. `INVALID_ARGUMENT`.
pub const MESSAGE_UNDECODABLE: &str = "MESSAGE_UNDECODABLE";
/// The stream did not begin with `Hello` in time. `DEADLINE_EXCEEDED`.
pub const HELLO_OVERDUE: &str = "HELLO_OVERDUE";
/// A newer stream goes on with the session of this one. `ABORTED`.
pub const SESSION_TAKEN_OVER: &str = "SESSION_TAKEN_OVER";
/// The session of the stream is over, because nothing was heard of it for its lease. `ABORTED`.
pub const SESSION_OVER: &str = "SESSION_OVER";
/// The elf has not read what was sent to it. `ABORTED`.
pub const STREAM_NOT_READ: &str = "STREAM_NOT_READ";
/// The two sides share no protocol version. `FAILED_PRECONDITION`.
pub const PROTOCOL_VERSION_UNSUPPORTED: &str = "PROTOCOL_VERSION_UNSUPPORTED";
/// The broker asks who calls, and the call does not say: neither a token nor a client certificate. `UNAUTHENTICATED`.
pub const CREDENTIALS_MISSING: &str = "CREDENTIALS_MISSING";
/// Who calls is not known by what it shows, or is not known any more; the broker's log says why. `UNAUTHENTICATED`.
pub const CREDENTIALS_REFUSED: &str = "CREDENTIALS_REFUSED";
/// Who calls may not do this, whether there is what it is about or not. `PERMISSION_DENIED`.
pub const NOT_PERMITTED: &str = "NOT_PERMITTED";
/// The call came by a name that is none of the broker's own, or from a web page of another origin. `PERMISSION_DENIED`.
pub const FOREIGN_CALL: &str = "FOREIGN_CALL";
/// There is no such call. `UNIMPLEMENTED`.
pub const UNKNOWN_CALL: &str = "UNKNOWN_CALL";
/// Something failed inside the broker; the message carries an id that its log names. `INTERNAL`.
pub const INTERNAL: &str = "INTERNAL";
