"""How long a model takes on this machine, and how much memory: python benchmarks/latency.py [--official]

Prints the machine, the time of a four-second motion with the model loaded, the part of each step, the time and peak
memory of the whole command, cold, to BVH, and the time of drawing. With --official the model is one of the released
checkpoint's sizes with random weights, and what is timed is one prompt to features, with both profiles and beside what
the official code computes for it.
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
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from motiongpt3 import MotionGPT3

PROMPT = "a person walks forward and waves with the right hand"
TOKENS = 40


def seconds(run: Callable[[], object], repeats: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """Median seconds of `run` over some repeats, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = clock()
        run()
        times.append(clock() - start)
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
    from motiongpt3.formats import save

    model = MotionGPT3.from_pretrained()
    motion = model.generate(PROMPT, seconds=4)
    with torch.inference_mode():
        cache, start = model.encode_text(model.tokens([PROMPT + "."]))
        frames = torch.tensor([80])
        _, hidden = model.run_queries(cache, start, frames)
        noise = torch.randn(1, model.config.vae.latent_tokens, model.config.vae.latent_channels)
        latents = model.head.sample(hidden, noise, model.config.steps, model.config.guidance)
        steps: dict[str, Callable[[], object]] = {
            "text stream": lambda: model.encode_text(model.tokens([PROMPT + "."])),
            "motion stream": lambda: model.run_queries(
                model.encode_text(model.tokens([PROMPT + "."]))[0], start, frames
            ),
            "diffusion head": lambda: model.head.sample(hidden, noise, model.config.steps, model.config.guidance),
            "VAE decoder": lambda: model.vae.decode_joints(latents, frames),
        }
        parts = {name: seconds(run, repeats) for name, run in steps.items()}
    parts["motion stream"] -= parts["text stream"]
    result = {"generate 4 s": seconds(lambda: model.generate(PROMPT, seconds=4), repeats)}
    result |= {f"  {name}": value for name, value in parts.items()}
    result["generate 8 x 4 s, one batch"] = seconds(lambda: model.generate(PROMPT, seconds=4, samples=8), repeats)
    result |= words(model, repeats)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("bvh", "glb", "png", "mp4", "gif"):
            file = Path(folder) / f"motion.{suffix}"
            result[f"write 4 s as {suffix}"] = seconds(lambda file=file: motion.save(file), 3)  # type: ignore[misc]
        film = Path(folder) / "motion.mp4"
        result["write 4 s as mp4, mannequin"] = seconds(lambda: save(motion, film, body="mannequin"), 3)
    return result


def words(model: MotionGPT3, repeats: int) -> dict[str, float]:
    """Seconds of a caption of six seconds, and of 40 tokens behind a prompt with and without the cache."""
    from motiongpt3.models.bimodal import KVCache, Tokens
    from motiongpt3.models.decoding import TextDecoder

    motion = model.generate(PROMPT, seconds=6)
    writer, prompt = TextDecoder(model.backbone, model.transformer), model.tokens([PROMPT])[0]

    def with_cache() -> None:
        cache, place = model.encode_text([prompt])
        ids = torch.tensor(prompt[-1:])
        for number in range(TOKENS):
            ids = writer.step(ids, place + number, cache).argmax(-1)

    @torch.inference_mode()
    def without_cache() -> None:
        ids = list(prompt)
        for _ in range(TOKENS):
            embedded = model.backbone.embed(torch.tensor([ids]))
            hidden, _ = model.transformer(Tokens.of(embedded), None, KVCache())
            ids.append(int(model.backbone.logits(hidden[:, -1]).argmax()))

    return {
        f"caption of 6 s, the best of {model.config.candidates}": seconds(lambda: model.caption(motion), repeats),
        "caption of 6 s, the likeliest words": seconds(lambda: model.caption(motion, candidates=1), repeats),
        f"write {TOKENS} tokens behind a cache": seconds(with_cache, 3),
        f"write {TOKENS} tokens without one": seconds(without_cache, 3),
    }


