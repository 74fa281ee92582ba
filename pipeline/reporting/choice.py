"""Which point between base and fine-tuned model was kept, in words."""

from collections.abc import Mapping
from typing import Any

from pipeline.reporting.comparison import percent


def choice_sentence(alpha: float, choice: Mapping[str, Any], *, model: str = "models/final") -> str:
    """Which point was kept and why, in a sentence whose subject is `model`."""
    bound = choice["max_forgetting"]
    limit = f"no general set loses more than {100 * bound:g} points" if bound is not None else ""
    beyond = choice["alpha_without_bound"]
    instead = (
        f"(α = {beyond:g} would give {percent(choice['validation_without_bound'])} on the "
        f"validation pictures instead of {percent(choice['validation'])})"
    )
    if alpha == 0:
        where = f"{model} is the base itself"
        if bound is None or beyond == 0:
            return f"{where}: nothing on the way to the trained model was better on validation."
        return f"{where}: where {limit}, no other point was better on validation {instead}."
    where = (
        f"{model} is the trained model itself (α = 1)"
        if alpha == 1
        else f"{model} lies at α = {alpha:g} of the way from the base to the trained model"
    )
    if bound is None or beyond == alpha:
        also = f", and {limit}" if limit else ""
        return f"{where}: the best on validation{also}."
    return f"{where}: the best on validation where {limit} {instead}."
