"""The figures of `perf.py`, a file a topic; `perf.py` imports each file, and a figure is a function that registers."""
