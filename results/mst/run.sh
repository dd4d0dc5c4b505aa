#!/usr/bin/env bash
# The study of mixed sparsity, about eight hours on two cores. Idempotent: finished runs are left
# alone, one that was stopped goes on.
#
#     results/mst/run.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for script in tuning controls summarise; do
    python "$here/$script.py"
done
