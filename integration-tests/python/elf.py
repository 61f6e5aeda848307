"""An elf in Python, written from the comments of the contract alone: no library but grpcio, and stubs made of the protos.
`elf.py HOST:PORT` serves the elf `python` until SIGTERM, finishes what runs, and prints how streams begin and end."""
import hashlib, heapq, itertools, json, os, queue, signal, sys, threading, time, traceback, uuid
from concurrent.futures import CancelledError, ThreadPoolExecutor
from types import SimpleNamespace as Attempt
import grpc
from google.protobuf.duration_pb2 import Duration
from mycelium.v1 import blob_service_pb2 as blobs, blob_service_pb2_grpc as blob_service, elf_pb2, elf_service_pb2 as pb
from mycelium.v1 import elf_service_pb2_grpc as elf_service, failure_pb2, value_pb2

FATAL = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION}
FATAL_AT_FIRST = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED}
def fail(_, message):
    raise ValueError(message)
def hold(attempt, path):
    while not os.path.exists(path):
        if attempt.cancelled.wait(0.02):
            raise CancelledError
    return attempt.token.attempt

TASKS = {"task_double": (lambda _, x: 2 * x, "x", "integer"), "task_echo": (lambda _, text: text, "text", "string"),
         "task_fail": (fail, "message", "string"), "task_hold": (hold, "path", "string")}
DECLARATION = elf_pb2.ElfDeclaration(name="python", source=open(__file__).read(), tasks=[elf_pb2.TaskDeclaration(
    name=name, parameters=[elf_pb2.ParameterDeclaration(name=parameter, schema=json.dumps({"type": kind}))],
    outputs=[elf_pb2.OutputDeclaration(name="value")]) for name, (_, parameter, kind) in TASKS.items()])
def key(token):
    return token.job_id, token.attempt
def since(moment):
    duration = Duration()
    duration.FromNanoseconds(int(1e9 * (time.monotonic() - moment)))
    return duration

