"""Official checkpoints and GPT-2: converted, and run with the official outputs."""
