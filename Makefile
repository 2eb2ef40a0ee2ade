# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer is all they ask for.
PYTHON ?= python3

.PHONY: demo site test packages clean

demo: .venv/installed
	.venv/bin/bbq-exporter --demo

# The demo with Debian's PostgreSQL and Prometheus, for a Grafana: see grafana/README.md.
site: packages .venv/installed
	.venv/bin/python -m grafana.site

test: packages .venv/tested
	.venv/bin/python -m pytest --numprocesses 3

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	.venv/bin/pip install --quiet --editable '.[test]'
	touch $@

# Real PostgreSQL, Prometheus, Slurm and HTCondor for the tests; as root on Debian, else those tests are skipped.
packages:
	sh tests/packages.sh

clean:
	rm -rf .venv build *.egg-info
