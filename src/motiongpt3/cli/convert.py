"""`motiongpt3 convert`: published torch files as folders of ours."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motiongpt3.cli.options import Parser
from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from torch import Tensor

    from motiongpt3.official.convert import Converted


Convert = Callable[[Mapping[str, "Tensor"], "Tensor", "Tensor"], "Converted"]
EVALUATOR = "evaluator"
"""Folder of the evaluator inside that of the whole model."""
DATA_STATISTICS = ("HumanML3D's Mean.npy: the means the weights were trained with", "HumanML3D's Std.npy")
EVALUATOR_STATISTICS = (
    "the evaluator's own means (mean_eval.npy), not those of the data set",
    "the evaluator's own deviations (std_eval.npy)",
)


def official(argv: Sequence[str]) -> int:
    """A whole MotionGPT3 checkpoint as a model folder."""
    parser = _parser(
        "official",
        "Turn a published MotionGPT3 checkpoint into a model folder that `--model` of every command takes.",
        "  motiongpt3 convert official motiongpt3.ckpt -o model --tokenizer gpt2 --mean Mean.npy --std Std.npy\n"
        '  motiongpt3 generate "a person waves" --model model --profile official -o wave.mp4\n',
    )
    _add_tokenizer(parser, "the GPT-2 that the checkpoint was built from")
    _add_statistics(parser, "", DATA_STATISTICS)
    _add_statistics(parser, "evaluator-", EVALUATOR_STATISTICS, required=False)
    options = parser.parse_args(argv)

    from motiongpt3.models.backbone import write_backbone
    from motiongpt3.official.convert import convert_evaluator, convert_official, read_statistics, read_tokenizer_folder
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    _check_new(options.out)
    if (options.evaluator_mean is None) != (options.evaluator_std is None):
        raise MotionGPT3Error("the evaluator needs both --evaluator-mean and --evaluator-std")
    statistics = [read_statistics(options.mean), read_statistics(options.std)]
    judging = [read_statistics(path) for path in (options.evaluator_mean, options.evaluator_std) if path is not None]
    tokenizer, heads = read_tokenizer_folder(options.tokenizer)
    with open_torch_file(options.checkpoint) as file:
        made = convert_official(file.tensors, statistics[0], statistics[1], tokenizer, heads)
        evaluator = convert_evaluator(file.tensors, *judging) if judging else None
        mapped, ignored = dict(made.mapped), made.ignored
        with atomic_folder(options.out) as folder:
            write_backbone(folder, made.backbone, tokenizer)
            write_folder(folder, made.config, made.tensors)
            if evaluator is not None:
                write_folder(folder / EVALUATOR, evaluator.config, evaluator.tensors)
                mapped |= {theirs: f"{EVALUATOR}/{ours}" for theirs, ours in evaluator.mapped.items()}
                ignored = [name for name in ignored if name not in mapped]
    _report(options, mapped, ignored, file.left_out)
    if evaluator is None and not options.json and any(name.startswith("metrics.") for name in ignored):
        print("the evaluator inside was left out; --evaluator-mean and --evaluator-std keep it")
    return 0


def gpt2(argv: Sequence[str]) -> int:
    """GPT-2 as a backbone folder."""
    parser = _parser(
        "gpt2",
        "Turn GPT-2's weights in a torch file into a folder that a training configuration takes as its backbone.",
        "  motiongpt3 convert gpt2 pytorch_model.bin -o gpt2 --tokenizer FOLDER\n",
    )
    _add_tokenizer(parser, "GPT-2")
    options = parser.parse_args(argv)

    from motiongpt3.official.convert import convert_gpt2, read_tokenizer_folder
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    _check_new(options.out)
    tokenizer, heads = read_tokenizer_folder(options.tokenizer)
    with open_torch_file(options.checkpoint) as file:
        made = convert_gpt2(file.tensors, tokenizer, heads)
        with atomic_folder(options.out) as folder:
            tokenizer.save(str(folder / "tokenizer.json"))
            write_folder(folder, made.config, made.tensors)
    return _report(options, made.mapped, made.ignored, file.left_out)


def mld_vae(argv: Sequence[str]) -> int:
    """MLD's VAE as a VAE folder."""
    parser = _parser(
        "mld-vae",
        "Turn the motion VAE in a checkpoint of MLD or MotionGPT3 into a VAE folder of ours, as `train vae` writes it.",
        "  motiongpt3 convert mld-vae 1222_mld_humanml3d_FID041.ckpt -o mld_vae --mean Mean.npy --std Std.npy\n",
    )
    _add_statistics(parser, "", DATA_STATISTICS)
    options = parser.parse_args(argv)

    from motiongpt3.official.convert import convert_mld_vae

    return _convert(options, convert_mld_vae)


