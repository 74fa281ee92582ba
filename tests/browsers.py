"""The browser of this machine, for what only a browser can show."""

import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")


def chromium() -> str:
    """Its path; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser on PATH: none of {', '.join(NAMES)}")
    return found
