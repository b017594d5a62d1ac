"""Small packed data sets for the tests of protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from motiongpt3.data.clips import Clip, PackedClips
from motiongpt3.motion.features import joints_to_features
from motiongpt3.motion.skeleton import HUMANML3D

SHORTS = ("walk forward", "walk forward slowly", "jump", "wave left hand", "run forward", "turn left")
CAPTIONS = ("a person walks forward.", "somebody walks.", "a person jumps.", "A person waves the left hand.")


def standing() -> np.ndarray[Any, np.dtype[np.float32]]:
    """(22, 3) a person on the floor."""
    pose = np.zeros((len(HUMANML3D), 3), np.float32)
    for joint, parent in enumerate(HUMANML3D.parents[1:], start=1):
        pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    return pose


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than a tiny model does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def make_pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PackedClips]:
    """`make_pack(frames, …)`: a packed file of swaying people, one clip of split test for each number of frames."""

    def make(frames: Sequence[int], name: str = "T_{}", fps: float = 20.0, **changes: Any) -> PackedClips:
        def clips() -> Any:
            for number, count in enumerate(frames):
                time = np.arange(count, dtype=np.float32)[:, None, None]
                pose = standing()
                sway = 0.03 * (1 + number % 5) * np.sin(time / (4 + number % 3)) * pose[None, :, 1:2] * [[[1, 0, 0]]]
                joints = (pose + sway + 0.01 * (number % 4) * time * [[[0, 0, 1]]]).astype(np.float32)
                texts = tuple(CAPTIONS[(number + k) % len(CAPTIONS)] for k in range(1 + number % 3))
                record: dict[str, Any] = {
                    "captions": texts,
                    "crop_safe": tuple(k % 2 == 0 for k in range(len(texts))),
                    "short": SHORTS[number % len(SHORTS)],
                }
                clip = Clip(name.format(f"{number:06}"), "test", 0, count, **(record | changes))
                yield clip, joints_to_features(torch.from_numpy(joints)).numpy(), joints

        return PackedClips.write(tmp_path_factory.mktemp("pack") / "packed.safetensors", clips(), fps)

    return make


@pytest.fixture(scope="session")
def pack(make_pack: Callable[..., PackedClips]) -> PackedClips:
    """24 clips of 24 to 93 frames and six labels."""
    return make_pack([24 + 3 * number for number in range(24)])


@pytest.fixture(scope="session")
def pack_dir(pack: PackedClips) -> Path:
    """The folder of `pack`."""
    return pack.path.parent
