#!/bin/sh
# Send demo tasks as events in quick succession, and check that the demo task's limits hold: at most 10 at once, at most 20
# starts in any period, the others are queued and none is lost. Exit code 1 where a claim does not hold.
#
#   scripts/test-rate-limits.sh [30|200] [SCALE]
#
# SCALE shortens the period, by a copy of the flow: with 10 it is 20 starts per 6 s instead of per minute (200 tasks take
# ten minutes otherwise). The other limits stay as they are, and may bind first: the global one (100 steps a minute), and
# those of the step types. It talks to the instance that `make up` runs.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python scripts/rate_limits.py "${1:-30}" "${2:-1}"
