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
    "image_to_text_mrr": "Image → text MRR",
    "image_to_text_map": "Image → text mAP",
    "image_to_text_median_rank": "Image → text, median rank",
    FIND_PICTURE: "Text → image R@1",
    "text_to_image_r5": "Text → image R@5",
    "text_to_image_r10": "Text → image R@10",
    "text_to_image_mrr": "Text → image MRR",
    "text_to_image_map": "Text → image mAP",
    "text_to_image_median_rank": "Text → image, median rank",
}
"""Every metric, in the order in which it is shown."""

RANKS = ("image_to_text_median_rank", "text_to_image_median_rank")
"""Those that are no shares: places in a list, of which the first is 1 and the best."""


@dataclass(frozen=True)
class Comparison:
    """One metric before and after: shares, or ranks; `gain` = final - base, in `low` to `high`."""

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
        better = self.gain < 0 if self.metric in RANKS else self.gain > 0
        return "gain" if better else "loss"

    @property
    def shown(self) -> tuple[str, str, str, str]:
        """Base, final, gain and interval as the page writes them."""
        if self.metric in RANKS:
            bounds = f"[{self.low:zg}, {self.high:zg}]".replace("-", "−")
            gain = f"{self.gain:+zg} {'place' if abs(self.gain) == 1 else 'places'}"
            return f"{self.base:g}", f"{self.final:g}", gain.replace("-", "−"), bounds
        bounds = interval(self.low, self.high)
        return percent(self.base), percent(self.final), points(self.gain), bounds


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
        if scores["base"].get(metric) is not None
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
