"""What importing costs a daemon in resident memory: python -m tests.bench.imports NAME [NAME ...]

Each name is imported in a fresh interpreter; `bare` is the interpreter alone. For pydantic a model is defined too,
because that is when most of it is loaded.
"""

import re
import subprocess
import sys

_REPORT = "import re; print(re.search(r'VmRSS:\\s+(\\d+)', open('/proc/self/status').read())[1])"
_USE = {"pydantic": "class Model(pydantic.BaseModel):\n    port: int\n    names: list[str]\n"}


def main() -> None:
    """Print a line for each name."""
    bare = _resident("")
    print(f"{'bare':<30} {bare:6.1f} MB")
    for name in sys.argv[1:]:
        resident = _resident(f"import {name}\n{_USE.get(name, '')}")
        print(f"{name:<30} {resident:6.1f} MB   +{resident - bare:.1f}")


def _resident(code: str) -> float:
    done = subprocess.run([sys.executable, "-c", f"{code}\n{_REPORT}"], capture_output=True, text=True, check=True)
    match = re.search(r"\d+", done.stdout)
    return int(match[0]) / 1024 if match else float("nan")


if __name__ == "__main__":
    main()
