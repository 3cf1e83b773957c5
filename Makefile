# Two commands do everything on a fresh machine: `make demo` and `make test`. `make tour` is the quick look before the heavy C++.

export MILEPOST_CACHE ?= $(HOME)/.cache/milepost
export CARGO_TARGET_DIR ?= $(MILEPOST_CACHE)/target
bin := $(CARGO_TARGET_DIR)/debug

.PHONY: help demo tour test lint contracts guest accept-main-job accept-settlement accept-finality accept-proofs

help:
	@echo "make tour              a session paid within minutes: scripted engine, mock proofs, in-memory store (all labelled)"
	@echo "make demo              the whole way with real parts: model, prover, dev chain, SIGKILL, payout; checked by a second process"
	@echo "make test              every test; what CI runs"
	@echo "make accept-main-job   the acceptance list with its figures (FULL=1 for the full counts)"
	@echo "make accept-settlement the acceptance list of settlement with its figures (FULL=1 for the full counts)"
	@echo "make accept-finality   the acceptance list of the validators and their library (FULL=1 for the full counts)"
	@echo "make accept-proofs     the acceptance list of proofs, and of clients who check and pay (FULL=1 for the full counts)"
	@echo "make guest             rebuild the zkVM guest and compare it bit for bit"

demo:
	@scripts/bootstrap full
	@$(bin)/milepost dev

tour:
	@scripts/bootstrap tour
	@$(bin)/milepost dev --tour

test: 
	@scripts/bootstrap full
	@scripts/test

lint:
	@cargo fmt --all --check
	@cargo clippy --workspace --all-targets --locked -- -D warnings

contracts:
	@scripts/contracts check

guest:
	@scripts/guest check

accept-main-job:
	@scripts/bootstrap full
	@scripts/accept-main-job

accept-settlement:
	@scripts/bootstrap full
	@scripts/accept-settlement

accept-finality:
	@scripts/bootstrap full
	@scripts/accept-finality

accept-proofs:
	@scripts/bootstrap full
	@scripts/accept-proofs
