"""Motions as films: .mp4 through the ffmpeg that imageio-ffmpeg brings, .gif through Pillow."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from motiongpt3.errors import MotionGPT3Error
from motiongpt3.motion.motion import Motion
from motiongpt3.render.canvas import Body, Pixels, Scene, clean_text
from motiongpt3.serialization import atomic_path

MP4_FPS = 60.0
"""What screens show."""
GIF_FPS = 25.0
"""A gif counts in hundredths of a second, and browsers slow down those under two of them; four keep the file small."""
GIF_FRAMES = 1000
"""A gif with more frames than this is shown at fewer frames per second: Pillow holds them all in memory."""


def write(motion: Motion, path: str | Path, body: Body = "capsules") -> None:
    """Draw a motion into a film, at its own speed, side by side with its caption. The suffix
    says which kind.

    `.mp4` is H.264 in yuv420p, 800 x 480 (640 x 480 without a caption), at the motion's frame rate, 60 at most.
    `.gif` is 600 x 360 (480 x 360), 25 frames a second at most, and loops. The same motion gives the same bytes with
    the same versions of Pillow and ffmpeg.

    Raises:
        MotionGPT3Error: another suffix, the folder cannot be written, or ffmpeg is missing or fails.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".mp4", ".gif"):
        raise MotionGPT3Error(f"a film is an .mp4 or a .gif, not {suffix or 'a file without suffix'}")
    with atomic_path(path) as temporary:
        (_write_mp4 if suffix == ".mp4" else _write_gif)(motion, temporary, body)


def _scene(motion: Motion, height: int, body: Body) -> Scene:
    """5:3 with a caption, 4:3 without."""
    return Scene(motion, height * (5 if clean_text(motion.caption or "") else 4) // 3, height, body)


def _write_mp4(motion: Motion, path: Path, body: Body) -> None:
    try:
        program = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise MotionGPT3Error("no ffmpeg for .mp4: reinstall imageio-ffmpeg, or write .gif or .png") from None
    scene = _scene(motion if motion.fps <= MP4_FPS else motion.resample(MP4_FPS), 480, body)
    command = [
        program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{scene.width}x{scene.height}", "-r", f"{scene.motion.fps:.6g}", "-i", "-", "-an",
        "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-threads", "2",
        "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart",
        "-f", "mp4", str(path),
    ]  # fmt: skip
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        except OSError as error:
            raise MotionGPT3Error(f"cannot run ffmpeg ({program}): {error.strerror or error}") from None
        assert process.stdin is not None
        try:
            for picture in scene:
                process.stdin.write(picture.tobytes())
            process.stdin.close()
            failed = process.wait() != 0
        except BrokenPipeError:
            failed = True
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if failed:
            log.seek(0)
            said = log.read(4000).decode("utf-8", "replace").split("\n")[0].strip()
            raise MotionGPT3Error(f"ffmpeg failed: {said or f'exit code {process.returncode}'}")


def _write_gif(motion: Motion, path: Path, body: Body) -> None:
    fps = min(motion.fps, GIF_FPS, GIF_FPS if len(motion) <= GIF_FRAMES else GIF_FRAMES / motion.seconds)
    scene = _scene(motion.resample(fps), 360, body)
    palette = _palette(scene)

    rest = (_quantised(scene.frame(index), palette) for index in range(1, len(scene)))
    # Delays are whole hundredths of a second; each is rounded so that the sum keeps time.
    edges = np.round(np.arange(len(scene) + 1) * (100.0 / fps)).astype(int)
    delays = [10 * max(2, int(d)) for d in np.minimum(np.diff(edges), 6000)]
    _quantised(scene.frame(0), palette).save(
        path, format="GIF", save_all=True, append_images=rest, duration=delays, loop=0, optimize=False
    )


def _palette(scene: Scene) -> Image.Image:
    """192 colours for all frames, chosen from five of them; rare colours (limbs, letters) weigh more than by area."""
    some = sorted({round(at) for at in np.linspace(0, len(scene) - 1, 5)})
    pixels = np.concatenate([scene.frame(index).reshape(-1, 3) for index in some]).astype(np.uint32)
    codes, counts = np.unique((pixels << np.array([16, 8, 0], dtype=np.uint32)).sum(axis=1), return_counts=True)
    codes = np.repeat(codes, np.ceil(counts**0.4).astype(np.int64))
    sample = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    return Image.fromarray(sample[None]).quantize(192, kmeans=1)


def _quantised(picture: Pixels, palette: Image.Image) -> Image.Image:
    return Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
