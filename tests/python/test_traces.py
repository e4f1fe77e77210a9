"""Traces, as a receiver gets them that is built on OpenTelemetry's own messages."""

import http.server
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time
import urllib.request
from collections import Counter

import pytest
from conftest import PROGRAM, World
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

ROOT = pathlib.Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"
# Ten times what any of it takes on a busy machine.
LIMIT_SECONDS = 60
ROOT_SPAN = b""


class Span:
    def __init__(self, service, region, span):
        self.service, self.region, self.name = service, region, span.name
        self.trace, self.id, self.parent = span.trace_id, span.span_id, span.parent_span_id
        self.start, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = attributes(span.attributes)
        self.events = [(event.name, attributes(event.attributes)) for event in span.events]
        self.failed = span.status.code == span.status.STATUS_CODE_ERROR

    def __repr__(self):
        return f"{self.service}({self.region}): {self.name} {self.id.hex()} below {self.parent.hex()} {self.attributes}"


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Receiver:
    """An OTLP/HTTP collector that keeps what it gets."""

    def __init__(self):
        self.spans, self.types, self.answers = [], set(), threading.Event()
        self.refuses = False
        self.answers.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.answers.wait()
                if self.path != "/v1/traces" or receiver.refuses:
                    return self.answer(400, b"")
                receiver.types.add(self.headers["content-type"])
                receiver.take(ExportTraceServiceRequest.FromString(body))
                self.answer(200, ExportTraceServiceResponse().SerializeToString())

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request):
        for group in request.resource_spans:
            resource = attributes(group.resource.attributes)
            for scope in group.scope_spans:
                assert scope.scope.name == "tradewind"
                where = resource["service.name"], resource.get("tradewind.region")
                self.spans += [Span(*where, span) for span in scope.spans]

    def trace(self, root, *names):
        """The newest trace that begins with `root`, once it has a span for each of the names."""
        wanted = Counter(names)
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            roots = [span for span in self.spans if span.name == root and span.parent == ROOT_SPAN]
            spans = [span for span in self.spans if roots and span.trace == roots[-1].trace]
            if wanted <= Counter(span.name for span in spans):
                return Trace(spans)
            assert time.monotonic() < deadline, f"no {names} below {root} in {self.spans}"
            time.sleep(0.05)

    def close(self):
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


class Trace:
    def __init__(self, spans):
        self.spans = spans
        self.by_id = {span.id: span for span in spans}
        assert len(self.by_id) == len(spans), f"a span came twice: {spans}"

    def all(self, name, service=None):
        return [span for span in self.spans if span.name == name and service in (None, span.service)]

    def only(self, name, service=None):
        found = self.all(name, service)
        assert len(found) == 1, (name, service, self.spans)
        return found[0]

    def parent(self, span):
        return self.by_id.get(span.parent)


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture(scope="module")
def own_world(tmp_path_factory, receiver):
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("TRADEWIND_LOG_FORMAT", "json")
        environment.setenv("TRADEWIND_LOG", "info,tradewind_api=debug")
        world = World(PROGRAM, tmp_path_factory.mktemp("traces"), "--otlp-endpoint", receiver.url)
    yield world
    world.stop()


@pytest.fixture(scope="module")
def deployed(own_world, receiver):
    # us-east1 has nothing of its own: what enters there goes to the other region.
    own_world.cli("deploy", "--otlp-endpoint", receiver.url, "--regions", "europe-west1", str(DIGITS / "v2"))
    return own_world


def test_a_deploy_is_one_trace_from_the_command_line_to_the_replica(deployed, receiver):
    names = ["admit", "deploy", "configure monitoring", "verify", "route", "install", "start", "load", "check"]
    trace = receiver.trace("tradewind deploy", *names)
    assert receiver.types == {"application/x-protobuf"}
    root = trace.only("tradewind deploy", "tradewind-cli")
    for name in ["admit", "deploy", "configure monitoring", "verify", "route"]:
        span = trace.only(name, "tradewind-control")
        assert span.parent == root.id, (name, trace.spans)
        assert span.attributes["tradewind.model"] == "digits" and not span.failed
    deploy, verify = trace.only("deploy"), trace.only("verify")
    assert deploy.attributes["tradewind.region"] == verify.attributes["tradewind.region"] == "europe-west1"
    for name, parent in [("install", deploy), ("start", deploy), ("check", verify)]:
        span = trace.only(name, "tradewind-agent")
        assert (span.parent, span.region) == (parent.id, "europe-west1"), trace.spans
        assert parent.start <= span.end
    load = trace.only("load", "tradewind-replica")
    assert load.parent == trace.only("start").id
    assert all(span.start <= span.end for span in trace.spans)


def test_the_log_says_which_request_of_which_trace_it_tells_of(deployed, receiver):
    trace = receiver.trace("tradewind deploy", "admit").only("admit").trace.hex()
    lines = [json.loads(line) for line in (deployed.directory / "world" / "logs" / "control.log").read_text().splitlines()]
    requests = [line for line in lines if line.get("span", {}).get("trace_id") == trace]
    posted = [line for line in requests if line["fields"].get("path") == "/v1/deployments/digits"]
    assert len(posted) == 1 and posted[0]["fields"]["status"] == 200, requests
    ids = [line["span"]["request_id"] for line in requests]
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids) and len(set(ids)) == len(ids)


