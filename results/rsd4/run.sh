#!/usr/bin/env bash
# The evidence behind results/rsd4. Idempotent: what is in the CSV files is not run again, and a run
# that was stopped goes on from its checkpoint.
#
#     results/rsd4/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1
python "$here/anchors.py"
python "$here/schedulers.py"
python "$here/train.py"
python "$here/recurrent_ppo.py" --tune
python "$here/recurrent_ppo.py"
python "$here/summarise.py"
