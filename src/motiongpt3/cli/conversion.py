"""The commands that turn published torch files into folders of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from motiongpt3.cli.options import FileArg, FolderArg
from motiongpt3.cli.parser import Arg
from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from torch import Tensor

    from motiongpt3.official.convert import Converted

CheckpointArg = Annotated[str, Arg("CKPT")]
EVALUATOR = "evaluator"
"""Folder of the evaluator inside that of the whole model."""


@dataclass(frozen=True)
class ConvertOptions:
    """Where the result goes, and how it is told."""

    out: Annotated[str, Arg("FOLDER", flags="-o --out")]
    """folder to make"""
    json: bool = False
    """print what was mapped as JSON, name by name"""

    def check(self) -> None:
        """MotionGPT3Error if there is something already."""
        target = Path(self.out)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise MotionGPT3Error(f"{self.out} is there already; choose another folder")

    def report(self, mapped: Mapping[str, str], ignored: list[str], left_out: list[str]) -> None:
        """Print what became of every entry."""
        if self.json:
            report = {"folder": self.out, "mapped": mapped, "ignored": ignored + left_out, "missed": []}
            print(dumps(report, indent=2))
            return
        print(f"mapped   {len(mapped)} tensors")
        for theirs, ours in mapped.items():
            print(f"  {theirs} -> {ours}" if not theirs.endswith(ours) else f"  {theirs}")
        print(f"ignored  {len(ignored)} tensors of other parts")
        for part, count in Counter(name.partition(".")[0] for name in ignored).items():
            print(f"  {part}.*: {count}")
        if left_out:
            print(f"ignored  {len(left_out)} entries that are no tensors of a model: {', '.join(left_out[:10])}")
        print("missed   0 tensors")
        print(self.out)


def official(
    checkpoint: CheckpointArg,
    *,
    output: ConvertOptions,
    tokenizer: FolderArg,
    mean: FileArg,
    std: FileArg,
    evaluator_mean: FileArg | None = None,
    evaluator_std: FileArg | None = None,
) -> None:
    """Turn a published MotionGPT3 checkpoint into a model folder that `--model` of every command takes. The file is
    read safely: nothing in it is run. Any missing or unexpected tensor is an error.

    Args:
        checkpoint: a file of torch.save or Lightning
        tokenizer: folder with the tokenizer of the GPT-2 that the checkpoint was built from: tokenizer.json, or
            vocab.json and merges.txt; its config.json, if there is one, tells the number of attention heads
        mean: HumanML3D's Mean.npy: the means the weights were trained with
        std: HumanML3D's Std.npy
        evaluator_mean: the evaluator's own means (mean_eval.npy), not those of the data set
        evaluator_std: the evaluator's own deviations (std_eval.npy)

    Examples:
      motiongpt3 convert official motiongpt3.ckpt -o model --tokenizer gpt2 --mean Mean.npy --std Std.npy
      motiongpt3 generate "a person waves" --model model --profile official -o wave.mp4
    """
    from motiongpt3.models.backbone import write_backbone
    from motiongpt3.official.convert import convert_evaluator, convert_official, read_statistics, read_tokenizer_folder
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    output.check()
    if (evaluator_mean is None) != (evaluator_std is None):
        raise MotionGPT3Error("the evaluator needs both --evaluator-mean and --evaluator-std")
    statistics = read_statistics(mean), read_statistics(std)
    judging = [read_statistics(path) for path in (evaluator_mean, evaluator_std) if path is not None]
    words, heads = read_tokenizer_folder(tokenizer)
    with open_torch_file(checkpoint) as file:
        made = convert_official(file.tensors, *statistics, words, heads)
        judge = convert_evaluator(file.tensors, *judging) if judging else None
        mapped, ignored = dict(made.mapped), made.ignored
        with atomic_folder(output.out) as folder:
            write_backbone(folder, made.backbone, words)
            write_folder(folder, made.config, made.tensors)
            if judge is not None:
                write_folder(folder / EVALUATOR, judge.config, judge.tensors)
                mapped |= {theirs: f"{EVALUATOR}/{ours}" for theirs, ours in judge.mapped.items()}
                ignored = [name for name in ignored if name not in mapped]
    output.report(mapped, ignored, file.left_out)
    if judge is None and not output.json and any(name.startswith("metrics.") for name in ignored):
        print("the evaluator inside was left out; --evaluator-mean and --evaluator-std keep it")


def gpt2(checkpoint: CheckpointArg, *, output: ConvertOptions, tokenizer: FolderArg) -> None:
    """Turn GPT-2's weights in a torch file into a folder that a training configuration takes as its backbone. The file
    is read safely: nothing in it is run. Any missing or unexpected tensor is an error.

    Args:
        checkpoint: a file of torch.save or Lightning
        tokenizer: folder with the tokenizer of GPT-2: tokenizer.json, or vocab.json and merges.txt; its config.json, if
            there is one, tells the number of attention heads

    Examples:
      motiongpt3 convert gpt2 pytorch_model.bin -o gpt2 --tokenizer FOLDER
    """
    from motiongpt3.official.convert import convert_gpt2, read_tokenizer_folder
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    output.check()
    words, heads = read_tokenizer_folder(tokenizer)
    with open_torch_file(checkpoint) as file:
        made = convert_gpt2(file.tensors, words, heads)
        with atomic_folder(output.out) as folder:
            words.save(str(folder / "tokenizer.json"))
            write_folder(folder, made.config, made.tensors)
    output.report(made.mapped, made.ignored, file.left_out)


def mld_vae(checkpoint: CheckpointArg, *, output: ConvertOptions, mean: FileArg, std: FileArg) -> None:
    """Turn the motion VAE in a checkpoint of MLD or MotionGPT3 into a VAE folder of ours, as `train vae` writes it. The
    file is read safely: nothing in it is run. Any missing or unexpected tensor is an error.

    Args:
        checkpoint: a file of torch.save or Lightning
        mean: HumanML3D's Mean.npy: the means the weights were trained with
        std: HumanML3D's Std.npy

    Examples:
      motiongpt3 convert mld-vae 1222_mld_humanml3d_FID041.ckpt -o mld_vae --mean Mean.npy --std Std.npy
    """
    from motiongpt3.official.convert import convert_mld_vae

    _convert(convert_mld_vae, checkpoint, output, mean, std)


def evaluator(checkpoint: CheckpointArg, *, output: ConvertOptions, mean: FileArg, std: FileArg) -> None:
    """Turn Guo et al.'s text-motion evaluator, alone (finest.tar) or inside a MotionGPT3 checkpoint, into a folder. The
    file is read safely: nothing in it is run. Any missing or unexpected tensor is an error.

    Args:
        checkpoint: a file of torch.save or Lightning
        mean: the evaluator's own means (mean_eval.npy), not those of the data set
        std: the evaluator's own deviations (std_eval.npy)

    Examples:
      motiongpt3 convert evaluator finest.tar -o guo --mean mean_eval.npy --std std_eval.npy
    """
    from motiongpt3.official.convert import convert_evaluator

    _convert(convert_evaluator, checkpoint, output, mean, std)


def _convert(
    convert: Callable[[Mapping[str, Tensor], Tensor, Tensor], Converted],
    checkpoint: str,
    output: ConvertOptions,
    mean: str,
    std: str,
) -> None:
    from motiongpt3.official.convert import read_statistics
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    output.check()
    statistics = read_statistics(mean), read_statistics(std)
    with open_torch_file(checkpoint) as file:
        made = convert(file.tensors, *statistics)
        with atomic_folder(output.out) as folder:
            write_folder(folder, made.config, made.tensors)
    output.report(made.mapped, made.ignored, file.left_out)
