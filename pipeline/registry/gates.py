"""Whether a challenger may take the champion's place: one gate a reason, and all must be passed.

A scheduled retraining that nobody watches must not make things worse. So a gain counts only where
it is more than the test pictures' luck of the draw, and what is lost anywhere has a limit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.params import PromoteParams
from pipeline.reporting.comparison import METRICS, TARGET, interval, points

if TYPE_CHECKING:  # which takes torch with it, and that takes seconds
    from pipeline.evaluation.duel import Duel

Verdict = Literal["promote", "hold", "nothing new"]


@dataclass(frozen=True)
class Gate:
    """A condition: what was found beside what is asked, in words, and whether it is met."""

    name: str
    found: str
    asked: str
    passed: bool


def judge(
    found: "Duel",
    params: PromoteParams,
    *,
    validated: Mapping[str, Any],
    moved: Sequence[str] | None,
    megabytes: float,
    milliseconds: float,
) -> list[Gate]:
    """All gates, whether passed or not.

    `validated` is metrics/validate.json; `moved` the figures by which the data drifted from the
    champion's, in words (None: there is none); `megabytes` the challenger's weights;
    `milliseconds` the time in which it embeds a picture.
    """
    return [
        _gain(found, params),
        *_luck(found, params),
        *_forgetting(found, params),
        _slices(found.slices, params),
        *_data(params, validated=validated, moved=moved),
        *_limits(params, megabytes=megabytes, milliseconds=milliseconds),
    ]


def verdict(gates: Sequence[Gate]) -> Verdict:
    """Promote where every gate is passed."""
    return "promote" if all(gate.passed for gate in gates) else "hold"


def _gain(found: "Duel", params: PromoteParams) -> Gate:
    outcome = found.main(TARGET)
    name = f"gain on the test pictures: {METRICS[found.metric[TARGET]]}"
    shown = f"{points(outcome.gain)} {interval(outcome.low, outcome.high)} points"
    asked = f"lower end above {params.least_gain:g}"
    return Gate(name, shown, asked, outcome.low > params.least_gain / 100)


def _luck(found: "Duel", params: PromoteParams) -> list[Gate]:
    """Where few pictures differ an interval by resampling is too narrow: of one picture it is a
    point. Asked for where a gain is.
    """
    if params.least_gain < 0:
        return []
    shown = f"p = {found.luck:.2g}: {found.won:,} pictures better, {found.lost:,} worse"
    asked = f"p at most {found.level:.2g} (McNemar)"
    return [Gate("more than luck", shown, asked, found.luck <= found.level)]


def _forgetting(found: "Duel", params: PromoteParams) -> list[Gate]:
    if params.max_forgetting is None:
        return []
    gates = []
    for name in found.outcomes:
        if name == TARGET:
            continue
        outcome = found.main(name)
        shown = f"{points(outcome.gain)} {interval(outcome.low, outcome.high)} points"
        asked = f"loses at most {params.max_forgetting:g}"
        kept = -outcome.gain <= params.max_forgetting / 100
        gates.append(
            Gate(f"forgetting on {name}: {METRICS[found.metric[name]]}", shown, asked, kept)
        )
    return gates


def _slices(rows: Sequence[Mapping[str, Any]], params: PromoteParams) -> Gate:
    """Losses that are shown, judged among all parts: with many, some lose by chance."""
    lost = [row for row in rows if row["shown"] == "loss"]
    worst = min(lost, key=lambda row: row["gain"], default=None)
    asked = (
        "any"
        if params.max_slice_loss is None
        else f"none loses more than {params.max_slice_loss:g}"
    )
    if worst is None:
        return Gate("parts of the test pictures", "no loss shown in any", asked, True)
    span = interval(worst["low"], worst["high"])
    shown = f"{worst['by']} = {worst['value']}: {points(worst['gain'])} {span} points"
    limit = params.max_slice_loss
    return Gate(
        "parts of the test pictures", shown, asked, limit is None or -worst["gain"] <= limit / 100
    )


def _data(
    params: PromoteParams, *, validated: Mapping[str, Any], moved: Sequence[str] | None
) -> list[Gate]:
    gates = []
    if not params.despite_warnings:
        warned = ", ".join(validated["warned"])
        shown = f"warned: {warned}" if warned else "none warned"
        gates.append(Gate("checks of the data", shown, "none warns", not warned))
    if not params.despite_drift:
        # That there are more rows is no drift: they would hold every model, sooner or later.
        drifted = [name for name in validated["warned"] if name.startswith("drift.")]
        drifted = [name for name in drifted if name != "drift.rows"]
        compared = validated["drift"]["status"] != "none"
        unknown = "not measured: no other data were accepted (`cliptune accept`)"
        shown = ", ".join(drifted) or ("none warned" if compared else unknown)
        if "drift.rows" in validated["warned"]:
            shown += "; their number warned, which does not count here"
        gates.append(Gate("drift from the accepted data", shown, "none warned", not drifted))
        if moved is not None:
            shown = ", ".join(moved) or "no figure above its threshold"
            gates.append(Gate("drift from the champion's data", shown, "none above", not moved))
    return gates


def _limits(params: PromoteParams, *, megabytes: float, milliseconds: float) -> list[Gate]:
    gates = []
    if params.max_megabytes is not None:
        fits = megabytes <= params.max_megabytes
        gates.append(Gate("size", f"{megabytes:.1f} MB", f"at most {params.max_megabytes:g}", fits))
    if params.max_milliseconds is not None:
        fast = milliseconds <= params.max_milliseconds
        shown = f"{milliseconds:.1f} ms a picture"
        gates.append(Gate("latency", shown, f"at most {params.max_milliseconds:g}", fast))
    return gates
