# A GPU image: docker build -t mmpvg . && docker run --gpus all -v DATA:/mmpvg/data -it mmpvg
# torch's packages contain the CUDA libraries, and mmcv's operators run on torchvision's kernels.
FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends \
        git libgl1 libglib2.0-0 python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /mmpvg
COPY . .
RUN bash tools/setup_env.sh --torch cuda
ENV PATH=/mmpvg/.venv/bin:$PATH
CMD ["bash"]