class Elf:
    def __init__(self, address):
        self.address, self.instance, self.session, self.secret = address, uuid.uuid4().bytes, 0, b""
        self.lock, self.held, self.is_leaving = threading.RLock(), {}, threading.Event()
        self.waiting, self.order = [], itertools.count()
        self.pool, self.blobs = ThreadPoolExecutor(4), blob_service.BlobServiceStub(grpc.insecure_channel(address))

    def run(self):
        signal.signal(signal.SIGTERM, lambda *_: self.is_leaving.set())
        pause, is_over = 0.05, False
        while not is_over:
            begun = time.monotonic()
            try:
                is_over = self.serve_stream()
            except grpc.RpcError as error:
                print("ended", error.code().name, error.details(), flush=True)
                if error.code() in FATAL or (error.code() in FATAL_AT_FIRST and not self.session):
                    sys.exit(1)
            pause = 0.05 if time.monotonic() - begun > 5 else min(2 * pause, 5)
            time.sleep(0 if is_over else pause)

    def serve_stream(self):
        # A channel of its own: a connection that leads nowhere is left with it.
        with grpc.insecure_channel(self.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            self.outbox, self.sequence, self.received, self.is_welcome = queue.SimpleQueue(), 0, 0, False
            self.heard, self.interval, self.silence, is_over = time.monotonic(), 0.5, 20, threading.Event()
            with self.lock:
                self.say(hello=pb.Hello(
                    protocol_min=1, protocol_max=2, instance_id=self.instance, elves=[DECLARATION],
                    windows=[pb.SetWindow(elf="python", window=8, concurrency=4)],
                    resume_session=self.session, session_secret=self.secret, tells_starts=True, knows_recall=True,
                    held=[attempt.token for attempt in self.held.values()]))
            call = elf_service.ElfServiceStub(channel).Connect(iter(self.outbox.get, None))
            threading.Thread(target=self.beat, args=(call, is_over), daemon=True).start()
            try:
                for message in call:
                    with self.lock:
                        self.heard, self.received = time.monotonic(), message.sequence
                        self.hear(message.WhichOneof("kind"), message)
                return self.is_leaving.is_set() and not self.held
            finally:
                is_over.set()
                self.outbox.put(None)

    def say(self, **kind):
        self.sequence += 1
        self.outbox.put(pb.ConnectRequest(sequence=self.sequence, received=self.received, **kind))

    def starts(self, attempts):
        running = (attempt for attempt in attempts if attempt.started and not attempt.outcome)
        return [pb.Start(token=attempt.token, ago=since(attempt.started)) for attempt in running]

    def tell_start(self, attempt):
        with self.lock:
            if self.is_welcome and self.takes_bare_messages and key(attempt.token) in self.held:
                self.say(starts=self.starts([attempt]))

    def beat(self, call, is_over):
        has_drained = False
        while not is_over.wait(self.interval):
            with self.lock:
                if time.monotonic() - self.heard > self.silence:
                    return call.cancel()
                if self.is_welcome and self.is_leaving.is_set():
                    self.say(goodbye=pb.Goodbye()) if has_drained and not self.held else self.say(draining=pb.Draining())
                    has_drained = True
                elif self.is_welcome:
                    held = self.held.values()
                    self.say(heartbeat=pb.Heartbeat(held=[attempt.token for attempt in held]), starts=self.starts(held))

    def hear(self, kind, message):
        if kind == "welcome":
            self.welcome(message.welcome)
        for assignment in message.assign.assignments:
            if key(assignment.token) not in self.held:
                attempt = Attempt(job=assignment, token=assignment.token, cancelled=threading.Event(), started=None, outcome=None)
                self.held[key(assignment.token)] = attempt
                heapq.heappush(self.waiting, (-assignment.priority, next(self.order), attempt))
                self.pool.submit(self.work)
        for token in message.recall.tokens:
            if (attempt := self.held.get(key(token))) and not attempt.started and not attempt.outcome:
                self.report(attempt, released=pb.AttemptReleased())
        for ack in message.outcome_acks.acks:
            self.held.pop(key(ack.token), None)
        for token in [*message.cancel.tokens, *message.heartbeat_ack.unknown]:
            if attempt := self.held.get(key(token)) if kind == "cancel" else self.held.pop(key(token), None):
                attempt.cancelled.set()

    def welcome(self, welcome):
        keep = {key(token) for token in welcome.keep} if welcome.resumed else set()
        for dropped in self.held.keys() - keep:
            self.held.pop(dropped).cancelled.set()
        if not welcome.resumed:
            self.session, self.secret = welcome.session, welcome.session_secret
        self.interval = welcome.heartbeat_interval.ToMilliseconds() / 1000
        self.silence = max(welcome.lease.ToMilliseconds() / 2000, 2 * self.interval)
        self.payload_max, self.is_welcome = welcome.payload_bytes_max, True
        self.takes_bare_messages = welcome.takes_bare_messages
        print("welcome", "resumed" if welcome.resumed else "new", welcome.protocol, flush=True)
        if again := [attempt.outcome for attempt in self.held.values() if attempt.outcome]:
            self.say(outcomes=pb.Outcomes(outcomes=again))

    def work(self):
        with self.lock:
            attempt = heapq.heappop(self.waiting)[-1]
            if attempt.outcome or key(attempt.token) not in self.held:
                return
            if self.is_leaving.is_set():
                return self.report(attempt, released=pb.AttemptReleased())
            attempt.started = time.monotonic()
        # Of what is over sooner its outcome tells.
        threading.Timer(0.05, self.tell_start, [attempt]).start()
        try:
            given = {argument.parameter: self.read(argument.payload) for argument in attempt.job.arguments}
            value = self.write(TASKS[attempt.job.task][0](attempt, **given))
            self.report(attempt, outputs=pb.Outputs(outputs=[value_pb2.NamedOutput(name="value", payload=value)]))
        except CancelledError:
            self.report(attempt, cancelled=pb.AttemptCancelled())
        except Exception as error:
            stack = reversed(traceback.extract_tb(error.__traceback__))
            frames = [failure_pb2.Frame(function=at.name, file=at.filename, line=at.lineno) for at in stack]
            self.report(attempt, failure=failure_pb2.Failure(type=type(error).__name__, message=str(error), frames=frames))

    def report(self, attempt, **result):
        with self.lock:
            ran = since(attempt.started) if attempt.started else None
            attempt.outcome = pb.Outcome(token=attempt.token, ran=ran, **result)
            if self.is_welcome and key(attempt.token) in self.held:
                self.say(outcomes=pb.Outcomes(outcomes=[attempt.outcome]))

    def read(self, payload):
        if payload.WhichOneof("content") == "inline":
            return json.loads(payload.inline)
        pieces = self.blobs.ReadBlob(blobs.ReadBlobRequest(digest=payload.blob.digest))
        return json.loads(b"".join(piece.chunk for piece in pieces))

    def write(self, value):
        data = json.dumps(value, allow_nan=False).encode()
        if len(data) <= self.payload_max:
            return value_pb2.Payload(inline=data)
        blob = value_pb2.BlobRef(digest=hashlib.sha256(data).digest(), size=len(data))
        messages = [blobs.WriteBlobRequest(header=blobs.WriteBlobHeader(blob=blob))]
        messages += (blobs.WriteBlobRequest(chunk=data[at:at + 65536]) for at in range(0, len(data), 65536))
        self.blobs.WriteBlob(iter(messages))
        return value_pb2.Payload(blob=blob)

Elf(sys.argv[1]).run()
