#!/usr/bin/env bash
# The evidence behind results/lsvi_ucb_plus. Idempotent: what is in the CSV files is not run again.
#
#     results/lsvi_ucb_plus/run.sh [PROCESSES]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
for script in hard_instance weighted curves; do
    python "$here/$script.py" --processes "${1:-2}"
done
python "$here/summarise.py"
