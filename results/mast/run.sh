#!/usr/bin/env bash
# The evidence behind results/mast. Idempotent: what is in the CSV files is not run again, and a run
# that was stopped goes on. Last come two more seeds of the tasks whose interval holds the mark.
#
#     results/mast/run.sh [PROCESSES]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
for script in gate scores factorial; do
    python "$here/$script.py" --processes "${1:-1}"
done
python "$here/summarise.py"
undecided=$(python "$here/summarise.py" --undecided)
if [ -n "$undecided" ]; then
    # shellcheck disable=SC2086 - names without spaces, one a word
    python "$here/scores.py" --processes "${1:-1}" --seeds 5 --only $undecided
    python "$here/summarise.py"
fi
