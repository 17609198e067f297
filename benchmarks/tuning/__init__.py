"""A search for settings: what may change, the study on disk, its trials, what was found. The command is `tune.py`."""
