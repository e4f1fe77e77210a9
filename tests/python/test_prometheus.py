"""A real Prometheus: what roles show, how it finds them, the rules that are exported, and a region that is killed."""

import json
import os
import signal
import socket
import subprocess
import urllib.parse
import urllib.request

import pytest
from conftest import LIMIT_SECONDS, PROGRAM, READY_LIMIT_SECONDS, ROOT, World, until

KILLED = "europe-west1"
TEXT = "text/plain;version=0.0.4"
OPEN_METRICS = "application/openmetrics-text;version=1.0.0"


def fetch(url, accept=TEXT):
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept}), timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def promtool(*arguments, stdin=None):
    return subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, text=True)


class Prometheus:
    """Scrapes a world as the world itself says, with the world's rules."""

    def __init__(self, world, directory):
        self.directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        token = world.cli("token", "issue", "--role", "monitoring", "--data-dir", str(world.directory / "world"))
        (directory / "tradewind.token").write_text(token.strip())
        (directory / "tradewind.rules.yml").write_text(
            world.cli("monitors", "export", "--prometheus-rules", "--for", "1s")
        )
        scrape = world.cli("monitors", "export", "--prometheus-scrape")
        scrape = scrape.replace("refresh_interval: 15s", "refresh_interval: 1s")
        settings = "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [tradewind.rules.yml]\n"
        (directory / "prometheus.yml").write_text(settings + scrape)
        checked = promtool("check", "config", directory / "prometheus.yml")
        assert checked.returncode == 0, checked
        self.log = open(directory / "prometheus.log", "w+")
        self.process = subprocess.Popen(
            [
                "prometheus", "--config.file", directory / "prometheus.yml", "--storage.tsdb.path", directory / "data",
                "--web.listen-address", self.address,
            ],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
        )

    def get(self, path, **query):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            return json.loads(fetch(url)[1])["data"]
        except OSError:
            assert self.process.poll() is None, (self.directory / "prometheus.log").read_text()
            return None

    def query(self, query):
        answer = self.get("query", query=query)
        return answer["result"] if answer else []

    def firing(self, name):
        """The labels of the alerts of that name that fire."""
        alerts = (self.get("alerts") or {"alerts": []})["alerts"]
        return [a["labels"] for a in alerts if a["labels"]["alertname"] == name and a["state"] == "firing"]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)
        self.log.close()


@pytest.fixture(scope="module")
def mortal(tmp_path_factory):
    """A world of which the dead stay dead, with a model that is asked now and then."""
    world = World(PROGRAM, tmp_path_factory.mktemp("mortal"), "--restart", "never")
    try:
        world.cli("deploy", "--regions", "us-east1,europe-west1", str(ROOT / "examples" / "digits" / "v2"))
        world.cli("infer", "digits", "-d", f"@{ROOT / 'examples' / 'digits' / 'request.json'}")
        yield world
    finally:
        world.stop()


@pytest.fixture(scope="module")
def prometheus(mortal, tmp_path_factory):
    prometheus = Prometheus(mortal, tmp_path_factory.mktemp("prometheus"))
    try:
        until(lambda: prometheus.query("up"), READY_LIMIT_SECONDS)
        yield prometheus
    finally:
        prometheus.stop()


@pytest.mark.parametrize("role", ["control", "agent", "gateway", "replica"])
def test_what_a_role_shows_is_as_prometheus_wants_it(mortal, role):
    process = next(p for p in mortal.processes() if p["role"] == role)
    kind, text = fetch(f"http://{process['address']}/metrics")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    checked = promtool("check", "metrics", stdin=text)
    assert (checked.returncode, checked.stderr) == (0, ""), f"{checked.stderr}\n{text}"
    series = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(series) == len(set(series)), "a series stands there twice"
    for name in ["tradewind_build_info", "process_resident_memory_bytes", "process_cpu_seconds_total"]:
        assert any(line.startswith(name) for line in series), f"{role} has no {name}"
    kind, text = fetch(f"http://{process['address']}/metrics", OPEN_METRICS)
    assert kind.startswith("application/openmetrics-text") and text.endswith("# EOF\n")


