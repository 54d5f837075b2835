"""Models: the ladder of small Llama-style proxies, and checkpoints from elsewhere.

transformers' own progress bars and notes (weights loaded, shards written) are turned off: evermix shows its progress.
"""

from transformers.utils import logging

logging.set_verbosity_error()
logging.disable_progress_bar()
