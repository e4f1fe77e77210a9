"""Does one step after the other, so that Python and its packages are loaded once.

`python -m tradewind.pipeline.worker` reads orders, a line of JSON each, from standard input, and writes a line with the
reply to standard output, until the input ends. Both are taken away from the user's code before any of it runs: it reads
nothing, and what it writes goes to standard error, the step's log. Processes that it forks or starts have neither.
"""

import faulthandler
import importlib
import json
import os
import signal
import sys
import threading
import traceback

from .contract import HOPELESS_EXIT, Hopeless, Step, is_step, run

ORDER_BYTES_LIMIT = 1 << 20
ERROR_CHARACTERS_LIMIT = 2000
# How long threads that the user's code has left may go on when all is done.
ENDING_SECONDS = 5
OWN = os.path.dirname(os.path.abspath(__file__))
IMPORTING = (os.path.dirname(importlib.__file__), "<frozen importlib")


class Channel:
    """Where orders come from and replies go, out of reach of the user's code."""

    def __init__(self):
        self.pid = os.getpid()
        # Both are closed when another program is executed.
        self.orders, self.replies = os.dup(0), os.dup(1)
        self.read = b""
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        os.register_at_fork(after_in_child=self.close)

    def close(self):
        os.close(self.orders)
        os.close(self.replies)

    def order(self):
        """The next line, `None` at the end."""
        while b"\n" not in self.read:
            if len(self.read) > ORDER_BYTES_LIMIT:
                raise SystemExit(f"an order is longer than {ORDER_BYTES_LIMIT} bytes")
            more = os.read(self.orders, 1 << 16)
            if not more:
                return None
            self.read += more
        line, _, self.read = self.read.partition(b"\n")
        return line

    def reply(self, reply):
        rest = json.dumps(reply).encode() + b"\n"
        while rest:
            rest = rest[os.write(self.replies, rest):]


class Surroundings:
    """What a step may have changed for the next one."""

    def __init__(self):
        self.directory = os.getcwd()
        self.streams = sys.stdin, sys.stdout, sys.stderr
        # So that nothing is lost where a process dies, and nothing fails for what cannot be shown.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
        self.flush_c = c_flush()

    def restore(self):
        self.flush()
        sys.stdin, sys.stdout, sys.stderr = self.streams
        os.chdir(self.directory)
        ends_when_told()

    def flush(self):
        """All that was written so far is this step's log."""
        for stream in (sys.stdout, sys.stderr, *self.streams[1:]):
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):
                pass
        self.flush_c()


def c_flush():
    """What flushes the streams of C, which code that is not Python's may have written to."""
    try:
        import ctypes

        c = ctypes.CDLL(None)
        return lambda: c.fflush(None)
    except (ImportError, OSError, AttributeError):
        return lambda: None


def ends_when_told():
    """At once, and not where the user's code gets to it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def function_of(name):
    """The step that `module:function` names."""
    module, _, function = name.partition(":")
    try:
        loaded = importlib.import_module(module)
    except SystemExit as error:
        message = f"`{module}` calls sys.exit while it is imported: call `main()` under `if __name__ == \"__main__\":`"
        raise Hopeless(message) from error
    except ModuleNotFoundError as error:
        if error.name and (module == error.name or module.startswith(f"{error.name}.")):
            raise Hopeless(f"there is no module `{module}` beside the pipeline's file") from error
        hint = f"put the package that has `{error.name}` into `requirements` of [python]"
        raise Hopeless(f"cannot import `{module}`: {in_a_line(error)}; {hint}") from error
    except Exception as error:
        raise Hopeless(f"cannot import `{module}`: {in_a_line(error)}") from error
    found = getattr(loaded, function, None)
    if found is None:
        steps = ", ".join(f"`{key}`" for key, value in vars(loaded).items() if is_step(value))
        raise Hopeless(f"module `{module}` has no function `{function}`; its steps are {steps or 'none'}")
    if not is_step(found):
        raise Hopeless(f"`{name}` is not a step: write @step before the function")
    return found


def obey(line):
    """Does what an order says; gives the reply."""
    try:
        order = json.loads(line)
        told, function = order["step"], order["function"]
    except (ValueError, KeyError, TypeError):
        return {"ok": False, "error": "this order names no step and function", "hopeless": True}
    try:
        run(function_of(function), Step.read(told))
        return {"ok": True}
    except Hopeless as error:
        show(error)
        return {"ok": False, "error": str(error) or "it would go wrong every time", "hopeless": True}
    except SystemExit as error:
        show(error)
        hopeless = error.code == HOPELESS_EXIT
        return {"ok": False, "error": f"the step called sys.exit({error.code!r})", "hopeless": hopeless}
    except BaseException as error:
        show(error)
        return {"ok": False, "error": in_a_line(error)}


def in_a_line(error):
    """As the last line of a traceback says it."""
    lines = traceback.format_exception_only(type(error), error)
    text = " ".join((lines[-1] if isinstance(error, SyntaxError) else lines[0]).split())
    if isinstance(error, SyntaxError) and error.filename:
        text += f" ({error.filename}, line {error.lineno})"
    return text


def show(error):
    """The traceback, from the first line of the user's code on."""
    link = error
    while link is not None:
        found = of_the_user(link.__traceback__)
        # An error of this package's own is worth its frames, unless it was meant.
        link.__traceback__ = found or (None if isinstance(link, Hopeless) else link.__traceback__)
        link = link.__cause__ or link.__context__
    traceback.print_exception(type(error), error, error.__traceback__)


def of_the_user(trace):
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith((OWN, *IMPORTING)):
        trace = trace.tb_next
    return trace


def shortened(reply):
    if "error" in reply:
        reply["error"] = " ".join(reply["error"].split())[:ERROR_CHARACTERS_LIMIT]
    return reply


def serve():
    channel = Channel()
    surroundings = Surroundings()
    ends_when_told()
    faulthandler.enable()
    while (line := channel.order()) is not None:
        reply = obey(line)
        if os.getpid() != channel.pid:
            # A child that the user's code has forked came back; the reply is its parent's.
            surroundings.flush()
            os._exit(0 if reply["ok"] else 1)
        surroundings.restore()
        try:
            channel.reply(shortened(reply))
        except BrokenPipeError:
            break
    threading.Thread(target=end_anyway, daemon=True).start()


def end_anyway():
    threading.Event().wait(ENDING_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    serve()
