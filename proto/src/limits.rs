//! The limits of the contract. A broker checks them before it takes memory, a runtime before it sends.

/// The newest version of the protocol that these sources speak; `Hello` carries a range.
pub const PROTOCOL_VERSION: u32 = 2;
/// The oldest version of the protocol that these sources speak.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
/// The longest secret of a session, in bytes.
pub const SESSION_SECRET_BYTES_MAX: usize = 64;
/// The longest id of a boot of a system, in bytes.
pub const BOOT_ID_BYTES_MAX: usize = 64;
/// The most attempts that one `Hello` or `Heartbeat` names.
pub const HELD_MAX: usize = 262_144;
/// The most attempts that a `Fault` names.
pub const FAULT_TOKENS_MAX: usize = 1_024;
/// The version of the operations on values that these sources know; `JobSpec.operations_version` tells it.
pub const OPERATIONS_VERSION: u32 = 2;
/// The largest gRPC message either side sends or accepts, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The largest inline payload (one literal, one argument, one output), in bytes; larger ones are blobs.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
/// The most that the inline arguments of one job, or its inline outputs, may come to together, in bytes.
pub const JOB_BYTES_MAX: usize = 1024 * 1024;
/// The most that the inline literals in the specification of one job may come to together, in bytes.
pub const SPEC_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest value that an operation takes or gives, in bytes; larger ones are passed on whole, or stand in lists and
/// maps that no operation looks into.
pub const OPERAND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The largest blob, in bytes.
pub const BLOB_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// The most bytes of a blob in one message.
pub const BLOB_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// The bytes of a blob that a runtime puts into one message, and the broker too.
pub const BLOB_CHUNK_BYTES: usize = 64 * 1024;
/// The most blobs in one `FindMissingBlobs` call.
pub const BLOB_DIGESTS_MAX: usize = 10_000;
/// The most elements that one `for_each` is expanded for.
pub const FOR_EACH_ELEMENTS_MAX: usize = 100_000;
/// The most bytes that are shown of one value, in `GetJob`, `GetGraph` and `GetLineage`.
pub const VALUE_PREVIEW_BYTES_MAX: usize = 1024;
/// The most jobs in one `SubmitJobs` call; a larger submission goes in parts.
pub const SUBMIT_JOBS_MAX: usize = 8_192;
/// How long the text is by which a process tells its build from others, in bytes.
pub const BUILD_BYTES_MAX: usize = 64;
/// How many warnings answer one submission.
pub const WARNINGS_MAX: usize = 16;
/// How long a warning is, in bytes.
pub const WARNING_BYTES_MAX: usize = 1024;
/// The most bytes a runtime puts into one `SubmitJobs` call before it begins the next part.
pub const SUBMIT_BYTES_TARGET: usize = 2 * 1024 * 1024;
/// The most nodes in the value graph of one job.
pub const VALUE_NODES_MAX: usize = 1_000_000;
/// The most nested lists and maps in a value graph.
pub const VALUE_DEPTH_MAX: usize = 128;
/// The most bodies of operations in each other.
pub const BODY_DEPTH_MAX: usize = 8;
/// The most parameters of a task, and arguments of a job.
pub const PARAMETERS_MAX: usize = 256;
/// The most named outputs of a task.
pub const OUTPUTS_MAX: usize = 256;
/// The longest name of a mycelium, elf, task, parameter, output or flow, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest text of a progress, in bytes.
pub const PROGRESS_TEXT_BYTES_MAX: usize = 255;
/// The most attempts of which one message reports how far they are.
pub const REPORTS_PER_MESSAGE_MAX: usize = 4_096;
/// The largest checkpoint of a job, in bytes.
pub const CHECKPOINT_BYTES_MAX: usize = 64 * 1024;
/// The most checkpoints in one message.
pub const CHECKPOINTS_PER_MESSAGE_MAX: usize = 1_024;
/// The longest line of a log that is kept, in bytes.
pub const LOG_LINE_BYTES_MAX: usize = 8 * 1024;
/// The most bytes of lines in one [`LogBatch`](crate::v1::LogBatch).
pub const LOG_BATCH_BYTES_MAX: usize = 256 * 1024;
/// How long a `traceparent` is, in bytes.
pub const TRACE_PARENT_BYTES: usize = 55;
/// The longest `tracestate` that is taken, in bytes.
pub const TRACE_STATE_BYTES_MAX: usize = 512;
/// The most labels of a job or a flow.
pub const LABELS_MAX: usize = 16;
/// The most attempts of a job that a retry policy may allow.
pub const RETRY_ATTEMPTS_MAX: u32 = 1_000_000;
/// The shortest time that a retry policy may name, in microseconds.
pub const RETRY_MICROS_MIN: u64 = 1_000;
/// The longest time that a policy may name, in microseconds: 366 days.
pub const POLICY_MICROS_MAX: u64 = 366 * 24 * 60 * 60 * 1_000_000;
/// The largest factor by which the times between attempts may grow.
pub const RETRY_FACTOR_MAX: u32 = 1_000;
/// The most types of failures that a retry policy may name.
pub const RETRY_TYPES_MAX: usize = 64;
/// The longest key of a label, in bytes.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// The longest value of a label, in bytes.
pub const LABEL_VALUE_BYTES_MAX: usize = 255;
/// The most tasks of one elf.
pub const TASKS_PER_ELF_MAX: usize = 1_024;
/// The most elves that one session serves.
pub const ELVES_PER_SESSION_MAX: usize = 256;
/// The most that the declaration of one elf may come to, in bytes: all its tasks, documentation, sources and schemas.
pub const ELF_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The longest source or documentation text of an elf or a task, in bytes.
pub const SOURCE_BYTES_MAX: usize = 1024 * 1024;
/// The largest window: the most jobs that one instance may hold for one elf.
pub const WINDOW_MAX: u32 = 65_536;
/// The most entries a page of a list may have; a larger request is served as this.
pub const PAGE_SIZE_MAX: u32 = 1_000;
/// About the most bytes of a page of a list: it ends there, or at its page size.
pub const PAGE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The largest answer to a request that is not a stream and does not allow more, in bytes: what gRPC clients of other
/// languages take unless told otherwise.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The page size of a list whose request does not say.
pub const PAGE_SIZE_DEFAULT: u32 = 100;
/// The most job ids in one request that names jobs (`GetOutputs`, `CancelJobs`, `RetryJobs`, `WatchJobs`).
pub const JOB_IDS_MAX: usize = 10_000;
/// The longest failure message that is kept, in bytes; longer ones are cut at a character, and say so.
pub const FAILURE_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// The longest failure details that are kept, in bytes.
pub const FAILURE_DETAILS_BYTES_MAX: usize = 64 * 1024;
/// The most that one occurrence of a failure comes to, in bytes: message, details, frames and causes.
pub const FAILURE_BYTES_MAX: usize = 128 * 1024;
/// The most frames of a failure, and the most causes, that are kept.
pub const FAILURE_FRAMES_MAX: usize = 128;
