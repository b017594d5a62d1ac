"""Several prompts, several samples each; keep the one whose feet slide least.

python examples/02_choose_among_samples.py [MODEL]
"""

import sys

from motiongpt3 import MotionGPT3
from motiongpt3.motion.quality import measure

model = MotionGPT3.from_pretrained(*sys.argv[1:2])
prompts = ["a person walks forward", "somebody jumps"]
samples = 4
motions = model.generate(prompts, seconds=2, samples=samples, seed=0)  # flat, prompt by prompt; sample k has seed k

for i, prompt in enumerate(prompts):
    tries = motions[i * samples : (i + 1) * samples]
    slides = [measure(motion).skate_speed for motion in tries]
    best = slides.index(min(slides))
    print(f"{prompt}: seed {best} slides least, {slides[best]:.1f} cm/s")
    tries[best].save(f"best_{i}.npz")
