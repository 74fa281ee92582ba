import subprocess
import sys

BEGUN = """
import sys
import pipeline.doctor.aside, pipeline.doctor.examine
print(sorted({"pydantic", "pandas", "torch"} & set(sys.modules)))
"""


def test_the_other_process_starts_before_anything_slow_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEGUN], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"
