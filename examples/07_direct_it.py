"""Say where the person walks, where a hand is and when a foot stands; see what that cost.

python examples/07_direct_it.py [MODEL]
"""

import sys

from motiongpt3 import MotionGPT3
from motiongpt3 import constraints as c

model = MotionGPT3.from_pretrained(*sys.argv[1:2])
motion = model.generate(
    "a person walks forward",
    seconds=3,
    constraints=[
        c.RootPath(seconds=[0, 1, 2, 3], xz=[[0, 0], [0, 0.9], [0.5, 1.7], [1.3, 2.1]]),
        c.EffectorTarget("left_hand", seconds=2, positions=[0.8, 1.2, 1.9]),
        c.Contact("right_foot", start=1.0, end=1.3),
    ],
)
print(motion.constraint_report)
motion.save("directed.bvh")
motion.save("directed.png")
