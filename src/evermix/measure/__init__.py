"""Who makes observations: LoRA probes of the current model, and their interpolation."""
