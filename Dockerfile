# The page or a worker; see compose.yaml and docs/scaling.md.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .

# Runs, images and caches live in a volume, never in the image; nothing here runs as root.
RUN useradd --create-home medvae && mkdir /home/medvae/work && chown medvae /home/medvae/work
USER medvae
ENV MEDVAE_HOME=/home/medvae/work GRADIO_ANALYTICS_ENABLED=False
VOLUME /home/medvae/work
EXPOSE 7860

# Workers save at the next step and hand their job back on SIGTERM.
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "main.py"]
CMD ["--host", "0.0.0.0", "--device", "none"]
