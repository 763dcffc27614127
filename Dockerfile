FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir -c constraints.txt . \
 && useradd --create-home shop && mkdir /data && chown shop /data
USER shop
VOLUME /data
EXPOSE 8000
# Mount releases and live state at /data; make them with `docker run ... endcap publish ...` or on another machine.
ENTRYPOINT ["endcap"]
CMD ["serve", "/data/releases", "--state", "/data/state.db", "--host", "0.0.0.0", "--port", "8000"]
