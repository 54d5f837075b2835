"""Training: one segment on HF Trainer, learning rates, checkpoints, evaluation per domain."""
