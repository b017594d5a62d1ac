"""What a motion is: positions, skeleton, features, kinematics, quality. No networks, no files."""

from motiongpt3.motion.motion import Motion, mirror_text
from motiongpt3.motion.skeleton import HUMANML3D, Skeleton

__all__ = ["HUMANML3D", "Motion", "Skeleton", "mirror_text"]
