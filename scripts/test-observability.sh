#!/bin/sh
# Five demo tasks to look at: one that succeeds, two that fail at different steps, one of high and one of low priority.
# They are sent as events to the instance that `make up` runs; then the list says what to check on the dashboard.
#
#   scripts/test-observability.sh [ADDRESS]
set -eu
cd "$(dirname "$0")/.."
ADDRESS="${1:-http://127.0.0.1:${PORT:-8288}}"
KEY="$(.venv/bin/python -c 'import json; print(json.load(open("var/credentials.json"))["eventKey"])')"
STAMP="$(date +%s)"

send() { # send NAME MORE-OF-THE-DATA
  curl --fail-with-body --silent --show-error -X POST "$ADDRESS/e/$KEY" -H 'Content-Type: application/json' \
    -d "{\"name\": \"demo/task.requested\", \"data\": {\"taskId\": \"$1-$STAMP\", \"delayMs\": 200$2}}"
  echo "  $1"
}

send success ''
send fails-at-step-2 ', "simulateFailure": true, "failAtStep": "step-2-process"'
send fails-at-step-4 ', "simulateFailure": true, "failAtStep": "step-4-simulate-api-call"'
send high-priority ', "priority": 300'
send low-priority ', "priority": -300'

cat <<TEXT

On $ADDRESS check that
  [ ] the list of runs shows five runs of demo-task, sorted by priority: high before low
  [ ] the successful ones have five completed steps, and a timeline
  [ ] the failing ones try their step six times (about 1, 2, 4, 8, 16 s apart), and the steps before it once
  [ ] after that they are failed, each with the error of its step, and can be replayed and resumed
TEXT
