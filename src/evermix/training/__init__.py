"""Training: one segment on HF Trainer, learning rates, evaluation per domain, FLOP counting."""
