"""`motiongpt3 convert mld-vae` and `convert evaluator`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from motiongpt3.commands.options import Parser
from motiongpt3.errors import MotionGPT3Error

if TYPE_CHECKING:
    from torch import Tensor

    from motiongpt3.checkpoints.parts import Converted

Convert = Callable[[Mapping[str, "Tensor"], "Tensor", "Tensor"], "Converted"]


def mld_vae(argv: Sequence[str]) -> int:
    """MLD's VAE as a VAE folder."""
    parser = _parser(
        "mld-vae",
        "Turn the motion VAE in a checkpoint of MLD or MotionGPT3 into a VAE folder of ours, as `train vae` writes it.",
        "  motiongpt3 convert mld-vae 1222_mld_humanml3d_FID041.ckpt -o mld_vae --mean Mean.npy --std Std.npy\n",
        "HumanML3D's Mean.npy: the means the VAE was trained with",
        "HumanML3D's Std.npy",
    )
    options = parser.parse_args(argv)

    from motiongpt3.checkpoints.official import convert_mld_vae

    return _convert(options.checkpoint, options.out, options.mean, options.std, options.json, convert_mld_vae)


def evaluator(argv: Sequence[str]) -> int:
    """Guo et al.'s evaluator as a folder."""
    parser = _parser(
        "evaluator",
        "Turn Guo et al.'s text-motion evaluator, alone (finest.tar) or inside a MotionGPT3 checkpoint, into a folder.",
        "  motiongpt3 convert evaluator finest.tar -o guo --mean mean_eval.npy --std std_eval.npy\n",
        "the evaluator's own means (mean_eval.npy), not those of the data set",
        "the evaluator's own deviations (std_eval.npy)",
    )
    options = parser.parse_args(argv)

    from motiongpt3.checkpoints.official import convert_evaluator

    return _convert(options.checkpoint, options.out, options.mean, options.std, options.json, convert_evaluator)


def _parser(name: str, description: str, examples: str, mean: str, std: str) -> Parser:
    text = f"{description} The file is read safely: nothing in it is run. Any missing or unexpected tensor is an error."
    parser = Parser(f"convert {name}", text, examples)
    parser.add_argument("checkpoint", metavar="CKPT", help="a file of torch.save or Lightning")
    parser.add_argument("-o", "--out", required=True, metavar="FOLDER", help="folder to make")
    parser.add_argument("--mean", required=True, metavar="FILE", help=mean)
    parser.add_argument("--std", required=True, metavar="FILE", help=std)
    parser.add_argument("--json", action="store_true", help="print what was mapped as JSON, name by name")
    return parser


def _convert(checkpoint: str, out: str, mean: str, std: str, as_json: bool, convert: Convert) -> int:
    from motiongpt3.checkpoints.folder import write_folder
    from motiongpt3.checkpoints.official import read_statistics
    from motiongpt3.checkpoints.unpickle import open_torch_file

    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MotionGPT3Error(f"{out} is there already; choose another folder")
    statistics = read_statistics(mean), read_statistics(std)
    with open_torch_file(checkpoint) as file:
        made = convert(file.tensors, *statistics)
        write_folder(folder, made.config, made.tensors)
    if as_json:
        report = {"folder": str(folder), "mapped": made.mapped, "ignored": made.ignored + file.left_out, "missed": []}
        print(json.dumps(report, indent=2))
        return 0
    ignored = Counter(name.partition(".")[0] for name in made.ignored)
    print(f"mapped   {len(made.mapped)} tensors")
    for theirs, ours in made.mapped.items():
        print(f"  {theirs} -> {ours}" if not theirs.endswith(ours) else f"  {theirs}")
    print(f"ignored  {len(made.ignored)} tensors of other parts")
    for part, count in ignored.items():
        print(f"  {part}.*: {count}")
    if file.left_out:
        print(f"ignored  {len(file.left_out)} entries that are no tensors of a model: {', '.join(file.left_out[:10])}")
    print("missed   0 tensors")
    print(folder)
    return 0
