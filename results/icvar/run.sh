#!/usr/bin/env bash
# The evidence behind results/icvar. Idempotent: what is in the CSV files is not run again.
#
#     results/icvar/run.sh [PROCESSES]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
for script in replay classes hard_chain comparisons policies regret; do
    python "$here/$script.py" --processes "${1:-2}"
done
python "$here/summarise.py"
