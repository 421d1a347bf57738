# A GPU image: docker build -t mmpvg . && docker run --gpus all -v DATA:/mmpvg/data -it mmpvg
FROM nvidia/cuda:13.0.1-cudnn-devel-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends \
        g++ git libgl1 libglib2.0-0 python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /mmpvg
COPY . .
# mmcv compiles its CUDA operators although no GPU is visible while building.
RUN FORCE_CUDA=1 bash tools/setup_env.sh
ENV PATH=/mmpvg/.venv/bin:$PATH
CMD ["bash"]
