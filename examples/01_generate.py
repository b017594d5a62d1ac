"""Words to motion, in five lines.

    python examples/01_generate.py [MODEL]

Writes walk.bvh (for Blender, Unity, Unreal …) and walk.png (a strip of poses). MODEL is a folder or a hub id; the model
of the package if left out.
"""

import sys

from motiongpt3 import MotionGPT3

model = MotionGPT3.from_pretrained(*sys.argv[1:2])
motion = model.generate("a person walks forward and waves with the right hand", seconds=4, seed=0)
print(motion, motion.joints.shape)
motion.save("walk.bvh")
motion.save("walk.png")
