#!/bin/sh
# Five demo tasks: one that succeeds, two that fail at different steps, one of high and one of low priority.
# They are sent as events to the instance that `make up` runs; then the script checks by the API what it claims: states,
# steps, tries and the pauses between them, errors, priorities, and what the list of runs can be asked. Exit code 1 where
# a claim does not hold. It takes about 40 s.
#
#   scripts/test-observability.sh [ADDRESS]
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python scripts/observability.py "$@"
