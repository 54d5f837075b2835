"""evermix decides what data a language model is trained on, all along its life."""
