PYTHON ?= python3
TORCH  ?= torch==2.13.0

BIN       := .venv/bin
INSTALLED := .venv/installed-$(subst /,_,$(TORCH))
CPP       := $(wildcard $(foreach kind,cpp h cu cuh,csrc/*/*.$(kind) tests/csrc/*.$(kind) tests/csrc/*/*.$(kind)))
EXTENSION := $(BIN)/python setup.py -q build_ext --inplace

# Compiled code with sanitizers inside an ordinary Python: the runtimes must be there first.  Python's own leaks are not ours.
# More memory than there is is an error of torch's, as everywhere.
SANITIZED := LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
             ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1 GENFAST_SANITIZE=1
SANITIZED_TESTS := $(wildcard tests/ops/test_*.py)

# A machine with a GPU has a .venv, or torch of its own and a folder of wheels for the rest: benches/bare.py.
GPU       := $(if $(GENFAST_WHEELS),python3,$(BIN)/python) benches/gpu_stages.py
GPU_WANTS := $(if $(GENFAST_WHEELS),,build)
PLATFORMS := --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64

.DEFAULT_GOAL := help
.PHONY: help build demo test bench test-gpu bench-gpu wheels lint format cuda-check predict sanitize clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "PYTHON=$(PYTHON)  the Python that .venv is made of      TORCH=$(TORCH)  what pip installs (TORCH=torch: the newest)"
	@echo "GENFAST_WHEELS=folder  test-gpu and bench-gpu without .venv: the torch that is there, and what \`make wheels\` fetched"

# torch first: nothing below may choose another one. torch-fidelity, whose network the tests compare with, comes without
# its dependencies: they bring torchvision, which ties torch to a version of its own.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=77" wheel ninja "pybind11>=2.12"
	$(BIN)/python -m pip install --quiet --upgrade "$(TORCH)"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[test,lint]"
	$(BIN)/python -m pip install --quiet --no-deps torch-fidelity==0.4.0
	rm -f .venv/installed-*
	touch "$@"

build: $(INSTALLED)  ## .venv, dependencies, the extension
	@$(EXTENSION)

demo: build  ## trains on real digits, draws new ones, writes out/
	$(BIN)/python -m genfast.studies.digits --out out

test: build  ## the whole suite, then the op tests through the CUDA kernels, emulated on the host
	@GENFAST_EMULATE=1 $(EXTENSION)
	@GENFAST_SANITIZE=scalar GENFAST_CUDA=0 $(EXTENSION)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
	GENFAST_EMULATE=1 $(BIN)/python -m pytest -n 2 tests/ops/test_ops.py

bench: build  ## times every op, sampling loop, network and metric against plain torch and peers
	$(BIN)/python benches/run.py ops
	$(BIN)/python benches/run.py sampling
	$(BIN)/python benches/run.py networks
	$(BIN)/python benches/run.py metrics
	$(BIN)/python benches/run.py host
	$(BIN)/python benches/run.py launches

test-gpu: $(GPU_WANTS)  ## on a GPU: twins, verbs, graphs, compute-sanitizer (STAGE=twins: that one)
	$(GPU) test $(STAGE) $(if $(OUT),--out $(OUT))

bench-gpu: $(GPU_WANTS)  ## on a GPU: all against plain torch, torch.compile, diffusers (STAGE=norms, OUT=folder)
	$(GPU) bench $(STAGE) $(if $(OUT),--out $(OUT))

wheels:  ## into build/wheels: what a GPU machine without internet lacks (FOR=3.12, its Python)
	$(PYTHON) -m pip download --quiet --no-deps --only-binary=:all: --python-version $(or $(FOR),3.12) \
	  --implementation cp $(PLATFORMS) --dest build/wheels --requirement benches/bare.txt

lint: $(INSTALLED)  ## style, formatting and the rules of the layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/python -m pytest tests/test_layout.py

format: $(INSTALLED)  ## rewrites the sources as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

cuda-check: $(INSTALLED)  ## compiles all CUDA for every architecture, without a GPU, and inspects the machine code
	$(BIN)/python tests/csrc/cuda_check.py
	$(BIN)/python tests/csrc/headers_check.py

predict: $(INSTALLED)  ## what every kernel will take on an H200, by its machine code (OP=step; RECORD=1 writes the shares down)
	@PYTHONPATH=tests/csrc $(BIN)/python -m predict $(if $(OP),--op $(OP)) $(if $(RECORD),--record)

sanitize: $(INSTALLED)  ## the op tests under AddressSanitizer and UndefinedBehaviorSanitizer, CPU kernels and emulated CUDA
	GENFAST_SANITIZE=1 GENFAST_CUDA=0 $(EXTENSION)
	GENFAST_SANITIZE=1 GENFAST_EMULATE=1 $(EXTENSION)
	$(BIN)/python -m pytest tests/test_build.py -k sanitizer
	$(SANITIZED) $(BIN)/python -m pytest -p no:cacheprovider $(SANITIZED_TESTS)
	$(SANITIZED) GENFAST_ISA=scalar $(BIN)/python -m pytest -p no:cacheprovider $(SANITIZED_TESTS)
	$(SANITIZED) GENFAST_EMULATE=1 $(BIN)/python -m pytest -p no:cacheprovider tests/ops/test_ops.py

clean:  ## removes what was built, and .venv; leaves out/
	rm -rf build .venv .pytest_cache .ruff_cache *.egg-info genfast/_C*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
