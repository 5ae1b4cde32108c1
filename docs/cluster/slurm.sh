#!/usr/bin/env bash
# Workers under Slurm, one a node:
#
#     sbatch docs/cluster/slurm.sh
#
# --kill-on-bad-exit ends all of them when one fails; --requeue starts the job
# again after a lost node, and all go on from the last checkpoint. Change the
# number of nodes, the directory and the configuration.
#SBATCH --job-name=qat
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=qat-%j.log
set -euo pipefail

port=2222
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST" |
  sed "s/\$/:$port/" | paste -sd, -)
export hosts

# SLURM_PROCID is known to the processes that srun starts.
srun --kill-on-bad-exit=1 --output=qat-%j-worker-%t.log bash -c '
  modelgarden-opt train \
    --experiment=mobilenet_v2_qat \
    --config_file=configs/image_classification/imagenet_mobilenet_v2_qat.yaml \
    --params_override=runtime.distribution_strategy=multi_worker_mirrored \
    --model_dir=/shared/runs/qat \
    --worker_hosts="$hosts" \
    --task_index="$SLURM_PROCID"'
