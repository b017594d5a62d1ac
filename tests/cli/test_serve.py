"""`motiongpt3 serve` and `app`: from the command line to a socket, and what they refuse."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from live_server import until

from motiongpt3.cli.main import main


class Command:
    """A running `motiongpt3 serve`."""

    def __init__(self, *words: str, **environment: str) -> None:
        command = [sys.executable, "-m", "motiongpt3.cli.main", "serve", "--port", "0", *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.mark.slow
def test_the_command(tiny_model_dir: Path) -> None:
    """On this machine alone, with a token; a TERM lets what runs be finished."""
    with Command("--model", str(tiny_model_dir), "--batch", "4", MOTIONGPT3_TOKEN="s3cret") as command:
        assert command.url.startswith("http://127.0.0.1:")
        assert httpx.get(f"{command.url}/v1/model").status_code == 401
        headers = {"Authorization": "Bearer s3cret"}
        model = httpx.get(f"{command.url}/v1/model", headers=headers)
        assert model.json()["name"] == tiny_model_dir.name
        assert str(tiny_model_dir.parent) not in model.text
        assert "server" not in model.headers
        answers: list[httpx.Response] = []
        asked = {"prompt": ["walks", "jumps"], "samples": 32, "steps": 100, "seconds": 1}

        def ask() -> None:
            answers.append(httpx.post(f"{command.url}/v1/generate", json=asked, headers=headers, timeout=300))

        client = threading.Thread(target=ask)
        client.start()
        until(
            lambda: "motiongpt3_batch_items_count 0.0" not in httpx.get(f"{command.url}/metrics", headers=headers).text
        )
        command.process.send_signal(signal.SIGTERM)
        client.join(30)
        assert len(json.loads(answers[0].content)["motions"]) == 64
        _, err = command.process.communicate(timeout=300)
        assert command.process.returncode in (0, -signal.SIGTERM)
        assert err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "no.such.host.invalid"], "cannot listen on no.such.host.invalid"),
        (["--port", "99999"], "--port must be 0 to 65535, not 99999"),
        (["--queue", "8"], "--queue must be at least 64"),
        (["--model", "gone/"], "gone"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_the_command_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "0", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_taken_port_and_a_bad_token(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["serve", "--port", str(taken.getsockname()[1])]) == 2
        assert "in use" in capsys.readouterr().err
    for token in ("", "two words", "caf\u00e9", " x"):
        monkeypatch.setenv("MOTIONGPT3_TOKEN", token)
        assert main(["serve", "--port", "0"]) == 2
        assert "MOTIONGPT3_TOKEN must be one word" in capsys.readouterr().err


def test_the_app_on_a_taken_port(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["app", "--port", str(other.getsockname()[1])]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err
