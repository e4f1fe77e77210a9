"""`tradewind top` in a real terminal: tmux presses the keys and reads the screen."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request

import pytest
from conftest import PROGRAM, World

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Ten times what any of it takes on a busy machine.
LIMIT_SECONDS = 60


class Terminal:
    """A shell in a window of tmux, with nothing of the person's own."""

    def __init__(self, environment, width=100, height=30):
        # Not below pytest's directories: the name of a socket has to be short.
        self.directory = tempfile.mkdtemp(prefix="top")
        self.prefix = ["tmux", "-u", "-S", f"{self.directory}/socket", "-f", "/dev/null"]
        self.tmux("new-session", "-d", "-x", str(width), "-y", str(height), "sh", "-i", environment=environment)

    def tmux(self, *arguments, environment=None):
        done = subprocess.run(
            [*self.prefix, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, f"tmux {arguments}: {done.stderr}"
        return done.stdout

    def write(self, text):
        self.tmux("send-keys", "-l", text)

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def run(self, line):
        self.write(line)
        self.press("Enter")

    def resize(self, width, height):
        self.tmux("resize-window", "-x", str(width), "-y", str(height))

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def ask(self, variable):
        return self.tmux("display-message", "-p", f"#{{{variable}}}").strip()

    def wait(self, *patterns, without=()):
        """Waits until the screen has all of the patterns, and none of the others."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while True:
            screen = self.screen()
            found = all(re.search(pattern, screen) for pattern in patterns)
            if found and not any(re.search(pattern, screen) for pattern in without):
                return screen
            assert time.monotonic() < deadline, f"no {patterns} without {without} in\n{screen}"
            time.sleep(0.1)

    def program(self):
        """The process id of what the shell runs."""
        shell = self.ask("pane_pid")
        return int(pathlib.Path(f"/proc/{shell}/task/{shell}/children").read_text().split()[0])

    def wait_for_the_shell(self):
        """The terminal is as it was before: its lines, its modes, its cursor."""
        self.run("echo again $((40 + 2)); stty -a")
        self.wait(r"before", r"again 42", r"[^-]icanon", r"[^-]echo\b", without=[r"REGION .*STATE"])
        assert self.ask("alternate_on") == "0" and self.ask("cursor_flag") == "1"

    def close(self):
        self.tmux("kill-server")
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def own_world(tmp_path_factory):
    """A world whose processes stay dead."""
    world = World(PROGRAM, tmp_path_factory.mktemp("top"), "--restart", "never")
    try:
        world.cli("deploy", "--regions", "us-east1,europe-west1", str(ROOT / "examples" / "digits" / "v2"))
        yield world
    finally:
        world.stop()


@pytest.fixture
def terminal(own_world):
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(own_world.directory),
        "TERM": "xterm-256color",
        "PS1": "$ ",
        "TRADEWIND_URL": own_world.world["control_url"],
        "TRADEWIND_TOKEN": pathlib.Path(own_world.world["token_file"]).read_text(),
    }
    terminal = Terminal(environment)
    try:
        terminal.wait(r"\$")
        # What is typed reads otherwise.
        terminal.run("echo be''fore")
        terminal.wait(r"before")
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def users(own_world):
    """Somebody asks all the time."""
    url = f"http://{own_world.gateway('us-east1')}/v2/models/digits/infer"
    body = (ROOT / "examples" / "digits" / "request.json").read_bytes()
    done = threading.Event()

    def ask():
        while not done.wait(0.01):
            urllib.request.urlopen(urllib.request.Request(url, data=body), timeout=60).read()

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    done.set()
    asking.join()


def start(terminal, own_world, *arguments):
    terminal.run(shlex.join([own_world.program, "top", *arguments]))
    terminal.wait(r"REGION +STATE", r"us-east1 +healthy", r"digits +1 +1 +blue", r"q quit")


def test_keys_open_what_they_say(terminal, own_world, users):
    start(terminal, own_world)
    # Load shows, in the headline and in the row of the region that has it.
    terminal.wait(r"tradewind  127\.0\.0\.1:\d+  2 regions  1 model  [1-9]\d*/s  no errors", r"us-east1 .* [1-9]\d*/s")
    terminal.wait(r"> asia|> europe-west1|> us-east1")
    terminal.press("Tab")
    terminal.wait(r"> digits")
    terminal.press("Enter")
    terminal.wait(r"digits 1, revision 1, epoch 1, blue live", r"requests +▁*[▁▂▃▄▅▆▇█]+ +\d", r"rollout 1 of revision 1")
    terminal.wait(r"verify +us-east1 +success", r"p99 .* ms, at most .* ms in \d min")
    terminal.press("j", "Enter")
    terminal.wait(r"europe-west1  healthy", r"MEMBER +ADDRESS", r"gateway +127\.0\.0\.1", r"REPLICA +MODEL", r"ROUND TRIP TO")
    terminal.press("BSpace")
    terminal.wait(r"digits 1, revision 1")
    terminal.press("Escape")
    terminal.wait(r"REGION +STATE")
    terminal.press("Tab", "Enter")
    terminal.wait(r"> 20\d\d-.*", r"monitoring_armed", without=[r"REGION +STATE"])
    terminal.press("Escape")
    # A key that comes right behind it would be taken for one with Alt.
    terminal.wait(r"REGION +STATE")
    terminal.press("BTab", "BTab", "Home", "s")
    terminal.wait(r"REQUESTS▼", r"\n  us-east1 .*\n> europe-west1")
    terminal.write("/us-")
    terminal.wait(r"/us-_", r"us-east1 +healthy", without=[r"europe-west1 +healthy"])
    terminal.press("Escape")
    terminal.wait(r"europe-west1 +healthy")
    terminal.write("?")
    terminal.wait(r"Ctrl-Z +back to the shell")
    terminal.write("q")
    terminal.wait_for_the_shell()


def test_it_is_at_home_in_any_window(terminal, own_world):
    start(terminal, own_world)
    terminal.resize(60, 9)
    terminal.wait(r"no room for P50", r"us-east1 +healthy")
    terminal.resize(30, 5)
    terminal.wait(r"30x5 is too small")
    terminal.resize(130, 40)
    terminal.wait(r"P50 +P99", r"filter", without=[r"no room", r"too small"])
    terminal.press("C-z")
    terminal.wait_for_the_shell()
    terminal.run("fg")
    terminal.wait(r"REGION +STATE", r"us-east1 +healthy")
    assert terminal.ask("alternate_on") == "1"
    os.kill(terminal.program(), signal.SIGTERM)
    terminal.wait_for_the_shell()
    start(terminal, own_world)
    terminal.press("C-c")
    terminal.wait_for_the_shell()


def test_without_colours_it_says_the_same(terminal, own_world):
    terminal.run("export NO_COLOR=1")
    start(terminal, own_world)
    # Those for `as always` are none.
    colours = re.findall(r"\x1b\[(?:[\d;]*;)?[34][0-7]m", terminal.tmux("capture-pane", "-p", "-e"))
    assert colours == []
    terminal.press("q")
    terminal.wait_for_the_shell()


def test_a_control_plane_that_is_away(terminal, own_world):
    control = next(p["pid"] for p in own_world.world["processes"] if p["role"] == "control")
    start(terminal, own_world)
    os.kill(control, signal.SIGSTOP)
    try:
        # The last state stays.
        terminal.wait(r"control does not answer for \d+ s; this is as of 20\d\d-.*: ", r"us-east1 +healthy")
        terminal.press("Tab", "Enter")
        terminal.wait(r"digits 1, revision 1", r"control does not answer")
    finally:
        os.kill(control, signal.SIGCONT)
    terminal.wait(r"rollout 1 of revision 1", without=[r"control does not answer"])
    terminal.write("p")
    terminal.wait(r"paused \d+ s ago; p goes on")
    terminal.write("p")
    terminal.wait(r"digits", without=[r"paused"])
    terminal.press("q")
    terminal.wait_for_the_shell()


def test_not_on_a_terminal_it_says_what_to_do(own_world):
    done = subprocess.run([own_world.program, "top"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert "there is none here" in done.stderr and "hint: `tradewind status --watch`" in done.stderr


# The last one: what it ends stays dead.
def test_a_region_that_dies_is_seen_to_die(terminal, own_world):
    start(terminal, own_world)
    # With the replicas, which were not there when the world began.
    ends = [p for p in own_world.processes() if p["region"] == "europe-west1" and p["role"] in ("agent", "replica")]
    for process in sorted(ends, key=lambda process: process["role"]):
        os.kill(process["pid"], signal.SIGKILL)
    terminal.wait(r"2 regions, 1 unhealthy", r"europe-west1 +unhealthy .* us-east1 +no agent for \d+ s")
    terminal.wait(r"region_unhealthy", r"[1-9] alerts?\n", r"RegionDown +europe-west1")
    terminal.write("a")
    terminal.wait(r"> .*europe-west1", r"tradewind alerts runbook \w+", without=[r"REGION +STATE"])
    terminal.press("q")
    terminal.wait_for_the_shell()
