# Every target works on a fresh clone: .venv is made on first use and again whenever the requirements change.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/pocketface
DEMO := runs/demo

.PHONY: demo test signing lint wheel types bare support constraints clean

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	# torch first and pinned: a looser requirement brings several GB of CUDA packages.
	$(VENV)/bin/pip install --quiet -c constraints.txt torch==2.13.0
	$(VENV)/bin/pip install --quiet -c constraints.txt --editable '.[dev]'
	touch $@

# The whole pipeline on drawn faces: data, teachers, student, exports, int8, parity, latency, bundle, report, a drawn overlay.
demo: $(READY)
	test -d $(DEMO)/data/train || $(RUN) synth $(DEMO)/data/train --count 640 --seed 1 --size 128
	test -d $(DEMO)/data/test || $(RUN) synth $(DEMO)/data/test --count 100 --seed 2 --size 128
	$(RUN) compress compression/recipes/demo.yaml --data $(DEMO)/data --out $(DEMO)
	$(RUN) verify $(DEMO)/bundle --allow-unchecked
	$(RUN) run $(DEMO)/data/test/00000.png --bundle $(DEMO)/bundle --whole --out $(DEMO)/overlay.png --json $(DEMO)/overlay.json --force
	@echo "report: $(DEMO)/report.html   overlay: $(DEMO)/overlay.png   bundle: $(DEMO)/bundle"

# A file's tests stay together: they share what they trained and converted.
test: $(READY)
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

# Signing in an environment of its own: what it needs and what training needs exclude each other (docs/security.md).
signing:
	$(PYTHON) -m venv $(VENV)-signing
	$(VENV)-signing/bin/pip install --quiet --editable '.[sign]' onnx pytest hypothesis pyyaml
	$(VENV)-signing/bin/python -m pytest tests/sdk/test_signing.py

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

wheel: $(READY)
	rm -rf build dist
	$(VENV)/bin/python -m build --wheel --quiet .

# Types are checked on what users install, not on the source tree.
types: wheel
	rm -rf build/types
	$(VENV)/bin/pip install --quiet --no-deps --target build/types dist/*.whl
	cd build/types && ../../$(VENV)/bin/mypy --config-file ../../pyproject.toml --namespace-packages \
		--explicit-package-bases -p pocketface

# The wheel alone, without any extra, in an environment of its own, must run a bundle.
bare: wheel
	PYTHON=$(VENV)/bin/python .ci/bare-install

# docs/support.md: tries every row that is missing or stale (all of them: about half an hour).
support: $(READY)
	$(RUN) support --page docs/support.md

constraints: $(READY)
	(echo "# What this version was tested with, on Linux x86-64 and Python 3.11. Made by: make constraints"; \
	$(VENV)/bin/pip freeze --exclude-editable --exclude pocketface | sed 's/+cpu//') > constraints.txt
	# The same for pocketface doctor, which has only the wheel.
	$(VENV)/bin/python .ci/tested-versions > sdk/doctor/.tested_versions.json
	mv sdk/doctor/.tested_versions.json sdk/doctor/tested_versions.json

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
