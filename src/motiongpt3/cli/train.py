"""The commands that train. Every field of what a training function takes as its configuration is an option, so that
YAML files and options say the same things.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined] # it does not list its own names

from motiongpt3.cli.parser import Parser
from motiongpt3.errors import MotionGPT3Error
from motiongpt3.untrusted import load_yaml, read_bytes

FUNCTIONS = {
    "vae": "training.autoencoder:train_vae",
    "stage1": "training.stage1:train_stage1",
    "stage2": "training.stages_2_3:train_align",
    "stage3": "training.stages_2_3:train_align",
    "evaluator": "training.evaluator:train_evaluator",
    "vq": "baselines.training:train_vq",
    "experiment": "baselines.training:train_experiment",
}
"""What is trained -> module and function."""
TEXTS = {
    "vae": "Train a motion VAE. Writes OUT/vae.",
    "stage1": "Train text to motion, with the language model and the VAE frozen. Writes OUT/model.",
    "stage2": "Train all tasks on short prompts, the language model frozen. Needs --start. Writes OUT/model.",
    "stage3": "Train everything on instructions. Needs --start. Writes OUT/model.",
    "evaluator": "Train an evaluator: captions and motions in one space. Writes OUT/evaluator.",
    "vq": "Train a VQ-VAE, the quantised baseline. --start takes a VAE's or a VQ-VAE's folder. Writes OUT/vq.",
    "experiment": "Train one network of the paper's comparison and judge it while it trains. "
    "Writes OUT/metrics and more.",
}
"""What the help says of it."""
CONFIGS = {"vq": "experiments/vq", "experiment": "experiments/dual"}
"""Configurations that the help names, where they are not `mini`'s."""
EXAMPLES = """
  motiongpt3 train {stage} --config configs/{config}.yaml
  motiongpt3 train {stage} --config configs/{config}.yaml --run.out runs/short --run.steps 100
  motiongpt3 train {stage} --config configs/{config}.yaml --resume
"""


def train(stage: str, argv: Sequence[str]) -> None:
    """Train a stage of `FUNCTIONS` as the words say and print the folder it was written to."""
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    module, _, name = FUNCTIONS[stage].partition(":")
    function = getattr(import_module(f"motiongpt3.{module}"), name)
    options, config = read_options(stage, get_type_hints(function)["config"], argv)
    if options.resume and options.start and stage in ("vae", "vq", "stage1", "evaluator"):
        raise MotionGPT3Error("--resume goes on from a checkpoint and --start from other weights; give one of them")
    if stage in ("stage2", "stage3") and config.stage != stage[-1]:
        raise MotionGPT3Error(f"train {stage} needs --stage {stage[-1]}, not {config.stage}")
    if (Path(config.run.out) / "checkpoints" / "last.ckpt").is_file() and not options.resume:
        raise MotionGPT3Error(f"{config.run.out} holds a run already: add --resume, or choose another --run.out")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    start = Path(options.start) if options.start else None
    try:
        print(function(config, options.resume, start, sys.stderr.isatty()))
    except MisconfigurationException as error:
        raise MotionGPT3Error(str(error)) from None


class _ConfigFile(ActionConfigFile):
    """jsonargparse's own, for a file that is small and plain."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read the file; MotionGPT3Error if it cannot be read."""
        from motiongpt3.serialization import MAX_CONFIG_BYTES

        file = Path(values)
        text = read_bytes(file, MAX_CONFIG_BYTES, "is too large for a configuration")
        try:
            load_yaml(text.decode("utf-8"), file.name)
        except UnicodeDecodeError:
            raise MotionGPT3Error(f"{file.name} is not UTF-8 text") from None
        super().__call__(parser, namespace, values, option_string)


def read_options(stage: str, kind: type, argv: Sequence[str]) -> tuple[Any, Any]:
    """What the words after `motiongpt3 train STAGE` say: all options, and the configuration they make."""
    examples = EXAMPLES.format(stage=stage, config=CONFIGS.get(stage, f"mini/{stage}"))
    parser = Parser(f"train {stage}", TEXTS[stage], examples)
    parser.add_argument(
        "--config", action=_ConfigFile, metavar="FILE", help="YAML file with options; options after it override it"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")
    parser.add_argument("--start", metavar="FOLDER", help="trained weights to start from")
    parser.add_class_arguments(kind)
    options = parser.instantiate(parser.parse_args(argv))
    return options, kind(**{field.name: options[field.name] for field in fields(kind)})
