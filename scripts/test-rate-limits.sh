#!/bin/sh
# Send tasks in quick succession and watch the limits hold: at most 10 at once, at most 20 starts per period.
#
#   scripts/test-rate-limits.sh [30|200] [SCALE]
#
# SCALE shortens the period: with 10 it is 20 starts per 6 s instead of per minute (200 tasks take nine minutes
# otherwise). The other limits stay as they are: the global rate may bind first then, which the prediction shows.
# It talks to the instance that `make up` runs.
set -eu
cd "$(dirname "$0")/.."
exec .venv/bin/python manage.py loadtest --flow rate-limit-check --concurrent "${1:-30}" --scale "${2:-1}"
