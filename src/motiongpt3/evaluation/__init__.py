"""Evaluation: metrics, evaluators, protocols and checks of what a model makes."""

FPS = 20.0
"""Frames per second of HumanML3D: evaluators, protocols and kinematic rules are defined at it."""
