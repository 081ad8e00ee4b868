"""Stages as forks of one process that has the libraries loaded: loading them takes longer than many a stage.

`pipelines.paper_run` opens it; `pipelines.stage` asks it over a Unix socket, hands over its own output, and waits for
the exit code. Nothing has computed in the process that is forked, and its libraries have one thread: a fork has no
others.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

SOCKET = "PRIVFEDTALK_STAGES"
"""The environment variable that holds the socket's path."""

STAGES = "pipelines.paper_stages"
LIBRARIES = (
    "assets.showing",
    "evaluation.judges",
    "evaluation.measuring.panel",
    "evaluation.round_figures",
    "pipelines.definitions",
    "pipelines.paper_outputs",
    "pipelines.paper_sweeps",
    "training.trial",
)
"""What stages import when they are called, and all that these import."""

LONGEST_REQUEST = 1 << 16

Main = Callable[[list[str]], int]


@contextmanager
def opened(module: str = STAGES, libraries: Sequence[str] = LIBRARIES) -> Iterator[dict[str, str]]:
    """A warm process for `main(arguments) -> exit code` of a module; yields the environment of those who will ask.

    It ends with this process, however that ends.
    """
    with tempfile.TemporaryDirectory(prefix="privfedtalk-") as folder:
        path = str(Path(folder) / "stages")
        environment = {SOCKET: path, "OMP_NUM_THREADS": "1"}
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.warm", str(listening.fileno()), module, *libraries],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                pass_fds=[listening.fileno()],
            )
        try:
            yield environment
        finally:
            process.communicate()  # closes its input, which ends it


def ask(path: str, arguments: Sequence[str]) -> int:
    """Have the warm process do this with our output and in our folder; its exit code, 1 where it was killed."""
    code = b""
    with socket.socket(socket.AF_UNIX) as asking, suppress(ConnectionError):
        asking.connect(path)
        socket.send_fds(asking, ["\0".join([str(Path.cwd()), *arguments]).encode()], [1, 2])
        code = asking.recv(1)
    if not code:
        sys.stderr.write(f"error: the process of '{' '.join(arguments)}' was killed\nremedy: run the same again\n")
    return code[0] if code else 1


def serve(listening: socket.socket, module: str, libraries: Sequence[str]) -> None:
    """Fork for everyone who asks, until standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # stages get it, too, and say what is to be said
    for name in libraries:
        importlib.import_module(name)
    main: Main = importlib.import_module(module).main
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a fork: it tells those who asked by itself
    while True:
        ready, _, _ = select([listening, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        asking, _ = listening.accept()
        with asking:
            if os.fork() == 0:
                listening.close()
                _do(asking, main)


def _do(asking: socket.socket, main: Main) -> None:
    """What a fork does, and its end."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, outputs, _, _ = socket.recv_fds(asking, LONGEST_REQUEST, 2)
        with Path(os.devnull).open() as nothing:
            for number, there in enumerate((nothing.fileno(), *outputs)):
                os.dup2(there, number)
        folder, *arguments = request.decode().split("\0")
        os.chdir(folder)
        code = main(arguments)
        sys.stdout.flush()
    except SystemExit as error:  # argparse's
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(ConnectionError):
            asking.send(bytes([code]))
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:])
