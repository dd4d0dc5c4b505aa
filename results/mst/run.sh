#!/usr/bin/env bash
# The study of mixed sparsity, about eight hours on two cores. Idempotent: rows that are there are
# not made again, and a run that was stopped goes on.
#
#     results/mst/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# Settings are tuned, and then the schedule is chosen, before a seed of the comparison is run.
for script in shakespeare tuning parts controls summarise; do
    python "$here/$script.py"
done
