"""A real Alertmanager: what it knows of an alert, for how long, and what it tells others."""

import datetime
import json
import os
import signal
import socket
import subprocess
import urllib.request

import pytest
from conftest import PROGRAM, ROOT, World, until

STOPPED = "europe-west1"
# Alertmanager is told again after 60 s, and told of that within 5 s; ten times as much.
REFRESH_LIMIT_SECONDS = 650
SETTINGS = """
global: {{resolve_timeout: 5s}}
route: {{receiver: test, group_by: [...], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers:
  - name: test
    webhook_configs: [{{url: "{url}", send_resolved: true}}]
"""


class Alertmanager:
    def __init__(self, directory, webhook):
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        settings = directory / "alertmanager.yml"
        settings.write_text(SETTINGS.format(url=webhook))
        self.log = open(directory / "alertmanager.log", "w+")
        self.process = subprocess.Popen(
            [
                "prometheus-alertmanager", "--config.file", settings, "--storage.path", directory / "data",
                "--web.listen-address", self.address, "--cluster.listen-address=",
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )

    def ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}{path}", body and json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    def ready(self):
        """Alertmanager is ready"""
        try:
            return self.ask("/-/ready")
        except OSError:
            assert self.process.poll() is None, (self.directory / "alertmanager.log").read_text()
            return None

    def alerts(self, **labels):
        """Those that fire there and have these labels."""
        alerts = json.loads(self.ask("/api/v2/alerts"))
        return [alert for alert in alerts if labels.items() <= alert["labels"].items()]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture
def alertmanager(hook, tmp_path):
    alertmanager = Alertmanager(tmp_path, hook.url)
    try:
        until(alertmanager.ready)
        yield alertmanager
    finally:
        alertmanager.stop()


@pytest.fixture
def own_world(tmp_path_factory):
    """A world whose region may be lost."""
    world = World(PROGRAM, tmp_path_factory.mktemp("alertmanager"))
    try:
        world.cli("deploy", "--regions", "us-east1,europe-west1", str(ROOT / "examples" / "digits" / "v2"))
        yield world
    finally:
        world.stop()


def ends(alert):
    """When Alertmanager ends it by itself; of one that is over, when it ended."""
    return datetime.datetime.fromisoformat(alert["endsAt"])


def notified(hook, labels):
    """The alert, as it stood in each notification."""
    alerts = [alert for _, body in hook.taken for alert in json.loads(body)["alerts"]]
    return [alert for alert in alerts if alert["labels"] == labels]


def test_an_alert_lasts_there_as_long_as_here(own_world, alertmanager, hook):
    own_world.cli("alerts", "receivers", "add", "am", f"http://{alertmanager.address}", "--format", "alertmanager")
    own_world.cli("alerts", "receivers", "test", "am")
    assert alertmanager.alerts() == []
    labels = {"alertname": "RegionDown", "region": STOPPED, "severity": "critical", "source": "tradewind"}
    agent = next(p for p in own_world.processes() if (p["role"], p["region"]) == ("agent", STOPPED))

    def fires():
        """the alert of the stopped region fires there"""
        return alertmanager.alerts(**labels)

    os.kill(agent["pid"], signal.SIGSTOP)
    try:
        [told] = until(fires)
        alerts = json.loads(own_world.cli("alerts", "-o", "json"))["alerts"]
        here = next(alert for alert in alerts if alert["kind"] == "RegionDown")
        assert told["labels"] == labels
        assert told["annotations"] == {
            "summary": here["summary"], "description": here["detail"], "runbook_url": here["runbook"]
        }
        assert (ROOT / here["runbook"]).exists()
        assert told["startsAt"][:19] == here["fired_at"][:19], "the same second"
        until(lambda: notified(hook, labels))

        # One that is told once and without an end is over after the 5 s of the settings.
        forgotten = {"alertname": "Forgotten"}
        alertmanager.ask("/api/v2/alerts", [{"labels": forgotten}])
        until(lambda: [alert["status"] for alert in notified(hook, forgotten)] == ["firing", "resolved"])

        # To be silent about it is not to say that it is over.
        own_world.cli("alerts", "silence", "--region", STOPPED, "--for", "1h")

        def told_again():
            """Alertmanager is told again of an alert that still fires"""
            [now] = fires()
            return ends(now) > ends(told)

        until(told_again, REFRESH_LIMIT_SECONDS)
    finally:
        os.kill(agent["pid"], signal.SIGCONT)

    until(lambda: not fires())
    until(lambda: len(notified(hook, labels)) > 1)
    firing, resolved = notified(hook, labels)
    assert (firing["status"], resolved["status"]) == ("firing", "resolved")
    assert ends(resolved) < ends(told), "it ended by our word, not for lack of it"
