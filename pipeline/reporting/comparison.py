"""What `evaluate` measured on one set of pictures, as numbers and as words.

Shares are fractions from 0 to 1 and are shown as percent; differences of shares are shown as
percentage points, with the interval in which the true difference is likely to lie.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.evaluation.headline import ACCURACY, FIND_CAPTION, FIND_PICTURE

Outcome = Literal["gain", "loss", "same"]

TARGET = "target"
"""The key of the user's own test split, beside the names of the general sets."""

METRICS = {
    ACCURACY: "Zero-shot accuracy",
    "top5": "Accuracy, top 5",
    "mean_per_class": "Accuracy, mean of classes",
    FIND_CAPTION: "Image → text R@1",
    "image_to_text_r5": "Image → text R@5",
    "image_to_text_r10": "Image → text R@10",
    FIND_PICTURE: "Text → image R@1",
    "text_to_image_r5": "Text → image R@5",
    "text_to_image_r10": "Text → image R@10",
}
"""Every metric, in the order in which it is shown."""


@dataclass(frozen=True)
class Comparison:
    """One metric before and after: shares; `gain` = final - base, within `low` to `high`."""

    metric: str
    base: float
    final: float
    gain: float
    low: float
    high: float

    @property
    def name(self) -> str:
        """The metric as a reader calls it."""
        return METRICS[self.metric]

    @property
    def outcome(self) -> Outcome:
        """Whether a difference was shown: an interval that contains 0 shows none."""
        if self.low <= 0 <= self.high:
            return "same"
        return "gain" if self.gain > 0 else "loss"


def compare(scores: Mapping[str, Any]) -> dict[str, Comparison]:
    """The metrics that `scores` (one set of the results) holds a number for, in METRICS' order."""
    return {
        metric: Comparison(
            metric=metric,
            base=scores["base"][metric],
            final=scores["final"][metric],
            gain=scores["gain"][metric]["value"],
            low=scores["gain"][metric]["low"],
            high=scores["gain"][metric]["high"],
        )
        for metric in METRICS
        if scores["base"][metric] is not None
    }


def all_sets(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The target, then the general sets by name."""
    general = results["general"]
    return {
        TARGET: results["target"],
        **{name: general[name] for name in sorted(general)},
    }


def percent(share: float, digits: int = 1) -> str:
    """0.912 -> `91.2 %`."""
    return f"{100 * share:.{digits}f} %"


def points(difference: float, digits: int = 1) -> str:
    """0.488 -> `+48.8`; percentage points, signed."""
    return f"{100 * difference:+z.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int = 1) -> str:
    """0.451, 0.526 -> `[45.1, 52.6]`; percentage points, signed where negative."""
    return f"[{100 * low:z.{digits}f}, {100 * high:z.{digits}f}]".replace("-", "−")
