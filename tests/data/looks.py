"""What workers are given to do in tests; a module of its own, for they import it."""

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

from pipeline.data.decoding import Task, _bound_memory, examine_all
from pipeline.data.facts import ImageFacts, examine


def hostile(tasks: list[Task]) -> list[ImageFacts]:
    """Stands for a decoder with a defect: some names crash it, some hang it inside C."""
    for task in tasks:
        if "crash" in task.path:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "exit" in task.path:
            os._exit(3)
        if "hang" in task.path:
            signal.setitimer(signal.ITIMER_REAL, 2.0)
            ctypes.PyDLL(None).sleep(600)  # holds the interpreter's lock, as a decoder may
    return examine_all(tasks)


def loaded(tasks: list[Task]) -> list[ImageFacts]:
    """Which heavy libraries a worker holds, and how much it may map."""
    heavy = {"pandas", "pydantic", "great_expectations", "torch", "pyarrow", "mlflow", "ruamel"}
    bound = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [ImageFacts(value=",".join(sorted(heavy & set(sys.modules))), width=bound)]


def unlimited(tasks: list[Task]) -> list[ImageFacts]:
    """Examine whatever the number of pixels, with 500 MB to do it."""
    _bound_memory(500_000_000)
    return [examine(Path(task.path).read_bytes(), "", max_pixels=10**11) for task in tasks]
