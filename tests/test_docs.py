"""What the README and the pages of docs/ show does run.

A fenced block right after a line `<!-- test -->` is run: `bash`, `sh` and `console` blocks by bash, `python` blocks by
Python, one after the other in one empty folder per page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUN = ("characters", "chat", "continue", "control", "formats", "generate", "instructions")
"""Pages of docs/ with something to run; the others tell of hours of training, services and other people's files."""
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in RUN)]
BLOCK = re.compile(r"^<!-- test -->\s*\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, code) of each marked block."""
    return [(language, code) for language, code in BLOCK.findall(text)]


def run(language: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if language == "console":
        code = "".join(line[2:] for line in code.splitlines(keepends=True) if line.startswith("$ "))
    command = [sys.executable, "-c", code] if language == "python" else ["bash", "-euo", "pipefail", "-c", code]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=3000, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_page(page: Path, tmp_path: Path) -> None:
    found = blocks(page.read_text(encoding="utf-8"))
    assert found, f"{page.name} has nothing to run: mark a block, or take the page off the list"
    for language, code in found:
        assert language in ("bash", "sh", "console", "python"), f"{page.name} marks a {language} block for testing"
        done = run(language, code, tmp_path)
        assert done.returncode == 0, f"{page.name}:\n{code}\n{done.stderr}"


def test_every_page_with_something_to_run_is_listed() -> None:
    marked = {page.stem for page in (ROOT / "docs").rglob("*.md") if blocks(page.read_text(encoding="utf-8"))}
    assert marked == set(RUN)


def test_marked_blocks_are_found_and_run(tmp_path: Path) -> None:
    text = (
        "Text\n\n<!-- test -->\n```console\n$ echo 3 > three\nsome output\n```\n\n```bash\nexit 1\n```\n"
        "<!-- test -->\n\n```python\nassert open('three').read() == '3\\n'\nimport motiongpt3\n```\n"
        "<!-- test -->\n```bash\nfalse | true\n```\n"
    )
    found = blocks(text)
    assert [language for language, _ in found] == ["console", "python", "bash"]
    assert [run(language, code, tmp_path).returncode for language, code in found] == [0, 0, 1]
