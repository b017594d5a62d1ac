"""What the paper compares MotionGPT3 with: one stream for both modalities, and motions as quantised tokens."""
