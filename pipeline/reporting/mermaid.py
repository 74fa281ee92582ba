"""Charts as Mermaid text, which GitHub and GitLab draw in a page of Markdown."""

import json
from collections.abc import Sequence


def chart(
    title: str,
    names: Sequence[str],
    *,
    measure: str,
    bars: Sequence[float],
    line: Sequence[float] = (),
) -> list[str]:
    """The lines of a chart of shares, a bar a name, and over them a line if there is one."""
    return [
        "",
        "```mermaid",
        "xychart-beta",
        f'    title "{title}"',
        f"    x-axis [{', '.join(json.dumps(name, ensure_ascii=False) for name in names)}]",
        f'    y-axis "{measure}" 0 --> 100',
        f"    bar [{_percent(bars)}]",
        *([f"    line [{_percent(line)}]"] if line else []),
        "```",
    ]


def _percent(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares)
