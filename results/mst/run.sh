#!/usr/bin/env bash
# The study of mixed sparsity, about eight hours on two cores. Idempotent: rows that are there are
# not made again, and a run that was stopped goes on.
#
#     results/mst/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for script in shakespeare tuning controls parts summarise; do
    python "$here/$script.py"
done