def test_every_role_is_found_and_scraped(mortal, prometheus):
    def all_up():
        """every role is up"""
        up = prometheus.query("up == 1")
        return up if len(up) == len(mortal.processes()) else None

    roles = sorted((r["metric"]["tradewind_role"], r["metric"].get("tradewind_region")) for r in until(all_up))
    assert roles == sorted((p["role"], p["region"]) for p in mortal.processes())
    assert not prometheus.query("scrape_samples_scraped == 0")
    # Addresses change; what is counted has one name for them all.
    assert len(prometheus.query("tradewind_build_info")) == len(roles)


def test_rules_pass_the_check_and_are_evaluated(mortal, prometheus):
    checked = promtool("check", "rules", prometheus.directory / "tradewind.rules.yml")
    assert checked.returncode == 0 and "duplicate" not in checked.stdout + checked.stderr, checked
    full = prometheus.directory / "full.rules.yml"
    full.write_text(mortal.cli("monitors", "export", "--prometheus-rules"))
    assert promtool("check", "rules", full).returncode == 0

    def evaluated():
        """every rule has been evaluated"""
        groups = (prometheus.get("rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

    assert len(until(evaluated)) >= 10
    assert all("runbook_url" in rule["annotations"] for rule in until(evaluated) if rule["type"] == "alerting")


@pytest.mark.parametrize(
    "errors, minutes, expected",
    [
        # Of 10,000 requests a minute; the objective allows 10.
        pytest.param("0+5x400", 400, [], id="as many as may be"),
        pytest.param("0+20x400", 400, ["warning"], id="too many for days"),
        pytest.param("0+70x400", 400, ["critical", "warning"], id="too many for hours"),
        pytest.param("0+200x20", 20, ["critical", "warning"], id="far too many"),
        pytest.param("0+200x60 12000+0x40", 100, ["warning"], id="far too many until 40 minutes ago"),
    ],
)
def test_errors_burn_the_budget(mortal, tmp_path, errors, minutes, expected):
    rules = tmp_path / "rules.yml"
    rules.write_text(mortal.cli("monitors", "export", "--prometheus-rules"))
    requests = 'tradewind_gateway_requests_total{model="digits",region="us-east1",slot="blue",outcome="%s"}'
    series = {requests % "ok": "0+10000x400", requests % "server_error": errors, "tradewind_control_reconciling": "1x400"}
    labels = 'alertname="ErrorBudgetBurn", model="digits", region="us-east1"'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname, model, region, severity) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": f'{{{labels}, severity="{each}"}}', "value": 1} for each in expected],
            }
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [test]}))
    tested = promtool("test", "rules", tmp_path / "test.yml")
    assert tested.returncode == 0, tested


def test_every_query_of_the_dashboard_is_understood(mortal, prometheus):
    dashboard = json.loads(mortal.cli("monitors", "export", "--grafana"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(queries) > 30
    for query in queries:
        query = query.replace("$__rate_interval", "1m").replace("$model", ".*").replace("$region", ".*")
        assert prometheus.get("query", query=query) is not None, query


def test_a_killed_region_fires_and_resolves(mortal, prometheus):
    assert prometheus.firing("RegionDown") == []
    killed = [p for p in mortal.processes() if p["region"] == KILLED]
    for process in killed:
        os.kill(process["pid"], signal.SIGKILL)

    def fires():
        """the alert of the killed region fires"""
        return prometheus.firing("RegionDown")

    assert [labels["region"] for labels in until(fires)] == [KILLED]
    revived = [mortal.start(p["role"], KILLED, p["address"]) for p in killed if p["role"] != "replica"]
    try:
        until(lambda: not fires())
    finally:
        for process in revived:
            process.terminate()
            process.wait(timeout=LIMIT_SECONDS)
