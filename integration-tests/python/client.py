"""A client in Python, written from the comments of the contract alone: no library but grpcio, and stubs made of the protos.
`client.py HOST:PORT all` runs through values, a blob, a failure and a cancellation; `client.py HOST:PORT hold PATH` submits a
job that ends when there is such a file, prints its id, and waits for it however often the broker goes away meanwhile."""
import hashlib, json, sys, time, uuid

import grpc
from mycelium.v1 import blob_service_pb2 as blobs, blob_service_pb2_grpc, job_pb2, mycelium_service_pb2 as pb
from mycelium.v1 import mycelium_service_pb2_grpc, value_pb2

CHANNEL = grpc.insecure_channel(sys.argv[1])
BROKER = mycelium_service_pb2_grpc.MyceliumServiceStub(CHANNEL)
BLOBS = blob_service_pb2_grpc.BlobServiceStub(CHANNEL)


def literal(value):
    data = json.dumps(value, allow_nan=False).encode()
    if len(data) <= 64 * 1024:
        return value_pb2.ValueNode(literal=value_pb2.Payload(inline=data))
    blob = value_pb2.BlobRef(digest=hashlib.sha256(data).digest(), size=len(data))
    messages = [blobs.WriteBlobRequest(header=blobs.WriteBlobHeader(blob=blob))]
    messages += (blobs.WriteBlobRequest(chunk=data[at:at + 65536]) for at in range(0, len(data), 65536))
    BLOBS.WriteBlob(iter(messages))
    return value_pb2.ValueNode(literal=value_pb2.Payload(blob=blob))


def output(job):
    return value_pb2.ValueNode(output=value_pb2.OutputRef(job_id=job.job_id))


def operation(name, *inputs):
    return value_pb2.ValueNode(operation=value_pb2.Operation(name=name, inputs=inputs))


def job(task, parameter, *nodes):
    """The last node is the argument."""
    has_operations = any(node.WhichOneof("kind") == "operation" for node in nodes)
    argument = job_pb2.Argument(parameter=parameter, node=len(nodes) - 1)
    return job_pb2.JobSpec(job_id=uuid.uuid4().bytes, elf="python", task=task, arguments=[argument], nodes=nodes,
                           operations_version=1 if has_operations else 0)


def submit(*jobs):
    flow = uuid.uuid4().bytes
    answer = BROKER.SubmitJobs(pb.SubmitJobsRequest(flow_id=flow, flow_name="from python", seal=True, jobs=jobs))
    assert answer.jobs_created == len(jobs), answer
    return flow


def ended(flow):
    """How the jobs of a flow end: their last changes, by job."""
    request = pb.WatchJobsRequest(flow_id=flow, final_only=True, until_final=True)
    while True:
        try:
            return {change.job_id: change for message in BROKER.WatchJobs(request) for change in message.changes}
        except grpc.RpcError as error:
            # The broker stops, is not there, or is there again: the same call may be repeated.
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            time.sleep(0.1)


def value(job):
    jobs = BROKER.GetOutputs(pb.GetOutputsRequest(job_ids=[job.job_id])).jobs
    payload = jobs[0].outputs[0].payload
    if payload.WhichOneof("content") == "inline":
        return json.loads(payload.inline)
    request = blobs.ReadBlobRequest(digest=payload.blob.digest)
    return json.loads(b"".join(piece.chunk for piece in BLOBS.ReadBlob(request)))


def values():
    double = job("task_double", "x", literal(21))
    big = job("task_double", "x", literal(2**62))
    more = job("task_double", "x", output(double), literal(100), operation("add", 0, 1))
    flow = submit(double, big, more)
    assert {change.status for change in ended(flow).values()} == {job_pb2.JOB_STATUS_DONE}
    assert (value(double), value(big), value(more)) == (42, 2**63, 284)


def a_blob():
    text = "äöü" * 100_000
    there = job("task_echo", "text", literal(text))
    back = job("task_echo", "text", output(there))
    ended(submit(there, back))
    assert value(back) == text


def a_failure():
    fails = job("task_fail", "message", literal("no bees"))
    after = job("task_double", "x", output(fails))
    changes = ended(submit(fails, after))
    assert changes[fails.job_id].status == job_pb2.JOB_STATUS_FAILED
    assert changes[after.job_id].status == job_pb2.JOB_STATUS_UPSTREAM_FAILED
    assert changes[after.job_id].cause_job_id == fails.job_id
    failure = BROKER.GetFailure(pb.GetFailureRequest(failure_id=changes[fails.job_id].failure_id)).failure.failure
    assert (failure.type, failure.message) == ("ValueError", "no bees"), failure
    assert failure.frames[0].file.endswith("elf.py") and failure.frames[0].function == "fail", failure
    misfit = job("task_double", "x", literal("twenty"))
    try:
        submit(misfit)
        raise AssertionError("a text where an integer belongs was taken")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error


def a_cancellation():
    holds = job("task_hold", "path", literal("/nowhere/at/all"))
    flow = submit(holds)
    while BROKER.GetJob(pb.GetJobRequest(job_id=holds.job_id)).job.status != job_pb2.JOB_STATUS_RUNNING:
        time.sleep(0.02)
    answer = BROKER.CancelJobs(pb.CancelJobsRequest(jobs=pb.JobIds(job_ids=[holds.job_id])))
    assert answer.jobs_cancelled == 1, answer
    assert ended(flow)[holds.job_id].status == job_pb2.JOB_STATUS_CANCELLED
    # The elf has let go of it: its window of 8 has room for 8 others, which all run.
    others = [job("task_double", "x", literal(number)) for number in range(8)]
    ended(submit(*others))
    assert [value(other) for other in others] == [0, 2, 4, 6, 8, 10, 12, 14]


if sys.argv[2] == "all":
    for check in [values, a_blob, a_failure, a_cancellation]:
        check()
        print("held:", check.__name__, flush=True)
else:
    held = job("task_hold", "path", literal(sys.argv[3]))
    held_flow = submit(held)
    print("submitted", held.job_id.hex(), flush=True)
    assert ended(held_flow)[held.job_id].status == job_pb2.JOB_STATUS_DONE
    print("attempt", value(held), flush=True)
