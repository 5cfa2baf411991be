#!/usr/bin/env bash
# Makes a Cloud TPU VM, installs vidgarden on it, and trains in a session that outlives ours.
#
#   NAME=cvrl ZONE=us-central2-b TYPE=v4-8 bash docs/scripts/cloud_tpu.sh \
#     --experiment=cvrl_pretrain --model_dir=gs://bucket/runs/cvrl --params_override=...
#
# Needs gcloud with a project, and this checkout. Not run by the tests: there was no TPU. It
# costs money until `gcloud compute tpus tpu-vm delete`.
set -euo pipefail
: "${NAME:?of the TPU}" "${ZONE:?of the TPU, such as us-central2-b}" "${TYPE:?such as v4-8}"
tpu() { gcloud compute tpus tpu-vm "$@" --zone="$ZONE"; }
tpu create "$NAME" --accelerator-type="$TYPE" --version="${IMAGE:-tpu-ubuntu2204-base}"
git archive --format=tar.gz --output=/tmp/vidgarden.tar.gz HEAD
tpu scp /tmp/vidgarden.tar.gz "$NAME:vidgarden.tar.gz"
tpu ssh "$NAME" --command='
  set -e
  sudo apt-get update && sudo apt-get install -y make python3.11-venv tmux
  mkdir -p vidgarden && tar -xzf vidgarden.tar.gz -C vidgarden && cd vidgarden && make setup
  # The same TensorFlow, built for TPUs, in the place of the one for CPUs and GPUs.
  export VIRTUAL_ENV=$PWD/.venv
  .venv/bin/uv pip uninstall tensorflow
  .venv/bin/uv pip install --no-deps "tensorflow-tpu==2.20.*" libtpu'
command=$(printf ' %q' .venv/bin/python -m official.video.train --tpu=local \
  --config_file=docs/scripts/tpu.yaml "$@")
tpu ssh "$NAME" --command="cd vidgarden && tmux new-session -d -s train $(printf %q "$command")"
echo "look at it: gcloud compute tpus tpu-vm ssh $NAME --zone=$ZONE --command='tmux attach'"