def test_a_request_is_one_trace_across_regions(deployed, receiver):
    request = f"@{DIGITS / 'request.json'}"
    answer = json.loads(deployed.cli(
        "infer", "digits", "-d", request, "--from", "us-east1", "-o", "json", "--otlp-endpoint", receiver.url,
    ))
    assert answer["region"] == "europe-west1"
    trace = receiver.trace("tradewind infer", "request", "request", "inference")
    root, inference = trace.only("tradewind infer", "tradewind-cli"), trace.only("inference", "tradewind-replica")
    # From the replica up: the gateway of its region, the gateway where it entered, the command line.
    served = trace.parent(inference)
    entered = trace.parent(served)
    assert (served.service, served.region) == ("tradewind-gateway", "europe-west1")
    assert (entered.service, entered.region) == ("tradewind-gateway", "us-east1")
    assert trace.parent(entered) == root and len(trace.spans) == 4
    assert {"tradewind.queue_us", "tradewind.inference_us", "tradewind.encode_us"} <= inference.attributes.keys()
    for span in [served, entered]:
        said = span.attributes
        assert said["http.response.status_code"] == 200 and said["tradewind.model"] == "digits"
        assert (said["tradewind.region"], said["tradewind.slot"], said["tradewind.revision"]) == ("europe-west1", "blue", "1")
    assert [name for name, _ in entered.events] == ["attempt"] and entered.events[0][1]["tradewind.region"] == "europe-west1"


def ask(world, region, *headers):
    command = ["curl", "--silent", "--max-time", "60", "--output", os.devnull, "--write-out", "%{http_code}"]
    for header in headers:
        command += ["--header", header]
    url = f"http://{world.gateway(region)}/v2/models/digits/infer"
    done = subprocess.run([*command, "--data", f"@{DIGITS / 'request.json'}", url], capture_output=True, text=True)
    return done.stdout


def test_only_what_is_being_recorded_is_recorded(deployed, receiver):
    told = "0af7651916cd43dd8448eb211c80319c"
    assert ask(deployed, "europe-west1", f"traceparent: 00-{told}-b7ad6b7169203331-00") == "200"
    assert ask(deployed, "europe-west1") == "200"
    # It comes after the others, so they would have come.
    sampled = "1af7651916cd43dd8448eb211c80319c"
    assert ask(deployed, "europe-west1", f"traceparent: 00-{sampled}-b7ad6b7169203331-01") == "200"
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(found := [span for span in receiver.spans if span.trace.hex() == sampled]) < 2:
        assert time.monotonic() < deadline, receiver.spans
        time.sleep(0.05)
    outermost = next(span for span in found if span.name == "request")
    assert outermost.parent.hex() == "b7ad6b7169203331", "the caller's span is the parent"
    known = {"tradewind deploy", "tradewind infer"}
    others = {span.trace for span in receiver.spans if span.name not in known and span.parent == ROOT_SPAN}
    assert not others and not any(span.trace.hex() == told for span in receiver.spans)


def dropped(world, region):
    page = urllib.request.urlopen(f"http://{world.gateway(region)}/metrics", timeout=60).read().decode()
    return int(re.search(r"^tradewind_trace_spans_dropped_total (\d+)$", page, re.M).group(1))


def test_what_nobody_takes_is_counted(deployed, receiver):
    assert dropped(deployed, "europe-west1") == 0
    receiver.refuses = True
    try:
        assert ask(deployed, "europe-west1", "traceparent: 00-3af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") == "200"
        deadline = time.monotonic() + LIMIT_SECONDS
        while dropped(deployed, "europe-west1") != 1:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        receiver.refuses = False


def test_a_collector_that_hangs_or_is_away_disturbs_nobody(deployed, receiver):
    receiver.answers.clear()
    try:
        flags = ["traceparent: 00-2af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]
        began = time.monotonic()
        assert [ask(deployed, "us-east1", *flags) for _ in range(20)] == ["200"] * 20
        assert time.monotonic() - began < LIMIT_SECONDS / 2
        began = time.monotonic()
        deployed.cli("infer", "digits", "-d", f"@{DIGITS / 'request.json'}", "--otlp-endpoint", receiver.url)
        assert time.monotonic() - began < LIMIT_SECONDS / 2, "the command line waits for the collector"
    finally:
        receiver.answers.set()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        deployed.cli("infer", "digits", "-d", f"@{DIGITS / 'request.json'}", "--otlp-endpoint", away)


def test_an_address_that_is_none_is_refused(deployed):
    done = subprocess.run([deployed.program, "status", "--otlp-endpoint", "localhost:4318"], capture_output=True, text=True)
    assert done.returncode == 2 and "is not the address of a collector" in done.stderr