def evaluator(argv: Sequence[str]) -> int:
    """Guo et al.'s evaluator as a folder."""
    parser = _parser(
        "evaluator",
        "Turn Guo et al.'s text-motion evaluator, alone (finest.tar) or inside a MotionGPT3 checkpoint, into a folder.",
        "  motiongpt3 convert evaluator finest.tar -o guo --mean mean_eval.npy --std std_eval.npy\n",
    )
    _add_statistics(parser, "", EVALUATOR_STATISTICS)
    options = parser.parse_args(argv)

    from motiongpt3.official.convert import convert_evaluator

    return _convert(options, convert_evaluator)


def _parser(name: str, description: str, examples: str) -> Parser:
    text = f"{description} The file is read safely: nothing in it is run. Any missing or unexpected tensor is an error."
    parser = Parser(f"convert {name}", text, examples)
    parser.add_argument("checkpoint", metavar="CKPT", help="a file of torch.save or Lightning")
    parser.add_argument("-o", "--out", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--json", action="store_true", help="print what was mapped as JSON, name by name")
    return parser


def _add_statistics(parser: Parser, prefix: str, texts: tuple[str, str], required: bool = True) -> None:
    for name, text in zip(("mean", "std"), texts, strict=True):
        parser.add_argument(f"--{prefix}{name}", required=required, metavar="FILE", help=text)


def _add_tokenizer(parser: Parser, whose: str) -> None:
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="FOLDER",
        help=f"folder with the tokenizer of {whose}: tokenizer.json, or vocab.json and merges.txt; "
        "its config.json, if there is one, tells the number of attention heads",
    )


def _convert(options: Any, convert: Convert) -> int:
    from motiongpt3.official.convert import read_statistics
    from motiongpt3.official.torch_files import open_torch_file
    from motiongpt3.serialization import atomic_folder, write_folder

    _check_new(options.out)
    statistics = read_statistics(options.mean), read_statistics(options.std)
    with open_torch_file(options.checkpoint) as file:
        made = convert(file.tensors, *statistics)
        with atomic_folder(options.out) as folder:
            write_folder(folder, made.config, made.tensors)
    return _report(options, made.mapped, made.ignored, file.left_out)


def _check_new(out: str) -> None:
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise MotionGPT3Error(f"{out} is there already; choose another folder")


def _report(options: Any, mapped: Mapping[str, str], ignored: list[str], left_out: list[str]) -> int:
    """Print what became of every entry."""
    if options.json:
        report = {"folder": options.out, "mapped": mapped, "ignored": ignored + left_out, "missed": []}
        print(json.dumps(report, indent=2))
        return 0
    print(f"mapped   {len(mapped)} tensors")
    for theirs, ours in mapped.items():
        print(f"  {theirs} -> {ours}" if not theirs.endswith(ours) else f"  {theirs}")
    print(f"ignored  {len(ignored)} tensors of other parts")
    for part, count in Counter(name.partition(".")[0] for name in ignored).items():
        print(f"  {part}.*: {count}")
    if left_out:
        print(f"ignored  {len(left_out)} entries that are no tensors of a model: {', '.join(left_out[:10])}")
    print("missed   0 tensors")
    print(options.out)
    return 0
