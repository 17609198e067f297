# Two commands for a fresh machine with Python 3.11: `make table3` and `make test`.
PYTHON ?= python3.11
OUT ?= out
STAMP = .venv/.installed

.PHONY: table3 test install scale clean

table3: $(STAMP)  ## train and print Table 3 on the embedded data set, from nothing
	.venv/bin/python benchmarks/run.py --table 3 --out $(OUT)

# Tests of clusters start processes of their own and wait for the clock, so they have the machine to themselves.
test: $(STAMP)  ## ruff, mypy, pytest
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 --ignore tests/slurm
	.venv/bin/python -m pytest tests/slurm

install: $(STAMP)

# TorchRec asks for a CUDA build of FBGEMM that overwrites the one for processors, so neither brings its requirements.
scale: $(STAMP)  ## TorchRec for tables spread over processes, on a machine without a GPU
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[scale-cpu]'
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv out