def official(repeats: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds from one prompt to the features of six seconds, with the sizes of the released checkpoint."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from motiongpt3.models.backbone import TextBackbone
    from motiongpt3.models.bimodal import BimodalTransformer, Tokens
    from motiongpt3.models.config import MotionGPT3Config
    from motiongpt3.models.diffusion_head import HeadConfig
    from motiongpt3.models.vae import VAEConfig
    from motiongpt3.official.holders import PADDED_TOKENS
    from motiongpt3.official.model import OfficialMotionGPT3, with_profile

    words = {word: number for number, word in enumerate(dict.fromkeys(f"{PROMPT} Generate motion :".split()))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024, "vocab_size": 50257}
    vae = VAEConfig(latent_tokens=1, latent_channels=256, layers=9, patch=1, positions=500, norm="post", max_frames=200)
    head = HeadConfig(width=1024, pool_mlp=3072, positions=500, objective="epsilon")
    config = MotionGPT3Config(motion_width=768, motion_mlp=3072, interface="holders", vae=vae, head=head, guidance=7.5)
    with torch.device("meta"):
        model = OfficialMotionGPT3(config, TextBackbone.blank(gpt2, tokenizer))
    model = model.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            tensor.fill_(1.0) if tensor.dim() == 1 else tensor.normal_(std=0.02)
    frames, nothing = torch.tensor([120]), torch.zeros(1, 1, 256)
    apart = BimodalTransformer(model.backbone.stream, model.motion, shared_layers=0)
    padded = Tokens.of(torch.zeros(1, PADDED_TOKENS, 768))
    results: dict[str, float] = {"parameters in millions": sum(p.numel() for p in model.parameters()) / 1e6}

    def features() -> object:
        hidden = model.run_holders(model.rows("t2m", [PROMPT]))
        return model.vae.decode(model.vae.denormalise_latents(model.draw_latents(hidden, [0])), frames)

    def as_published() -> object:
        """Both parameter sets at all of 192 positions; each guidance half in a pass of its own, 100 steps."""
        _, hidden = apart(padded, padded)
        assert hidden is not None
        condition = model.head.condition(hidden[:, :4])
        for step in range(200):
            model.head.predict(nothing, torch.tensor([float(step)]), condition)
        return model.vae.decode(nothing, frames)

    with torch.inference_mode():
        for profile in ("official", "default"):
            model.config = with_profile(config, profile)  # type: ignore[arg-type]
            results[f"one prompt to features, --profile {profile}"] = seconds(features, repeats, clock)
        rows = model.rows("t2m", [PROMPT])
        results["  both streams"] = seconds(lambda: model.run_holders(rows), repeats, clock)
        results["  VAE decoder"] = seconds(lambda: model.vae.decode(nothing, frames), repeats, clock)
        results["the official code's arithmetic for it"] = seconds(as_published, repeats, clock)
    return results


def help_seconds(*words: str) -> float:
    """Processor seconds that the command takes to print its help, the least of three times."""
    taken = []
    for _ in range(3):
        command = [sys.executable, "-m", "motiongpt3.cli.main", *words, "--help"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise SystemExit("the command failed")
        taken.append(usage.ru_utime + usage.ru_stime)
    return min(taken)


def cold() -> dict[str, float]:
    """Seconds and peak memory in MB of the command as a whole process."""
    helps = {f"processor time of {' '.join([*words, '--help'])}": help_seconds(*words) for words in ([], ["generate"])}
    code = "import sys; from motiongpt3.cli.main import main; sys.exit(main(sys.argv[1:]))"
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
    return {**helps, "command to BVH, cold": taken, "peak memory MB": usage.ru_maxrss * scale / 1e6}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--official", action="store_true", help="a model of the released checkpoint's sizes instead")
    parser.add_argument("--cpu", action="store_true", help="with --official: processor time, for a busy machine")
    options = parser.parse_args()
    if options.official:
        results = official(options.repeats, time.process_time if options.cpu else time.perf_counter)
    else:
        results = {**warm(options.repeats), **cold()}
    results["peak memory of this process MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    if options.json:
        sys.stdout.write(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
        return
    sys.stdout.write(f"{machine()}\n")
    for name, value in results.items():
        unit = f"{value:8.0f}" if name.endswith(("MB", "millions")) else f"{value:8.3f} s"
        sys.stdout.write(f"{name:{max(map(len, results)) + 2}}{unit}\n")


if __name__ == "__main__":
    main()
