"""Scripts of npm packages, for tests; they are skipped where there is no Node.js or no such package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import pytest


def in_node(
    script: str, package: str, variable: str, *arguments: object, kind: Literal["commonjs", "module"] = "commonjs"
) -> Any:
    """What a script prints as JSON; it gets the package's folder, which `variable` may name, and the arguments."""
    node, folder = shutil.which("node"), Path(os.environ.get(variable, f"node_modules/{package}"))
    if node is None:
        pytest.skip(f"no node on the PATH: install Node.js to run {package}")
    if not folder.is_dir():
        pytest.skip(f"no {package}: npm install {package}, and set {variable} to its folder")
    command = [node, f"--input-type={kind}", "-e", script, str(folder.resolve()), *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)
