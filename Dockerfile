# vidgarden in an image, for CPUs or, with GPU=1, for Nvidia's GPUs:
#
#   docker build --tag vidgarden .
#   docker build --build-arg GPU=1 --tag vidgarden:gpu .
#   docker run --rm --gpus all --volume /data:/data vidgarden:gpu train --list
#
# CUDA's libraries come with TensorFlow's own packages; the host needs Nvidia's driver and its
# container toolkit.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm
ARG GPU=0
WORKDIR /opt/vidgarden
RUN pip install --no-cache-dir 'uv==0.13.*'
# What seldom changes stands in a layer of its own.
COPY requirements.lock ./
RUN if [ "$GPU" = 1 ]; then gpu='tensorflow[and-cuda]'; else gpu=tensorflow; fi \
  && uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock "$gpu"
COPY . .
# Whoever runs it as another user gives --user; a home is where the zoo's weights go.
RUN uv pip install --system --no-cache --compile-bytecode --constraint requirements.lock '.[all]' \
  && useradd --uid 1000 --create-home --home-dir /workspace vidgarden
USER 1000
WORKDIR /workspace
ENTRYPOINT ["vidgarden"]
CMD ["--help"]
