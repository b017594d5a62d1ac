"""Options of `motiongpt3 train` that make a run small."""

TINY_VAE = [
    "--model.latent_tokens=2",
    "--model.latent_channels=8",
    "--model.width=16",
    "--model.layers=3",
    "--model.heads=2",
    "--model.mlp_width=16",
    "--model.positions=32",
    "--model.max_frames=100",
]
TINY_HEAD = ["--model.head.width=16", "--model.head.depth=1", "--model.head.pool_mlp=16"]
SHORT_RUN = ["--run.steps=2", "--run.warmup=1", "--run.precision=32-true", "--run.accelerator=cpu", "--batch=2"]
