# The app in a container, also as a Docker Space: docker build -t shared-attention . && docker run -p 7860:7860 shared-attention
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user
USER user
ENV HOME=/home/user \
    PATH=/home/user/.local/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GRADIO_ANALYTICS_ENABLED=False
WORKDIR /home/user/app

# CPU torch: the plain Linux package brings several GB of CUDA libraries.
COPY --chown=user requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --user -c constraints.txt \
    --extra-index-url https://download.pytorch.org/whl/cpu -r requirements.txt

COPY --chown=user . .
EXPOSE 7860
CMD ["python", "-m", "app", "--host", "0.0.0.0", "--port", "7860"]
