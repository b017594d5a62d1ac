"""Films have the right size, speed and frames; failures are one line and leave nothing."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.formats import video
from motiongpt3.motion.motion import Motion
from motiongpt3.motion.skeleton import HUMANML3D


def walk(frames: int = 12, fps: float = 20.0, caption: str | None = "a person walks") -> Motion:
    pose = np.zeros((22, 3))
    for joint, parent in enumerate(HUMANML3D.parents):
        if parent >= 0:
            pose[joint] = pose[parent] + HUMANML3D.rest_offsets[joint]
    pose[:, 1] -= pose[:, 1].min()
    return Motion(pose + (np.arange(frames) / fps)[:, None, None] * [0, 0, 1], fps=fps, caption=caption)


def probe(path: Path) -> tuple[dict[str, object], int]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    return meta, sum(1 for _ in reader)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "fps", "shown"), [(12, 20.0, 12), (1, 20.0, 1), (25, 120.0, 13), (3, 0.5, 3)])
def test_mp4_has_every_frame_at_the_motion_s_speed(tmp_path: Path, frames: int, fps: float, shown: int) -> None:
    path = tmp_path / "film.mp4"
    video.write(walk(frames, fps), path)
    meta, count = probe(path)
    assert count == shown
    assert meta["size"] == (800, 480)
    assert meta["fps"] == pytest.approx(min(fps, 60), abs=0.01)
    assert str(meta["codec"]) == "h264"
    assert "yuv420p" in str(meta["pix_fmt"])
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_without_a_caption_there_is_no_column_for_it(tmp_path: Path) -> None:
    video.write(walk(2, caption=" \n"), tmp_path / "film.MP4")
    assert probe(tmp_path / "film.MP4")[0]["size"] == (640, 480)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_same_motion_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        video.write(walk(5), tmp_path / (name + suffix))
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "fps", "shown"), [(12, 20.0, 12), (1, 20.0, 1), (30, 60.0, 13), (7, 15.0, 7)])
def test_gif_plays_at_the_motion_s_speed(tmp_path: Path, frames: int, fps: float, shown: int) -> None:
    path = tmp_path / "film.gif"
    video.write(walk(frames, fps), path)
    with Image.open(path) as film:
        assert getattr(film, "n_frames", 1) == shown
        assert film.size == (600, 360)
        if shown > 1:
            total = 0
            for index in range(shown):
                film.seek(index)
                total += film.info["duration"]
            assert total == pytest.approx(1000 * shown / min(fps, 25), abs=20)
            assert film.info["loop"] == 0


@pytest.mark.slow
def test_gif_shows_the_frames_that_were_drawn(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    motion = walk(6)
    video.write(motion, path)
    drawn = video._scene(motion, 360, "capsules").frame(5)
    with Image.open(path) as film:
        film.seek(5)
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - drawn).mean() < 4


@pytest.mark.slow
def test_a_long_gif_is_thinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "GIF_FRAMES", 10)
    video.write(walk(40), tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames <= 10


def test_failures_are_one_line_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MotionGPT3Error, match=r"\.mp4 or a \.gif"):
        video.write(walk(2), tmp_path / "film.avi")
    with pytest.raises(MotionGPT3Error, match="cannot write"):
        video.write(walk(2), tmp_path / "nowhere" / "film.mp4")

    def missing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    with pytest.raises(MotionGPT3Error, match="no ffmpeg"):
        video.write(walk(2), tmp_path / "film.mp4")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(tmp_path / "no-such-program"))
    with pytest.raises(MotionGPT3Error, match="cannot run ffmpeg"):
        video.write(walk(2), tmp_path / "film.mp4")
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\necho 'disk on fire' >&2\necho more >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(broken))
    with pytest.raises(MotionGPT3Error, match="disk on fire") as caught:
        video.write(walk(40), tmp_path / "film.mp4")
    assert "\n" not in str(caught.value)
    broken.unlink()
    assert list(tmp_path.iterdir()) == []
