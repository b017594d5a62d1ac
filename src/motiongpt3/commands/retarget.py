"""`motiongpt3 retarget`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from motiongpt3.commands.finishing import add_finish_options, changes, changes_table, finished
from motiongpt3.commands.options import Parser, output_files
from motiongpt3.formats import load

EXAMPLES = """
  motiongpt3 retarget walk.npz --rig hero.glb -o hero_walks.glb
  motiongpt3 retarget walk.bvh --rig hero.glb --fix-feet --in-place --loop -o hero_walks.glb
  motiongpt3 retarget walk.npz --rig robot.glb --bones robot.yaml -o robot_walks.glb
      robot.yaml: lines of JOINT: BONE, such as "l_hip: Thigh_L", for what is not found by itself
"""


def retarget(argv: Sequence[str]) -> int:
    """A motion on one's own character."""
    parser = Parser("retarget", "Put a motion on a rigged character: a .glb or .vrm file with a skin.", EXAMPLES)
    parser.add_argument("motion", metavar="MOTION", help="a motion file of any format that can be read")
    parser.add_argument("--rig", required=True, metavar="FILE", help="the character, .glb or .vrm")
    parser.add_argument("-o", "--out", required=True, metavar="FILE", help="the file to write, .glb or .vrm")
    parser.add_argument("--bones", metavar="YAML", help="which bone is which joint, where it is not found by itself")
    add_finish_options(parser)
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    options = parser.parse_args(argv)

    from motiongpt3.formats import rigged
    from motiongpt3.formats.bones import load_map

    with output_files([Path(options.out)]):
        raw = load(options.motion)
        character = rigged.load_character(options.rig, load_map(Path(options.bones)) if options.bones else None)
        motion = finished(raw, options)
        played = rigged.write_character(motion, character, options.out)
        changed = changes([raw], [motion], options)
    worst = max(played.errors, key=lambda name: played.errors[name])
    if options.json:
        facts = {
            "file": options.out,
            "frames": len(motion),
            "seconds": motion.seconds,
            "bones_by": character.bones.how,
            "bones": {joint: character.nodes.names[node] for joint, node in character.bones.nodes.items()},
            "scale": played.scale,
            "error_degrees": played.error,
            "errors_degrees": played.errors,
        }
        print(json.dumps(facts | ({"finish": changed} if changed else {}), indent=2))
        return 0
    print(f"{options.out}: {len(motion)} frames, {motion.seconds:.2f} s")
    joints = len(character.bones.nodes)
    print(f"bones: {joints} of 22 joints, names: {character.bones.how}; legs {played.scale:.3g} times as long")
    print(f"joint directions: {played.error:.1f} degrees off on average; most {worst}, {played.errors[worst]:.1f}")
    if changed:
        print(changes_table(changed))
    return 0
