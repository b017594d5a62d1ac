"""How long `mini` takes on this machine, and how much memory: python benchmarks/latency.py

Prints the machine, the time of a four-second motion with the model loaded, the part of each step, the time and peak
memory of the whole command, cold, to BVH, and the time of drawing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

PROMPT = "a person walks forward and waves with the right hand"


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of `run` over some repeats, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times)


def machine() -> str:
    """Processor and cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor()
    return f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def warm(repeats: int) -> dict[str, float]:
    """Seconds with the model loaded."""
    from motiongpt3 import MotionGPT3

    model = MotionGPT3.from_pretrained()
    motion = model.generate(PROMPT, seconds=4)
    with torch.inference_mode():
        cache, start = model.read(model.tokens([PROMPT + "."]))
        frames = torch.tensor([80])
        _, hidden = model.think(cache, start, frames)
        noise = torch.randn(1, model.config.vae.latent_tokens, model.config.vae.latent_channels)
        latents = model.head.sample(hidden, noise, model.config.steps, model.config.guidance)
        steps: dict[str, Callable[[], object]] = {
            "text stream": lambda: model.read(model.tokens([PROMPT + "."])),
            "motion stream": lambda: model.think(model.read(model.tokens([PROMPT + "."]))[0], start, frames),
            "diffusion head": lambda: model.head.sample(hidden, noise, model.config.steps, model.config.guidance),
            "VAE decoder": lambda: model.vae.decode_joints(latents, frames),
        }
        parts = {name: seconds(run, repeats) for name, run in steps.items()}
    parts["motion stream"] -= parts["text stream"]
    result = {"generate 4 s": seconds(lambda: model.generate(PROMPT, seconds=4), repeats)}
    result |= {f"  {name}": value for name, value in parts.items()}
    result["generate 8 x 4 s, one batch"] = seconds(lambda: model.generate(PROMPT, seconds=4, samples=8), repeats)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("bvh", "png", "mp4", "gif"):
            file = Path(folder) / f"motion.{suffix}"
            result[f"write 4 s as {suffix}"] = seconds(lambda file=file: motion.save(file), 3)  # type: ignore[misc]
    return result


def cold() -> dict[str, float]:
    """Seconds and peak memory in MB of the command as a whole process."""
    code = "import sys; from motiongpt3.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", code, "generate", PROMPT, "--seconds", "4", "-o", str(Path(folder) / "a.bvh")]
        subprocess.run(command, check=True, capture_output=True)
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - start
    if status:
        raise SystemExit("the command failed")
    scale = 1024 if sys.platform != "darwin" else 1
    return {"command to BVH, cold": taken, "peak memory MB": usage.ru_maxrss * scale / 1e6}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    results = {**warm(options.repeats), **cold()}
    results["peak memory of this process MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    if options.json:
        sys.stdout.write(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
        return
    sys.stdout.write(f"{machine()}\n")
    for name, value in results.items():
        unit = f"{value:8.0f}" if name.endswith("MB") else f"{value:8.3f} s"
        sys.stdout.write(f"{name:32}{unit}\n")


if __name__ == "__main__":
    main()
