# The app in a container, also as a Docker Space (docs/hosting.md):
#   docker build -t shared-attention --build-arg GIT_COMMIT=$(git rev-parse --short HEAD) .
#   docker run -p 127.0.0.1:7860:7860 -v shared-attention:/data -v shared-attention-results:/home/user/app/results shared-attention
FROM python:3.12.12-slim-bookworm

# Torch for CPUs: the plain Linux package brings several GB of CUDA libraries. With a GPU:
#   docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 . && docker run --gpus all …
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# On volumes: what is downloaded, and the records. A new named volume begins with the records of the image.
RUN useradd --create-home --uid 1000 user \
    && install -d -o user -g user /data /data/huggingface /data/cache /home/user/app /home/user/app/results
USER 1000
ENV HF_HOME=/data/huggingface \
    SHARED_ATTENTION_CACHE=/data/cache \
    SHARED_ATTENTION_RESULTS=/home/user/app/results \
    PATH=/home/user/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRADIO_ANALYTICS_ENABLED=False
WORKDIR /home/user/app

COPY --chown=1000:1000 requirements.txt constraints.txt ./
RUN python -m venv /home/user/venv \
    && pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
    --extra-index-url "$TORCH_INDEX" -r requirements.txt

COPY --chown=1000:1000 . .

# The commit that records and the page name: the image has no history.
ARG GIT_COMMIT=
ENV GIT_COMMIT=$GIT_COMMIT

VOLUME ["/data", "/home/user/app/results"]
EXPOSE 7860
# It loads a model before it answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["python", "-m", "app", "--host", "0.0.0.0", "--port", "7860"]
