"""The whole look: params, source, model, device, plan, surroundings."""

from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple, TypeVar

from pipeline.doctor import (
    aside,
    environment,
    machine,
    memory,
    places,
    plan,
    settings,
    source,
    unreachable,
)
from pipeline.doctor.findings import Fact, Finding, Look, worst_first

Answer = TypeVar("Answer")


class Examination(NamedTuple):
    """Problems, worst first, and facts."""

    findings: list[Finding]
    facts: list[Fact]

    @property
    def stops(self) -> bool:
        """Whether something was found that stops the pipeline."""
        return any(finding.level == "stops" for finding in self.findings)


def examination(pool: Executor, params: Path) -> Examination:
    """Look at everything; `pool` answers what needs torch."""
    answer = environment.begin_probe()
    read, problems = settings.read(params)
    made = places.made()
    asked_base = (
        None if read.model is None else aside.ask_base(pool, read.model, made, read.finetune)
    )
    asked_device = aside.ask_device(pool)
    looks = [Look([*problems, *settings.unknown_names(read)], [])]
    sample = None
    if read.data is not None and Path(read.data.source).is_dir():
        sample, seen = source.look(read.data, read.limits, read.clean, read.evaluate)
        looks.append(seen)
    looks.append(places.look(read, made))
    asked_tokens = None
    if read.model is not None and sample is not None:
        asked_tokens = aside.ask_tokens(pool, read.model, sample.captions)
    surroundings = environment.look(answer)
    base, device, tokens = None, None, None
    try:
        base, device, tokens = _of(asked_base), asked_device.result(), _of(asked_tokens)
    except (ImportError, BrokenProcessPool) as error:
        problem = f"torch or OpenCLIP can't be used: {error or type(error).__name__}"
        looks.append(Look([Finding("stops", "torch", None, problem, "`make setup`")], []))
    if isinstance(device, Finding):
        looks.append(Look([device], []))
        device = None
    looks += [
        machine.look(read, base, device, tokens=tokens),
        memory.look(
            read,
            base,
            device,
            host=environment.host_memory(),
            disk=environment.free_disk(),
            sample=sample,
        ),
        plan.look(read, sample, base, tokens),
        unreachable.look(read, sample, base, device),
        surroundings,
    ]
    return Examination(
        worst_first(finding for one in looks for finding in one.findings),
        [fact for one in looks for fact in one.facts],
    )


def _of(asked: "Future[Answer] | None") -> Answer | None:
    return None if asked is None else asked.result()
