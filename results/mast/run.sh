#!/usr/bin/env bash
# The evidence behind results/mast. Idempotent: what is in the CSV files is not run again, and a run
# that was stopped goes on.
#
#     results/mast/run.sh [PROCESSES]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
for script in gate scores factorial; do
    python "$here/$script.py" --processes "${1:-1}"
done
python "$here/summarise.py"
